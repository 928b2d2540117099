package table

import (
	"context"
	"database/sql"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// withoutMode is a dump that does not say what auto_vacuum is: the fifth line of it.
func withoutMode(t testing.TB, path string) []string {
	t.Helper()
	lines := strings.Split(dump(t, path), "\n")
	return sorted(strings.Join(append(lines[:4:4], lines[5:]...), "\n"))
}

func TestConvert(t *testing.T) {
	eachFixture(t, func(t *testing.T, _ fixture, path string) {
		for _, to := range []string{Incremental, NoAutoVacuum} {
			for _, slowly := range []bool{false, true} {
				if slowly {
					byCopy(t, path)
				}
				before, stats := withoutMode(t, path), mustStat(t, path)
				opts := unhurried
				opts.Convert = to
				opts.DryRun = true
				dry, err := Compact(t.Context(), path, opts)
				must(t, err)
				opts.DryRun = false
				r, err := Compact(t.Context(), path, opts)
				must(t, err)
				if r.Strategy != dry.Strategy && r.Strategy != strategyCopyIn || r.PredictedPauseMS <= 0 {
					t.Errorf("%+v became %+v", dry, r)
				}
				if stats.AutoVacuum == to {
					if r.Status != Skipped || r.Reason != Unchanged || dry.Reason != Unchanged {
						t.Errorf("%+v, %+v", dry, r)
					}
					continue
				}
				if r.Status != Compacted || r.Reason != "" || dry.Reason != DryRun || !strings.Contains(dry.Note, to) {
					t.Fatalf("%+v, %+v", dry, r)
				}
				after := mustStat(t, path)
				if after.AutoVacuum != to || after.JournalMode != stats.JournalMode || after.PageSize != stats.PageSize {
					t.Errorf("%+v became %+v", stats, after)
				}
				if got := shell(t, path, "PRAGMA auto_vacuum;", "PRAGMA integrity_check;"); got != map[string]string{Incremental: "2\nok", NoAutoVacuum: "0\nok"}[to] {
					t.Errorf("the shell says %s", got)
				}
				if diff := cmp.Diff(before, withoutMode(t, path)); diff != "" {
					t.Error(diff)
				}
			}
		}
	})
}

// Those who have the table open go on, and what they delete afterwards is given back in slices.
func TestConvertUnderOpenConnections(t *testing.T) {
	for name, setup := range map[string]string{"WAL": "PRAGMA journal_mode=WAL;", "DELETE": ""} {
		for _, slowly := range []bool{false, true} {
			t.Run(name+"/copy "+strconv.FormatBool(slowly), func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), "a.db")
				bulk(t, path, setup, 1000)
				db, err := sql.Open("sqlite", "file:"+path+"?_busy_timeout=60000")
				must(t, err)
				db.SetMaxOpenConns(1)
				defer db.Close()
				for i, to := range []string{Incremental, NoAutoVacuum, Incremental} {
					var n int
					must(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM item").Scan(&n))
					if slowly {
						byCopy(t, path)
					} else {
						learnPace(path, pace{Vacuum: fastestPace})
					}
					opts := unhurried
					opts.Convert = to
					r, err := Compact(t.Context(), path, opts)
					must(t, err)
					if r.Status != Compacted || slowly != (r.Strategy == strategyCopyIn) {
						t.Fatalf("%+v", r)
					}
					_, err = db.ExecContext(t.Context(), "INSERT INTO item(body) SELECT randomblob(1000) FROM item LIMIT 200; DELETE FROM item WHERE id % 7 = ?", i)
					must(t, err)
				}
				_, err = db.ExecContext(t.Context(), "DELETE FROM item WHERE id < 700")
				must(t, err)
				r, err := Compact(t.Context(), path, CompactOptions{Threshold: -1, MaxPause: time.Minute, Wait: time.Minute})
				if err != nil || r.Status != Compacted || r.Strategy != strategySlices || r.BytesAfter >= r.BytesBefore {
					t.Errorf("%+v, %v", r, err)
				}
			})
		}
	}
}

func TestConvertWouldBlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	bulk(t, path, "", 500)
	for to, want := range map[string]string{Incremental: "raise the pause", "": "tablekeeper convert"} {
		r, err := Compact(t.Context(), path, CompactOptions{Convert: to, MaxPause: time.Millisecond})
		if err != nil || r.Reason != WouldBlock || !strings.Contains(r.Note, want) || to != "" && strings.Contains(r.Note, "convert") {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if r, err := Compact(t.Context(), path, CompactOptions{Convert: "sideways"}); err != nil || r.Reason != NotSupported {
		t.Errorf("%+v, %v", r, err)
	}
}

// An owned table is converted while its writer goes on.
func TestConvertOwned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	table := openOwned(t, path, quietOwned)
	fillOwned(t, table, 6000)
	writeOwned(t, table, "DELETE FROM t WHERE id % 2")
	learnPace(path, pace{Vacuum: slowestPace})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	written := make(chan int)
	go func() {
		n := 0
		for ctx.Err() == nil && n < 300 { // or it may be too busy to be converted
			if err := table.Write(t.Context(), func(tx *sql.Tx) error {
				_, err := tx.ExecContext(t.Context(), "INSERT INTO t(v) VALUES (randomblob(100))")
				return err
			}); err != nil {
				t.Error(err)
				break
			}
			n++
		}
		written <- n
	}()
	for _, to := range []string{Incremental, NoAutoVacuum} {
		r, err := table.Compact(t.Context(), CompactOptions{Convert: to, MaxPause: time.Minute, Wait: time.Minute})
		if err != nil || r.Status != Compacted || r.Strategy != strategyOnline {
			t.Errorf("%s: %+v, %v", to, r, err)
		}
		if got := mustStat(t, path).AutoVacuum; got != to {
			t.Errorf("auto_vacuum=%s", got)
		}
	}
	stop()
	n := <-written
	if got := ownedInt(t, table, "SELECT count(*) FROM t"); got != 3000+n {
		t.Errorf("%d rows, %d were written", got, n)
	}
	settleOwned(t, table)
	scrubClean(t, table)
}
