package table

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// unhurried is for tests that are about something else than time.
var unhurried = CompactOptions{MaxPause: time.Minute, Wait: time.Minute}

func TestCompactKeepsEverything(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, path string) {
		// VACUUM puts the virtual tables last.
		before, stats := sorted(dump(t, path)), mustStat(t, path)
		opts := unhurried
		opts.Force = !f.free
		r, err := Compact(t.Context(), path, opts)
		must(t, err)
		if r.Status != Compacted || r.Reason != "" {
			t.Fatalf("%+v", r)
		}
		if diff := cmp.Diff(before, sorted(dump(t, path))); diff != "" {
			t.Error(diff)
		}
		after := mustStat(t, path)
		if after.FreePages != 0 || after.PageCount > stats.PageCount || f.free && after.Bytes >= stats.Bytes {
			t.Errorf("%+v became %+v", stats, after)
		}
		if got := shell(t, path, "PRAGMA journal_mode;"); f.wal != (got == "wal") {
			t.Errorf("journal mode %s", got)
		}
		if r.BytesBefore != stats.Bytes || r.BytesAfter != after.Bytes || r.PagesAfter != after.PageCount || r.FreeBefore != stats.FreePages ||
			r.GainBytes() != stats.Bytes-after.Bytes || r.DiskNeeded <= 0 {
			t.Errorf("%+v", r)
		}
		if slices := stats.AutoVacuum == "incremental"; slices != (r.Strategy == strategySlices) {
			t.Errorf("strategy %s", r.Strategy)
		}
		for _, name := range tree(t, filepath.Dir(path)) {
			if name != filepath.Base(path) && name != filepath.Base(path)+"-journal" && !strings.HasSuffix(name, ".pace") {
				t.Errorf("litter: %s", name)
			}
		}
	})
}

func sorted(text string) []string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return lines
}

func mustStat(t testing.TB, path string) Stats {
	t.Helper()
	s, err := Stat(t.Context(), path)
	must(t, err)
	return s
}

func TestCompactSkips(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	bulk(t, at("half"), "PRAGMA journal_mode=WAL;", 2000)
	bulk(t, at("rollback"), "", 2000)
	shell(t, at("full"), "CREATE TABLE a(x);")
	s := mustStat(t, at("half"))
	for _, c := range []struct {
		name, path string
		opts       CompactOptions
		reason     string
	}{
		{"nothing free", at("full"), CompactOptions{}, BelowThreshold},
		{"nothing free, any threshold", at("full"), CompactOptions{Threshold: -1}, BelowThreshold},
		{"the very threshold", at("half"), CompactOptions{Threshold: s.FreeRatio}, BelowThreshold},
		{"no time", at("half"), CompactOptions{MaxPause: time.Millisecond}, WouldBlock},
		{"no time, forced", at("half"), CompactOptions{MaxPause: time.Millisecond, Force: true}, WouldBlock},
		{"no time, dry", at("half"), CompactOptions{MaxPause: time.Millisecond, DryRun: true}, WouldBlock},
		{"dry", at("half"), CompactOptions{DryRun: true}, DryRun},
		{"dry and forced", at("full"), CompactOptions{DryRun: true, Force: true}, DryRun},
		{"dry, rollback", at("rollback"), CompactOptions{DryRun: true}, DryRun},
	} {
		before, err := ReadToken(c.path)
		must(t, err)
		r, err := Compact(t.Context(), c.path, c.opts)
		if err != nil || r.Status != Skipped || r.Reason != c.reason || r.Note == "" {
			t.Errorf("%s: %+v, %v", c.name, r, err)
		}
		if r.PredictedPauseMS <= 0 || r.DiskNeeded <= 0 || r.Strategy == "" || r.BytesAfter != r.BytesBefore || r.BlockedMS != 0 {
			t.Errorf("%s: %+v", c.name, r)
		}
		if after, _ := ReadToken(c.path); after != before {
			t.Errorf("%s: the table changed", c.name)
		}
	}
	if r, _ := Compact(t.Context(), at("half"), CompactOptions{DryRun: true}); r.GainBytes() < r.BytesBefore/3 || r.FreelistRatio < 0.4 {
		t.Errorf("%+v", r)
	}
}

func TestCompactLockedOut(t *testing.T) {
	for name, c := range map[string]struct{ setup, hold string }{
		"a writer, WAL":        {"PRAGMA journal_mode=WAL;", "BEGIN IMMEDIATE"},
		"a writer":             {"", "BEGIN IMMEDIATE"},
		"exclusive":            {"", "BEGIN EXCLUSIVE"},
		"exclusive mode, WAL":  {"PRAGMA journal_mode=WAL;", "PRAGMA locking_mode=EXCLUSIVE; SELECT count(*) FROM item"},
		"a writer, slices":     {"PRAGMA auto_vacuum=INCREMENTAL;", "BEGIN IMMEDIATE"},
		"a writer, slices WAL": {"PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL;", "BEGIN IMMEDIATE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "a.db")
			bulk(t, path, c.setup, 1000)
			before := dump(t, path)
			_, end := startChild(t, "hold", path, c.hold)
			r, err := Compact(t.Context(), path, CompactOptions{Wait: 50 * time.Millisecond, MaxPause: time.Minute})
			if err != nil || r.Status != Skipped || r.Reason != LockedOut {
				t.Errorf("%+v, %v", r, err)
			}
			end()
			if dump(t, path) != before {
				t.Error("the table changed")
			}
			if r, err := Compact(t.Context(), path, unhurried); err != nil || r.Status != Compacted {
				t.Errorf("afterwards: %+v, %v", r, err)
			}
		})
	}
}

