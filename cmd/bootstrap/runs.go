package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"
	"time"

	"github.com/google/uuid"

	"tablekeeper/functions"
	"tablekeeper/jobs"
	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
	"tablekeeper/jobs/schedule"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/shelf"
)

// runs are those that the admin API has begun. What was asked for is an object; how it goes is what the workers' marks say, which are there anyway. Both
// expire after two days.
type runs struct {
	*handler
	noEvents
	shelf *shelf.Shelf
}

const runPrefix = eventPrefix + "runs/"

// asked is the object of a run.
type asked struct {
	Run    history.Run `json:"run"`
	Tables []string    `json:"tables"`
}

// as is the handler of another function.
func (r *runs) as(function string) (*handler, error) {
	h := *r.handler
	h.set.Function, h.set.Queue = function, r.set.Queues[function]
	if h.set.Queue == "" {
		return nil, &functions.EventError{Problem: fmt.Sprintf("%q is not begun by the admin API", function), Try: "sam remote invoke; see docs/aws.md"}
	}
	return &h, nil
}

// Invoke implements admin.Runner: the work of each table becomes a message for the workers of its function.
func (r *runs) Invoke(ctx context.Context, inv jobs.Invocation) (history.Run, error) {
	h, err := r.as(inv.Function)
	if err != nil {
		return history.Run{}, err
	}
	t, err := h.task(visit{shelf: r.shelf})
	if err != nil {
		return history.Run{}, err
	}
	tables, err := t.tables(ctx, inv.Event)
	if err != nil || inv.Type == jobs.DryRun {
		return history.Run{Function: inv.Function}, err
	}
	id, err := runID(inv)
	if err != nil {
		return history.Run{}, err
	}
	a := asked{Tables: tables, Run: history.Run{ID: id, Function: inv.Function, Trigger: inv.Trigger, Actor: inv.Actor, RetryOf: inv.RetryOf, IdempotencyKey: inv.IdempotencyKey,
		Event: inv.Event, Status: history.Queued, Queued: r.Now().UTC(), Counts: history.Counts{Tables: len(tables)}}}
	text, err := json.Marshal(a)
	if err != nil {
		return history.Run{}, err
	}
	_, err = r.state.Put(ctx, runPrefix+id+".json", bytes.NewReader(text), bucket.PutOptions{IfAbsent: true})
	if errors.Is(err, bucket.ErrExists) {
		// The same key again. It may be that only the object was written: the messages are sent again, and those that were sent are known.
		if a, err = r.read(ctx, id); err == nil && a.Run.Function != inv.Function {
			err = &functions.EventError{Problem: "the idempotency key was used for another request", Try: "give each request its own"}
		}
	}
	if err == nil {
		err = r.enlist(ctx, a.Run)
	}
	if err != nil {
		return history.Run{}, err
	}
	return a.Run, r.send(ctx, a)
}

func (r *runs) send(ctx context.Context, a asked) error {
	h, err := r.as(a.Run.Function)
	if err != nil {
		return err
	}
	list := make([]job, len(a.Tables))
	for i, name := range a.Tables {
		if list[i], err = h.jobOf(request{ID: a.Run.ID, Event: a.Run.Event}, name); err != nil {
			return err
		}
	}
	return h.spread(ctx, list)
}

// jobOf is jobFor, for functions too whose event names a single table.
func (h *handler) jobOf(in request, name string) (job, error) {
	if uses[h.set.Function].replace {
		return job{ID: in.ID, Event: in.Event, Table: name}, nil
	}
	return h.jobFor(in, name)
}

// runID is the same for the same idempotency key.
func runID(inv jobs.Invocation) (string, error) {
	if inv.IdempotencyKey != "" {
		return uuid.NewSHA1(uuid.NameSpaceOID, []byte("tablekeeper "+inv.Function+" "+inv.IdempotencyKey)).String(), nil
	}
	id, err := uuid.NewV7()
	return id.String(), err
}

func (r *runs) read(ctx context.Context, id string) (a asked, err error) {
	if uuid.Validate(id) != nil {
		return a, fmt.Errorf("no run %q: %w", id, fs.ErrNotExist)
	}
	text, err := readAll(ctx, r.state, runPrefix+id+".json")
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	if err != nil {
		return a, fmt.Errorf("read run %s: %w", id, err)
	}
	return a, nil
}

// Find implements admin.History.
func (r *runs) Find(ctx context.Context, id string) (string, error) {
	a, err := r.read(ctx, id)
	return a.Run.ID, err
}

// Get implements admin.History: the run as its marks say it is now.
func (r *runs) Get(ctx context.Context, id string) (history.Run, error) {
	a, err := r.read(ctx, id)
	if err != nil {
		return a.Run, err
	}
	return r.now(ctx, a)
}

