package health

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tablekeeper/storage/shelf"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// list is a shelf of fixed tables.
type list []shelf.Table

func (l list) Tables() []shelf.Table { return l }

// put writes a file with the header of a database of that many pages, of which some are free: all that is looked at.
func put(t testing.TB, path string, pages, free byte) {
	t.Helper()
	header := make([]byte, int(pages)*4096)
	copy(header, "SQLite format 3\x00")
	header[16], header[18], header[19], header[20], header[21], header[22], header[23] = 0x10, 1, 1, 0, 64, 32, 32
	header[27], header[95] = 1, 1 // change counter, and that the page count is of that change
	header[31], header[39] = pages, free
	header[47], header[59] = 4, 1
	if err := os.WriteFile(path, header, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestVerdicts(t *testing.T) {
	backedUp := shelf.Record{Format: 1, Table: "t", Key: "t/k", Created: now.Add(-3 * time.Hour), Confirmed: now.Add(-time.Hour), Proved: now.Add(-2 * time.Hour)}
	for name, c := range map[string]struct {
		state  shelf.State
		record func(*shelf.Record) // nil: there is none
		file   func(path string)   // nil: as put wrote it
		want   Verdict
		reason string
	}{
		"healthy":   {record: func(*shelf.Record) {}, want: Healthy},
		"unproved":  {record: func(r *shelf.Record) { r.Proved = time.Time{} }, want: Unproved, reason: "no drill has restored the backup yet"},
		"no backup": {want: NoBackup, reason: "no backup yet"},
		"overdue":   {record: func(r *shelf.Record) { r.Confirmed = now.Add(-13 * time.Hour); r.Created = r.Confirmed }, want: Overdue, reason: "the last backup is older than 12h"},
		"unchanged": {record: func(r *shelf.Record) { r.Created = now.Add(-1000 * time.Hour) }, want: Healthy},
		// By a clock that was wrong then: it says nothing about now, for as long as it lies ahead.
		"ahead":                  {record: func(r *shelf.Record) { r.Confirmed = now.Add(1000 * time.Hour); r.Created = r.Confirmed }, want: Overdue, reason: "the last backup bears a time in the future: the clock was wrong then, or is now"},
		"key ahead":              {record: func(r *shelf.Record) { r.Confirmed = now.Add(-13 * time.Hour); r.Created = now.Add(1000 * time.Hour) }, want: Overdue, reason: "the last backup is older than 12h"},
		"clocks differ a little": {record: func(r *shelf.Record) { r.Confirmed = now.Add(time.Minute) }, want: Healthy},
		"distrusted":             {record: func(r *shelf.Record) { r.Distrust = "it is bad" }, want: Overdue, reason: "no good backup: it is bad"},
		"suspect":                {state: shelf.Suspect, record: func(*shelf.Record) {}, want: Suspect, reason: "why"},
		"recovering":             {state: shelf.Recovering, want: Recovering, reason: "why"},
		"degraded":               {state: shelf.Degraded, want: Degraded, reason: "why"},
		"gone":                   {file: func(path string) { _ = os.Remove(path) }, record: func(*shelf.Record) {}, want: Missing, reason: "the file is gone: tablekeeper restore t --in-place"},
		"no table":               {file: func(path string) { _ = os.WriteFile(path, []byte("hello, this is a text"), 0o600) }, want: Error},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "t.db")
			put(t, path, 10, 3)
			if c.record != nil {
				r := backedUp
				c.record(&r)
				if err := shelf.WriteRecord(path, r); err != nil {
					t.Fatal(err)
				}
			}
			if c.file != nil {
				c.file(path)
			}
			entry := shelf.Table{Name: "t", Path: path, Settings: shelf.DefaultSettings(), Condition: shelf.Condition{State: c.state}}
			if c.state != "" {
				entry.Reason = "why"
			}
			got := Look(t.Context(), entry, now)
			if got.Health != c.want || (c.reason != "" && got.Reason != c.reason) || got.Missing != (c.want == Missing) {
				t.Errorf("%s %q, want %s %q", got.Health, got.Reason, c.want, c.reason)
			}
			if c.file == nil && (got.FreeRatio != 0.3 || got.FreeBytes != 3*4096 || got.Bytes != 40960) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{12 * time.Hour: "12h", 90 * time.Minute: "1h30m", 10 * time.Second: "10s", 10 * time.Minute: "10m", time.Hour + 10*time.Second: "1h0m10s", 0: "0s"} {
		if got := span(d); got != want {
			t.Errorf("%v: %q", d, got)
		}
	}
}

func TestWatchSeesChanges(t *testing.T) {
	dir := t.TempDir()
	var tables list
	for i := range 3 {
		name := fmt.Sprintf("t%d", i)
		put(t, filepath.Join(dir, name+".db"), 10, 0)
		tables = append(tables, shelf.Table{Name: name, Path: filepath.Join(dir, name+".db")})
	}
	w := NewWatch(tables, func() time.Time { return now })
	for _, r := range all(t, w) {
		if r.Bytes != 40960 || r.Health != NoBackup {
			t.Errorf("%+v", r)
		}
	}
	put(t, tables[1].Path, 20, 5)
	if err := os.Remove(tables[2].Path); err != nil {
		t.Fatal(err)
	}
	got := all(t, w)
	if got[0].Table != "t2" || got[0].Health != Missing || got[2].Table != "t1" || got[2].Bytes != 81920 {
		t.Errorf("%+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.All(ctx); err == nil {
		t.Error("a look that was given up is taken for one")
	}
}

func all(t testing.TB, w *Watch) []Report {
	t.Helper()
	reports, err := w.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return reports
}

// BenchmarkWatch looks at 1,000 tables of which none has changed: what a page that is open costs.
func BenchmarkWatch(b *testing.B) {
	dir := b.TempDir()
	old := time.Now().Add(-time.Hour)
	var tables list
	for i := range 1000 {
		path := filepath.Join(dir, fmt.Sprintf("t%d.db", i))
		put(b, path, 2, 0)
		if err := os.Chtimes(path, old, old); err != nil {
			b.Fatal(err)
		}
		tables = append(tables, shelf.Table{Name: fmt.Sprintf("t%d", i), Path: path})
	}
	w := NewWatch(tables, func() time.Time { return now })
	for b.Loop() {
		all(b, w)
	}
}