// A reader of an old state keeps the file from shrinking for as long as it reads, and the report says so.
func TestCompactUnderAReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	bulk(t, path, "PRAGMA journal_mode=WAL;", 1000)
	_, end := startChild(t, "hold", path, "BEGIN", "SELECT count(*) FROM item")
	r, err := Compact(t.Context(), path, CompactOptions{Wait: 100 * time.Millisecond, MaxPause: time.Minute})
	if err != nil || r.Status != Compacted || r.BytesAfter != r.BytesBefore || r.PagesAfter >= r.PagesBefore || !strings.Contains(r.Note, "readers") {
		t.Errorf("%+v, %v", r, err)
	}
	end()
	shell(t, path, "PRAGMA wal_checkpoint(TRUNCATE);")
	if s := mustStat(t, path); s.Bytes != r.PagesAfter*s.PageSize {
		t.Errorf("%+v", s)
	}
}

// A process that writes all the while loses no commit that it was told of.
func TestCompactUnderAWriter(t *testing.T) {
	modes := map[string]string{"WAL": "PRAGMA journal_mode=WAL;", "DELETE": "", "slices": "PRAGMA auto_vacuum=INCREMENTAL;",
		"slices WAL": "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL;"}
	for name, setup := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "a.db")
			bulk(t, path, setup+"CREATE TABLE log(n INTEGER PRIMARY KEY, filler BLOB);", 1500)
			items := shell(t, path, "SELECT count(*) FROM item;")
			w := startWriter(t, path, "PRAGMA synchronous=OFF")
			rounds := 6
			if raceEnabled {
				rounds = 2
			}
			done := 0
			for range rounds {
				shell(t, path, "UPDATE item SET body = zeroblob(9000) WHERE id % 5 = 0; UPDATE item SET body = randomblob(900) WHERE id % 5 = 0;")
				r, err := Compact(t.Context(), path, CompactOptions{Force: true, MaxPause: time.Minute, Wait: time.Minute})
				must(t, err)
				if r.Status == Compacted {
					done++
				} else if r.Reason != WouldBlock {
					t.Errorf("%+v", r)
				}
			}
			if done == 0 {
				t.Error("never compacted")
			}
			w.verify(t)
			if got := shell(t, path, "SELECT count(*) FROM item;"); got != items {
				t.Errorf("%s items", got)
			}
		})
	}
}

// The copying part of a VACUUM ends when its time is up, nothing has changed, and the next prediction knows.
func TestVacuumIsInterrupted(t *testing.T) {
	if raceEnabled {
		t.Skip("SKIPPED under -race: too much data")
	}
	for name, setup := range map[string]string{"WAL": "PRAGMA journal_mode=WAL;", "DELETE": ""} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.db")
			bulk(t, path, setup, 40000)
			before, err := ReadToken(path)
			must(t, err)
			learnPace(path, pace{Vacuum: 1e12}) // far too confident
			k := compaction{path: path, opts: CompactOptions{MaxPause: 60 * time.Millisecond, Force: true}}
			k.opts.defaults()
			must(t, k.measure(t.Context()))
			k.PredictedPauseMS = 0
			k.opts.MaxPause = time.Millisecond
			k.conn, err = open(t.Context(), path, openOptions{})
			must(t, err)
			if err := k.vacuum(t.Context()); !errors.Is(err, ErrWouldBlock) {
				t.Errorf("%v", err)
			}
			must(t, k.conn.close())
			if after, _ := ReadToken(path); after != before {
				t.Errorf("%s became %s", before, after)
			}
			r, err := Compact(t.Context(), path, CompactOptions{MaxPause: 60 * time.Millisecond})
			if err != nil || r.Reason != WouldBlock || r.BlockedMS != 0 {
				t.Errorf("the next one: %+v, %v", r, err)
			}
		})
	}
}

func TestCompactEndsWithItsContext(t *testing.T) {
	for name, setup := range map[string]string{"WAL": "PRAGMA journal_mode=WAL;", "DELETE": "", "slices": "PRAGMA auto_vacuum=INCREMENTAL;"} {
		for _, phase := range []string{"check", "compact", "verify"} {
			path := filepath.Join(t.TempDir(), "a.db")
			bulk(t, path, setup, 1000)
			ctx, cancel := context.WithCancel(t.Context())
			opts := unhurried
			opts.Progress = func(p string, _, _ int64) {
				if p == phase {
					cancel()
				}
			}
			r, err := Compact(ctx, path, opts)
			if !errors.Is(err, context.Canceled) || r.Status != Failed {
				t.Errorf("%s, %s: %+v, %v", name, phase, r, err)
			}
			cancel()
		}
	}
}