func (r *runs) now(ctx context.Context, a asked) (history.Run, error) {
	run := a.Run
	marks, changed, err := r.marks(ctx, a)
	if err != nil {
		return run, err
	}
	for _, name := range a.Tables {
		run.Entries = append(run.Entries, r.entry(name, marks))
	}
	count(&run)
	switch {
	case run.Status.Ended() && changed.After(run.Queued):
		run.Ended, run.DurationMS = changed.UTC(), changed.Sub(run.Queued).Milliseconds()
	case run.Status == history.Running:
		run.DurationMS = max(0, r.Now().Sub(run.Queued).Milliseconds())
	}
	return run, nil
}

// marks is how the keys of the marks of a run begin.
func (a asked) marks() string { return eventPrefix + a.Run.Function + "/" + a.Run.ID + "/" }

// marks are those of a run, by table, and when the last of them was changed, by the store's clock.
func (r *runs) marks(ctx context.Context, a asked) (_ map[string]mark, changed time.Time, _ error) {
	var (
		mu   sync.Mutex
		errs []error
		wg   sync.WaitGroup
	)
	all := map[string]mark{}
	slots := make(chan struct{}, readers)
	for info, err := range r.state.List(ctx, a.marks(), "") {
		if err != nil {
			wg.Wait()
			return nil, changed, fmt.Errorf("look how run %s goes: %w", a.Run.ID, err)
		}
		if info.Modified.After(changed) {
			changed = info.Modified
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var m mark
			text, err := readAll(ctx, r.state, info.Key)
			if err == nil {
				err = json.Unmarshal(text, &m)
			}
			mu.Lock()
			defer mu.Unlock()
			all[path.Base(info.Key)], errs = m, append(errs, err)
		})
	}
	wg.Wait()
	return all, changed, errors.Join(errs...)
}

func (r *runs) entry(table string, marks map[string]mark) history.Entry {
	m := marks[markName(table)]
	e := history.Entry{Table: table, Status: history.EntryPending}
	switch m.State {
	case begun:
		if r.Now().Before(m.Until) { // else whoever began is dead, and the queue hands the table to another
			e.Status = history.EntryRunning
		}
	case done, fails:
		if json.Unmarshal(m.Entry, &e) != nil {
			e = history.Entry{Table: table, Status: history.EntryFailed}
		}
		if m.State == fails {
			e.Status = history.EntryFailed
		}
	}
	return e
}

// markName is the last part of the key of a table's mark.
func markName(table string) string { return unsafeInKeys.ReplaceAllString(table, "-") }

// count gives a run the status of its entries. A table that failed is tried three times: its run may begin again.
func count(run *history.Run) {
	open, running := 0, false
	c := history.Counts{Tables: len(run.Entries)}
	for _, e := range run.Entries {
		switch e.Status {
		case history.EntryPending, history.EntryRunning:
			open++
			running = running || e.Status == history.EntryRunning
		case history.EntryFailed:
			c.Failed++
		case history.EntrySkipped:
			c.Skipped++
		default:
			c.Done++
		}
	}
	run.Counts = c
	switch {
	case open == len(run.Entries) && open > 0 && !running:
		run.Status = history.Queued
	case open > 0:
		run.Status = history.Running
	case c.Failed > 0 && c.Failed == c.Tables:
		run.Status = history.Failed
	case c.Failed > 0:
		run.Status = history.Partial
	default:
		run.Status = history.Succeeded
	}
}

// WaitRun implements admin.Runner: work is done elsewhere, and nobody waits for it here.
func (r *runs) WaitRun(context.Context, string) (history.Run, error) {
	return history.Run{}, jobs.ErrNotActive
}

// Live implements admin.Runner.
func (r *runs) Live(string) (history.Run, bool) { return history.Run{}, false }

// Active implements admin.Runner.
func (r *runs) Active() []history.Run { return nil }

// Cancel implements admin.Runner.
func (r *runs) Cancel(string) error { return jobs.ErrNotActive }

// The history of other runs is in the functions' logs; the routes that would show it are not served.

// Entries implements admin.History.
func (r *runs) Entries(context.Context, history.Filter) (history.Records, error) {
	return history.Records{}, nil
}

// Latest implements admin.History.
func (r *runs) Latest(context.Context, string) (map[string]history.Record, error) { return nil, nil }

// noEvents is the log of a stream that nobody can listen to here.
type noEvents struct{}

// AppendEvents implements events.Log.
func (noEvents) AppendEvents(context.Context, []events.Event) error { return errors.ErrUnsupported }

// EventsAfter implements events.Log.
func (noEvents) EventsAfter(context.Context, int64, int) ([]events.Event, error) { return nil, nil }

// EventBounds implements events.Log.
func (noEvents) EventBounds(context.Context) (first, last int64, err error) { return 0, 0, nil }

func newBus() *events.Bus { return events.NewBus(events.Options{Log: noEvents{}}) }

// noSchedules: EventBridge Scheduler has them.
type noSchedules struct{}

func (noSchedules) States() []schedule.State             { return nil }
func (noSchedules) Upcoming(string, int) []time.Time     { return nil }
func (noSchedules) Pause(context.Context, string) error  { return errors.ErrUnsupported }
func (noSchedules) Resume(context.Context, string) error { return errors.ErrUnsupported }
