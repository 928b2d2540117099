package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/faulty"
)

// sentJobs is a queue that keeps what it is sent.
type sentJobs struct {
	mu   sync.Mutex
	jobs []job
}

func (s *sentJobs) send(_ context.Context, _ string, jobs []job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobs = append(s.jobs, jobs...)
	return nil
}

func (s *sentJobs) again(context.Context, string, string, time.Duration) error { return nil }

// newRuns are the runs of a world in this process, with a clock.
func newRuns(t *testing.T, w *world, now *time.Time) (*runs, *sentJobs) {
	t.Helper()
	env := w.environment("admin", "TABLEKEEPER_TOKEN_SECRET", tokenARN, "TABLEKEEPER_COMPACT_QUEUE", ownQueue, "TABLEKEEPER_BACKUP_QUEUE", ownQueue, "TABLEKEEPER_VERIFY_QUEUE", ownQueue,
		"TABLEKEEPER_SCRATCH", t.TempDir())
	set, err := readSettings(func(name string) string { return env[name] })
	w.Must(err)
	h, err := open(t.Context(), set, parts{Log: discard(), Now: func() time.Time { return *now }})
	w.Must(err)
	sent := &sentJobs{}
	h.queue = sent
	s, _, err := h.place.census(t.Context(), false)
	w.Must(err)
	return &runs{handler: h, shelf: s}, sent
}

func backupOfAll(key string) jobs.Invocation {
	return jobs.Invocation{Function: "backup", Event: json.RawMessage(`{"tables":["*"]}`), Type: jobs.Async, Trigger: jobs.TriggerAPI, Actor: "operator", IdempotencyKey: key}
}

// Call n of the store fails, for n = 0, 1, 2, ... Whoever asks again with the same key gets one run, which is listed once, and whose work is sent.
func TestBeginningARunWhileTheStoreFails(t *testing.T) {
	w := newWorld(t)
	w.Make("app", 10)
	w.upload("app")
	now := time.Unix(1_800_000_000, 0)
	r, sent := newRuns(t, w, &now)
	behind := r.state
	for n, clean := 0, false; !clean; n++ {
		for _, kind := range []faulty.Kind{faulty.Fail, faulty.LostReply} {
			f := faulty.Wrap(behind)
			f.At(n, faulty.Fault{Kind: kind})
			r.state = f
			now = now.Add(time.Second)
			sent.jobs = nil
			inv := backupOfAll(fmt.Sprint(n, kind))
			_, failed := r.Invoke(t.Context(), inv)
			clean = failed == nil
			r.state = behind
			now = now.Add(time.Second)
			run, err := r.Invoke(t.Context(), inv)
			w.Must(err)
			page, err := r.List(t.Context(), history.Filter{})
			w.Must(err)
			listed := 0
			for _, other := range page.Runs {
				if other.ID == run.ID {
					listed++
				}
			}
			if listed != 1 || len(sent.jobs) == 0 || page.Runs[0].ID != run.ID {
				t.Errorf("call %d, %v (%v): listed %d times, %d messages", n, kind, failed, listed, len(sent.jobs))
			}
		}
	}
}

// Of many tables the marks are counted, and read only when each has one.
func TestListOfALargeRun(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	r, _ := newRuns(t, w, &now)
	a := asked{Run: history.Run{ID: "0198c2f4-0000-7000-8000-000000000001", Function: "backup", Status: history.Queued, Queued: now.UTC(), Counts: history.Counts{Tables: few + 1}}}
	for i := range few + 1 {
		a.Tables = append(a.Tables, fmt.Sprintf("t%03d", i))
	}
	put := func(key string, v any) {
		text, err := json.Marshal(v)
		w.Must(err)
		_, err = w.state.Put(t.Context(), key, bytes.NewReader(text), bucket.PutOptions{})
		w.Must(err)
	}
	put(runPrefix+a.Run.ID+".json", a)
	w.Must(r.enlist(t.Context(), a.Run))
	settle := func(from, to int, state string) {
		for _, name := range a.Tables[from:to] {
			put(a.marks()+name, mark{State: state, Until: now.Add(time.Minute), Entry: json.RawMessage(`{"table":"` + name + `","status":"backed_up"}`)})
		}
	}
	reads := 0
	look := func() history.Run {
		f := faulty.Wrap(w.state)
		r.state = f
		page, err := r.List(t.Context(), history.Filter{})
		w.Must(err)
		reads = 0
		for _, c := range f.Calls() {
			if c.Op == "get" {
				reads++
			}
		}
		if len(page.Runs) != 1 {
			t.Fatalf("%+v", page)
		}
		return page.Runs[0]
	}
	for _, step := range []struct {
		from, to int
		state    string
		want     history.Status
		reads    int // of the head, of the run, and of marks
	}{
		{0, 0, done, history.Queued, 2},
		{0, 50, done, history.Running, 2},
		{50, few, done, history.Running, 2},
		{few, few + 1, begun, history.Running, few + 3},
		{few, few + 1, fails, history.Partial, few + 3},
		{few, few + 1, done, history.Succeeded, few + 3},
		{0, 0, done, history.Succeeded, 1},
	} {
		settle(step.from, step.to, step.state)
		if run := look(); run.Status != step.want || reads != step.reads || run.Counts.Tables != few+1 {
			t.Errorf("%+v: %s, %d reads, %+v", step, run.Status, reads, run.Counts)
		}
	}
	if run := look(); run.Counts.Done != few+1 || run.Ended.IsZero() {
		t.Errorf("%+v", run)
	}
}

// A run that failed may still be tried again by the queue; when that is over, it is known without its marks.
func TestListOfAFailedRun(t *testing.T) {
	w := newWorld(t)
	w.Make("app", 10)
	w.upload("app")
	now := time.Now()
	r, _ := newRuns(t, w, &now)
	run, err := r.Invoke(t.Context(), backupOfAll(""))
	w.Must(err)
	put := func(m mark) {
		text, err := json.Marshal(m)
		w.Must(err)
		_, err = w.state.Put(t.Context(), asked{Run: run}.marks()+"app", bytes.NewReader(text), bucket.PutOptions{})
		w.Must(err)
	}
	is := func(want history.Status) {
		t.Helper()
		page, err := r.List(t.Context(), history.Filter{})
		w.Must(err)
		if got := page.Runs[0].Status; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	put(mark{State: fails})
	is(history.Failed)
	put(mark{State: begun, Until: now.Add(time.Hour)})
	is(history.Running)
	now = now.Add(retried + time.Minute)
	put(mark{State: fails})
	is(history.Failed)
	w.Must(w.state.Delete(t.Context(), asked{Run: run}.marks()+"app"))
	is(history.Failed)
}

func TestPlacesSortNewestFirst(t *testing.T) {
	begin := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	var places []string
	for _, after := range []time.Duration{0, time.Millisecond, time.Hour, 100 * 365 * 24 * time.Hour} {
		places = append(places, placeOf(history.Run{ID: "0198c2f4-0000-7000-8000-000000000001", Queued: begin.Add(after)}))
	}
	slices.Reverse(places)
	if !slices.IsSorted(places) || !listed.MatchString(places[0]) {
		t.Errorf("%q", places)
	}
}