// SQLite renumbers rowids where nothing holds them. A copy keeps them; where there is no time for one, whoever refers to them is asked first.
func TestCompactMindsRowids(t *testing.T) {
	const rows = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 500) INSERT INTO a SELECT 'word' || x, zeroblob(500) FROM c; DELETE FROM a WHERE rowid < 400;"
	for name, c := range map[string]struct {
		schema string
		moves  bool // a VACUUM would renumber
		refers bool
	}{
		"nobody refers":     {"CREATE TABLE a(w, b); CREATE TRIGGER g AFTER DELETE ON a BEGIN SELECT old.w; END;", true, false},
		"full-text index":   {"CREATE TABLE a(w, b); CREATE VIRTUAL TABLE f USING fts5(w, content='a');", true, true},
		"trigger":           {"CREATE TABLE a(w, b); CREATE TABLE l(x); CREATE TRIGGER g AFTER DELETE ON a BEGIN INSERT INTO l VALUES (old.rowid); END;", true, true},
		"about another one": {"CREATE TABLE a(w, b); CREATE TABLE o(x); CREATE VIEW v AS SELECT rowid FROM o;", true, false},
		"primary key":       {"CREATE TABLE a(w, b, id INTEGER PRIMARY KEY); CREATE VIEW v AS SELECT rowid FROM a;", false, true},
		"index":             {"CREATE TABLE a(w, b); CREATE INDEX i ON a(w); CREATE VIEW v AS SELECT rowid FROM a;", false, true},
	} {
		for _, time := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/time %v", name, time), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "a.db")
				fill := rows
				if name == "primary key" {
					fill = strings.Replace(rows, "INTO a SELECT", "INTO a(w, b) SELECT", 1)
				}
				shell(t, path, c.schema, fill)
				soundAtEnd(t, path)
				if !time {
					learnPace(path, pace{Vacuum: fastestPace, PutIn: 1}) // there is a limit to slowness: the margin is narrow
				}
				opts := unhurried
				if !time {
					opts.MaxPause = pauseAt(readPace(path).PutIn, mustStat(t, path).UsedBytes()) - 1e6
				}
				const sum = "SELECT sum(rowid) FROM a;"
				before := shell(t, path, sum)
				r, err := Compact(t.Context(), path, opts)
				must(t, err)
				if skip := c.moves && c.refers && !time; skip != (r.Reason == RowidsInUse) || skip == (r.Status == Compacted) {
					t.Errorf("%+v", r)
				}
				wantKept := !c.moves || time || c.refers
				if kept := shell(t, path, sum) == before; kept != wantKept || kept == strings.Contains(r.Note, "renumbered") {
					t.Errorf("rowids kept: %v, %+v", kept, r)
				}
				opts.Force = true
				if r, err := Compact(t.Context(), path, opts); err != nil || r.Status != Compacted {
					t.Errorf("forced: %+v, %v", r, err)
				}
			})
		}
	}
}

func TestNextSlice(t *testing.T) {
	for _, c := range []struct {
		size      int64
		took      time.Duration
		want, max int64
	}{{16, time.Millisecond, 32, 32}, {16, 0, 32, 32}, {100, 50 * time.Millisecond, 100, 100}, {100, time.Second, 25, 25},
		{1, time.Hour, 1, 1}, {mostSlice, 0, mostSlice, mostSlice}} {
		if got := nextSlice(c.size, c.took, 50*time.Millisecond); got != c.want {
			t.Errorf("%d pages in %v: %d", c.size, c.took, got)
		}
	}
}

func TestPace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	if got := readPace(path); got != (pace{firstPace, firstPutIn}) {
		t.Errorf("%v", got)
	}
	learnPace(path, pace{Vacuum: speed(100e6, time.Second)})
	if got := readPace(path); got.Vacuum < 69e6 || got.Vacuum > 71e6 || got.PutIn != firstPutIn {
		t.Errorf("%v", got)
	}
	learnPace(path, pace{Vacuum: speed(1000, time.Second)}) // says nothing
	learnPace(path, pace{PutIn: speed(200e6, time.Second)})
	if got := readPace(path); got.Vacuum < 69e6 || got.PutIn < 139e6 || got.PutIn > 141e6 {
		t.Errorf("%v", got)
	}
	for content, want := range map[string]float64{"": firstPace, "{}": firstPace, `{"bytes_per_second":-1}`: firstPace,
		`{"bytes_per_second":1}`: slowestPace, `{"bytes_per_second":1e300}`: fastestPace} {
		must(t, os.WriteFile(statePath(path, ".pace"), []byte(content), 0o644))
		if got := readPace(path); got.Vacuum != want {
			t.Errorf("%q: %v", content, got)
		}
	}
	if pauseAt(100e6, 100e6) < time.Second {
		t.Error("too confident")
	}
}
