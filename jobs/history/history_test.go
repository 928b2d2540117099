package history

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"tablekeeper/jobs/events"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("HISTORY_TEST_CHILD"); path != "" {
		child(path)
	}
	goleak.VerifyTestMain(m)
}

var epoch = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

// open opens a history and checks at the end that the file is whole.
func open(t *testing.T, path string, opts Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		intact(t, path)
	})
	return s
}

func intact(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx := context.WithoutCancel(t.Context()) // it is asked in cleanups
	var verdict string
	if err := db.QueryRowContext(ctx, `PRAGMA integrity_check`).Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("integrity_check of %s: %s, %v", path, verdict, err)
	}
	var vacuum int
	if err := db.QueryRowContext(ctx, `PRAGMA auto_vacuum`).Scan(&vacuum); err != nil || vacuum != 2 {
		t.Errorf("auto_vacuum of %s: %d, %v", path, vacuum, err)
	}
}

func temp(t *testing.T) string { return filepath.Join(t.TempDir(), File) }

func newRun(function string, at time.Time, tables ...string) Run {
	id, err := uuid.NewV7()
	if err != nil {
		panic(err)
	}
	return Run{ID: id.String(), Function: function, Trigger: "cli", Event: json.RawMessage(`{"tables":["*"]}`), Status: Queued, Queued: at, Counts: Counts{Tables: len(tables)}}
}

func entries(status string, tables ...string) []NumberedEntry {
	var list []NumberedEntry
	for i, name := range tables {
		report := json.RawMessage(fmt.Sprintf(`{"table":%q,"status":%q,"bytes_before":7}`, name, status))
		list = append(list, NumberedEntry{i, Entry{Table: name, Status: status, DurationMS: 5, Attempts: 1, Report: report}})
	}
	return list
}

func begin(t *testing.T, s *Store, r Run) Run {
	t.Helper()
	r, begun, err := s.Begin(t.Context(), r)
	if err != nil || !begun {
		t.Fatal(begun, err)
	}
	return r
}

