package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
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