// done records a run that has ended.
func done(t *testing.T, s *Store, r Run, status Status, list []NumberedEntry) Run {
	t.Helper()
	r = begin(t, s, r)
	r.Status, r.Started, r.Ended, r.Attempts = status, r.Queued.Add(time.Second), r.Queued.Add(3*time.Second), 1
	if err := s.Save(t.Context(), Change{Run: r, Entries: list}); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRunReadsBack(t *testing.T) {
	s := open(t, temp(t), Options{})
	r := newRun("compact", epoch, "a", "b")
	r.Job, r.Actor, r.IdempotencyKey, r.RetryOf = "compact", "alice", "key-1", "x"
	r = begin(t, s, r)
	r.Status, r.Started = Running, epoch.Add(time.Second)
	phase := Phase{Name: "vacuum", Table: "a", Attempt: 1, Started: epoch.Add(2 * time.Second), DurationMS: 12, Bytes: 4096}
	line := LogLine{Time: epoch, Level: "INFO", Table: "a", Message: "begun", Attrs: "pages=3"}
	list := entries("compacted", "a", "b")
	list[1].Status, list[1].Report = EntryPending, nil
	steps := []Change{
		{Run: r, Entries: list, Phases: []Phase{phase}, Log: []LogLine{line}},
		{Run: r, Phases: []Phase{phase}, PhaseFrom: 1, Log: []LogLine{line}, LogFrom: 1},
	}
	r.Status, r.Ended, r.Error, r.Hint, r.Counts, r.LogDropped = Partial, epoch.Add(4*time.Second), "b: busy", "wait", Counts{2, 1, 0, 1}, 3
	final := entries("failed", "a", "b")[1:]
	steps = append(steps, Change{Run: r, Entries: final})
	for _, c := range steps {
		if err := s.Save(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Get(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	want := r
	want.DurationMS = 3000
	want.Entries = []Entry{list[0].Entry, final[0].Entry}
	want.Phases, want.Log = []Phase{phase, phase}, []LogLine{line, line}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	text, err := json.Marshal(got)
	if err != nil || !strings.Contains(string(text), `"entries":[{"table":"a","status":"compacted","bytes_before":7}`) {
		t.Errorf("JSON: %s, %v", text, err)
	}
	var again Run
	if err := json.Unmarshal(text, &again); err != nil || len(again.Entries) != 2 || again.Entries[1].Status != "failed" {
		t.Errorf("JSON does not read back: %+v, %v", again, err)
	}
}

func TestIdempotencyKeyGivesTheFirstRun(t *testing.T) {
	s := open(t, temp(t), Options{})
	r := newRun("compact", epoch)
	r.IdempotencyKey = "once"
	first := begin(t, s, r)
	again := newRun("compact", epoch)
	again.IdempotencyKey = "once"
	got, begun, err := s.Begin(t.Context(), again)
	if err != nil || begun || got.ID != first.ID {
		t.Errorf("second run %v, begun %v, %v", got.ID, begun, err)
	}
}

func TestListFiltersAndPages(t *testing.T) {
	s := open(t, temp(t), Options{})
	var ids []string
	for i := range 7 {
		function, tables := "backup", []string{"a", "b"}
		if i%2 == 1 {
			function, tables = "compact", []string{"b"}
		}
		r := newRun(function, epoch.Add(time.Duration(i)*time.Hour), tables...)
		status := Succeeded
		if i == 4 {
			status = Failed
		}
		ids = append(ids, done(t, s, r, status, entries("backed_up", tables...)).ID)
	}
	all := func(f Filter) (got []int) {
		for {
			page, err := s.List(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page.Runs {
				for i, id := range ids {
					if id == r.ID {
						got = append(got, i)
					}
				}
			}
			if f.Cursor = page.Next; f.Cursor == "" {
				return got
			}
		}
	}
	for name, c := range map[string]struct {
		f    Filter
		want []int
	}{
		"everything, two at a time": {Filter{Limit: 2}, []int{6, 5, 4, 3, 2, 1, 0}},
		"exactly one page":          {Filter{Limit: 7}, []int{6, 5, 4, 3, 2, 1, 0}},
		"function":                  {Filter{Function: "compact"}, []int{5, 3, 1}},
		"table":                     {Filter{Table: "a", Limit: 1}, []int{6, 4, 2, 0}},
		"status":                    {Filter{Statuses: []string{"failed", "lost"}}, []int{4}},
		"since and until":           {Filter{Since: epoch.Add(2 * time.Hour), Until: epoch.Add(4 * time.Hour)}, []int{3, 2}},
		"hostile":                   {Filter{Function: "'; DROP TABLE runs; --"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, all(c.f)); d != "" {
				t.Error(d)
			}
		})
	}
	if _, err := s.List(t.Context(), Filter{Cursor: "x"}); !errors.Is(err, ErrCursor) {
		t.Errorf("a bad cursor: %v", err)
	}
	var names []string
	f := Filter{Function: "backup", Limit: 3}
	for {
		page, err := s.Entries(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range page.Records {
			names = append(names, fmt.Sprint(rec.Started.Sub(epoch).Truncate(time.Hour).Hours(), rec.Entry.Table))
		}
		if f.Cursor = page.Next; f.Cursor == "" {
			break
		}
	}
	if d := cmp.Diff([]string{"6a", "6b", "4a", "4b", "2a", "2b", "0a", "0b"}, names); d != "" {
		t.Error(d)
	}
	last, err := s.Last(t.Context(), "backup", "a")
	if err != nil || last.RunID != ids[6] {
		t.Errorf("last backup of a: %+v, %v", last, err)
	}
	if _, err := s.Last(t.Context(), "verify", "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("last verify of a: %v", err)
	}
	latest, err := s.Latest(t.Context(), "compact")
	if err != nil || len(latest) != 1 || latest["b"].RunID != ids[5] {
		t.Errorf("latest compactions: %+v, %v", latest, err)
	}
}

func TestFindByAbbreviation(t *testing.T) {
	s := open(t, temp(t), Options{})
	a, b := newRun("compact", epoch), newRun("compact", epoch)
	a.ID, b.ID = "01980000-aaaa-7000-8000-00000000000a", "01980000-bbbb-7000-8000-00000000000b"
	begin(t, s, a)
	begin(t, s, b)
	for prefix, want := range map[string]string{a.ID: a.ID, "01980000-a": a.ID, "01980000-B": b.ID, "0000000b": b.ID} {
		if got, err := s.Find(t.Context(), prefix); err != nil || got != want {
			t.Errorf("%s: %s, %v", prefix, got, err)
		}
	}
	var ambiguous *AmbiguousError
	if _, err := s.Find(t.Context(), "01980000"); !errors.As(err, &ambiguous) || len(ambiguous.IDs) != 2 {
		t.Errorf("ambiguous: %v", err)
	}
	for _, none := range []string{"", "019", "ffff", "%___", "zzzz", "' OR 1"} {
		if _, err := s.Get(t.Context(), none); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", none, err)
		}
	}
}

func TestJobState(t *testing.T) {
	path := temp(t)
	s := open(t, path, Options{})
	if slot, paused, err := s.JobState(t.Context(), "backup"); !slot.IsZero() || paused || err != nil {
		t.Error(slot, paused, err)
	}
	if err := errors.Join(s.SetJobPaused(t.Context(), "backup", true), s.SetJobSlot(t.Context(), "backup", epoch)); err != nil {
		t.Fatal(err)
	}
	other := open(t, path, Options{})
	if slot, paused, err := other.JobState(t.Context(), "backup"); !slot.Equal(epoch) || !paused || err != nil {
		t.Error(slot, paused, err)
	}
}

func TestEvents(t *testing.T) {
	s := open(t, temp(t), Options{})
	if first, last, err := s.EventBounds(t.Context()); first != 0 || last != 0 || err != nil {
		t.Error(first, last, err)
	}
	list := []events.Event{{ID: "a", Time: epoch}, {ID: "b", Time: epoch}, {ID: "c", Time: epoch}}
	if err := s.AppendEvents(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	if list[0].Sequence < time.Now().Add(-time.Hour).Unix() || list[2].Sequence != list[0].Sequence+2 {
		t.Errorf("sequence %d to %d", list[0].Sequence, list[2].Sequence)
	}
	got, err := s.EventsAfter(t.Context(), list[0].Sequence, 10)
	if err != nil || cmp.Diff(list[1:], got) != "" {
		t.Error(cmp.Diff(list[1:], got), err)
	}
}

func TestPrune(t *testing.T) {
	now := epoch.Add(100 * 24 * time.Hour)
	s := open(t, temp(t), Options{Now: func() time.Time { return now }, KeepRuns: 3, KeepEvents: 2, KeepAge: 24 * time.Hour})
	old := done(t, s, newRun("backup", epoch, "a"), Succeeded, entries("backed_up", "a"))
	stuck := begin(t, s, newRun("backup", epoch))
	for i := range 30 {
		done(t, s, newRun("backup", now.Add(time.Duration(i)*time.Second), "a"), Succeeded, entries("backed_up", "a"))
	}
	if err := s.AppendEvents(t.Context(), []events.Event{{ID: "old", Time: epoch}, {ID: "a", Time: now}, {ID: "b", Time: now}, {ID: "c", Time: now}}); err != nil {
		t.Fatal(err)
	}
	removed, err := s.Prune(t.Context())
	if err != nil || removed != 28 {
		t.Errorf("removed %d, %v", removed, err)
	}
	page, err := s.List(t.Context(), Filter{})
	if err != nil || len(page.Runs) != 4 || page.Runs[3].ID != stuck.ID {
		t.Errorf("left %d runs, %v", len(page.Runs), err)
	}
	if _, err := s.Get(t.Context(), old.ID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("old run: %v", err)
	}
	kept, err := s.EventsAfter(t.Context(), 0, 10)
	if err != nil || len(kept) != 2 || kept[0].ID != "b" {
		t.Errorf("kept events %+v, %v", kept, err)
	}
}

// TestDamagedHistoryIsSetAside damages the file in several ways, before it is opened and while it is open.
func TestDamagedHistoryIsSetAside(t *testing.T) {
	damage := map[string]func(path string) error{
		"text": func(path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("not a database ", 500)), 0o600)
		},
		"truncated": func(path string) error { return os.Truncate(path, 5000) },
		"zeros inside": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(make([]byte, 30_000), 4096)
			return errors.Join(err, f.Close())
		},
	}
	for name, harm := range damage {
		t.Run(name, func(t *testing.T) {
			path := temp(t)
			first, err := Open(t.Context(), path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			done(t, first, newRun("backup", epoch, "a"), Succeeded, entries("backed_up", "a"))
			if err := errors.Join(first.Close(), harm(path)); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			s := open(t, path, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			done(t, s, newRun("backup", epoch, "a"), Succeeded, entries("backed_up", "a"))
			aside, err := filepath.Glob(path + ".corrupt-*")
			if err != nil || len(aside) == 0 || !strings.Contains(log.String(), "level=ERROR") {
				t.Errorf("set aside %v, %v; log %s", aside, err, &log)
			}
		})
	}
}

func TestDamageWhileOpen(t *testing.T) {
	path := temp(t)
	a, b := open(t, path, Options{}), open(t, path, Options{})
	done(t, a, newRun("backup", epoch, "a"), Succeeded, entries("backed_up", "a"))
	// Only for a test is it right to write into a live database file.
	for _, name := range []string{path, path + "-wal"} {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, 200_000), 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	fresh := open(t, path, Options{}) // finds the damage
	r := done(t, a, newRun("backup", epoch, "a"), Succeeded, entries("backed_up", "a"))
	q := done(t, b, newRun("backup", epoch, "a"), Succeeded, entries("backed_up", "a"))
	for _, id := range []string{r.ID, q.ID} {
		if _, err := fresh.Get(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

func TestForeignAndNewerFilesAreLeftAlone(t *testing.T) {
	for statement, want := range map[string]error{
		`CREATE TABLE notes (x)`:    ErrForeign,
		`PRAGMA application_id = 7`: ErrForeign,
		fmt.Sprintf(`PRAGMA application_id = %d; PRAGMA user_version = 99`, applicationID): ErrNewer,
	} {
		path := temp(t)
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
		db.Close()
		if s, err := Open(t.Context(), path, Options{}); !errors.Is(err, want) {
			t.Errorf("%s: %v", statement, err)
			s.Close()
		}
	}
}

func TestReaderChangesNothing(t *testing.T) {
	path := temp(t)
	if _, err := OpenReader(t.Context(), path, Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading what is not there: %v", err)
	}
	s := open(t, path, Options{})
	r := done(t, s, newRun("backup", epoch, "a"), Succeeded, entries("backed_up", "a"))
	reader, err := OpenReader(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if _, err := reader.Get(t.Context(), r.ID); err != nil {
		t.Error(err)
	}
	if _, _, err := reader.Begin(t.Context(), newRun("backup", epoch)); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a reader writes: %v", err)
	}
}

func TestSeveralWritersAtOnce(t *testing.T) {
	path := temp(t)
	var workers sync.WaitGroup
	for range 4 {
		s := open(t, path, Options{})
		workers.Go(func() {
			for range 10 {
				r := newRun("backup", epoch, "a")
				if _, _, err := s.Begin(t.Context(), r); err != nil {
					t.Error(err)
				}
				if err := s.Save(t.Context(), Change{Run: r, Entries: entries("backed_up", "a")}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	s := open(t, path, Options{})
	if page, err := s.List(t.Context(), Filter{Limit: 100}); err != nil || len(page.Runs) != 40 {
		t.Errorf("%d runs, %v", len(page.Runs), err)
	}
}

func TestClosedAndCancelled(t *testing.T) {
	path := temp(t)
	s := open(t, path, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Begin(ctx, newRun("backup", epoch)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Begin(t.Context(), newRun("backup", epoch)); err == nil {
		t.Error("a closed history is written")
	}
	if _, err := s.List(t.Context(), Filter{}); err == nil {
		t.Error("a closed history is read")
	}
}

// child is the body of a process that begins a run and is killed in the middle of it.
func child(path string) {
	s, err := Open(context.Background(), path, Options{})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	r := newRun("compact", time.Now(), "a", "b")
	r, _, err = s.Begin(context.Background(), r)
	if err == nil {
		r.Status, r.Started = Running, time.Now()
		list := entries("compacted", "a", "b")
		list[1].Status, list[1].Report = EntryPending, nil
		err = s.Save(context.Background(), Change{Run: r, Entries: list})
	}
	fmt.Println(r.ID, err)
	select {}
}

func TestRunOfAKilledProcessIsLost(t *testing.T) {
	path := temp(t)
	s := open(t, path, Options{})
	mine := begin(t, s, newRun("backup", epoch))
	other := open(t, path, Options{}) // stands for another live process: its lock is its own
	theirs := begin(t, other, newRun("backup", epoch))

	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "HISTORY_TEST_CHILD="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var id, note string
	if _, err := fmt.Fscan(out, &id, &note); err != nil || note != "<nil>" {
		t.Fatal(id, note, err)
	}
	if lost, err := s.Reap(t.Context()); err != nil || len(lost) != 0 {
		t.Fatalf("while the child lives: %+v, %v", lost, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	lost, err := s.Reap(t.Context())
	if err != nil || len(lost) != 1 || lost[0].ID != id || lost[0].Status != Lost {
		t.Fatalf("lost %+v, %v", lost, err)
	}
	r, err := s.Get(t.Context(), id)
	if err != nil || r.Status != Lost || r.Error == "" || r.Hint == "" || r.Ended.IsZero() || r.Counts.Failed != 1 || r.Entries[0].Status != "compacted" || r.Entries[1].Status != EntryLost {
		t.Errorf("run %+v, %v", r, err)
	}
	if again, err := other.Reap(t.Context()); err != nil || len(again) != 0 {
		t.Errorf("reaped twice: %+v, %v", again, err)
	}
	for _, live := range []Run{mine, theirs} {
		if r, err := s.Get(t.Context(), live.ID); err != nil || r.Status != Queued {
			t.Errorf("run of a live process is %s, %v", r.Status, err)
		}
	}
	// Runs that a process leaves open when it closes its history are lost too.
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if lost, err := s.Reap(t.Context()); err != nil || len(lost) != 1 || lost[0].ID != theirs.ID {
		t.Errorf("after close: %+v, %v", lost, err)
	}
}

// TestEachFailingWriteLeavesNothingHalf makes the insertion into each SQL table fail, on its first, second, ... row.
func TestEachFailingWriteLeavesNothingHalf(t *testing.T) {
	path := temp(t)
	s := open(t, path, Options{})
	for _, table := range []string{"runs", "entries", "latest", "phases", "log"} {
		for n := range 3 {
			t.Run(fmt.Sprintf("%s %d", table, n), func(t *testing.T) {
				repair := failInsert(t, path, table, n)
				r := newRun("backup", epoch, "a", "b")
				phase, line := Phase{Name: "copy", Started: epoch}, LogLine{Time: epoch, Message: "x"}
				c := Change{Run: r, Entries: entries("backed_up", "a", "b"), Phases: []Phase{phase, phase}, Log: []LogLine{line, line}}
				err := s.Save(t.Context(), c)
				got, getErr := s.Get(t.Context(), r.ID)
				if err != nil && !errors.Is(getErr, fs.ErrNotExist) {
					t.Errorf("half a change is there: %+v, %v", got, getErr)
				}
				if whole := n == 2 || table == "runs" && n == 1; whole != (err == nil) {
					t.Errorf("error is %v", err)
				}
				repair()
				if err := s.Save(t.Context(), c); err != nil {
					t.Error(err)
				}
				if got, err := s.Get(t.Context(), r.ID); err != nil || len(got.Entries) != 2 || len(got.Phases) != 2 || len(got.Log) != 2 {
					t.Errorf("after the repair: %+v, %v", got, err)
				}
			})
		}
	}
	repair := failInsert(t, path, "events", 2)
	defer repair()
	list := []events.Event{{ID: "a"}, {ID: "b"}, {ID: "c"}}
	if err := s.AppendEvents(t.Context(), list); err == nil || list[0].Sequence != 0 {
		t.Errorf("events %+v, %v", list, err)
	}
	if first, _, err := s.EventBounds(t.Context()); err != nil || first != 0 {
		t.Errorf("first event %d, %v", first, err)
	}
}

// failInsert makes the n-th next insertion into a SQL table fail.
func failInsert(t *testing.T, path, table string, n int) (repair func()) {
	t.Helper()
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	script := fmt.Sprintf(`CREATE TRIGGER fault BEFORE INSERT ON %[1]s WHEN (SELECT count(*) FROM %[1]s) >= (SELECT n FROM fault_at)
		BEGIN SELECT RAISE(ABORT, 'injected'); END;
		CREATE TABLE fault_at AS SELECT count(*) + %[2]d AS n FROM %[1]s`, table, n)
	if table == "latest" { // REPLACE does not count up
		script = strings.ReplaceAll(script, "WHEN (SELECT count(*) FROM latest) >= (SELECT n FROM fault_at)", fmt.Sprintf("WHEN NEW.n >= %d", n))
	}
	if _, err := db.ExecContext(t.Context(), script); err != nil {
		t.Fatal(err)
	}
	return func() {
		db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(5000)")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.ExecContext(t.Context(), `DROP TRIGGER fault; DROP TABLE fault_at`); err != nil {
			t.Fatal(err)
		}
	}
}
