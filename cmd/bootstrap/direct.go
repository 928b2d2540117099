package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"tablekeeper/functions"
)

// report is the answer to an event.
type report struct {
	Function     string            `json:"function"`
	EventID      string            `json:"event_id"`
	Tables       int               `json:"tables"`
	Skipped      int               `json:"skipped"`
	Failed       int               `json:"failed"`
	Dispatched   int               `json:"dispatched,omitempty"`   // messages sent to workers
	Remaining    []string          `json:"remaining,omitempty"`    // tables there was no time for
	Redispatched int               `json:"redispatched,omitempty"` // of which so many are in the queue now
	Entries      []json.RawMessage `json:"entries,omitempty"`

	errs  []error
	bytes int
}

// maxAnswer is how much of an answer may be entries, in bytes: Lambda allows 6 MB.
const maxAnswer = 4 << 20

// errUnfinished: there was no time for all tables, and no queue to put them in.
var errUnfinished = errors.New("the invocation ended before all tables were worked on")

// result is what came of one job.
type result struct {
	job   job
	entry json.RawMessage
	err   error
	begun bool
}

// add counts a result.
func (r *report) add(res result) {
	var e functions.Entry
	if json.Unmarshal(res.entry, &e) == nil && e.Status == functions.Skipped && res.err == nil {
		r.Skipped++
	}
	if res.err != nil {
		r.Failed++
		r.errs = append(r.errs, fmt.Errorf("%s: %w", res.job.Table, res.err))
	}
	if r.bytes += len(res.entry); len(res.entry) > 0 && r.bytes < maxAnswer {
		r.Entries = append(r.Entries, res.entry)
	}
}

// err is the first failure, and how many there are.
func (r *report) err() error {
	switch len(r.errs) {
	case 0:
		return nil
	case 1:
		return r.errs[0]
	}
	return fmt.Errorf("%d of %d tables failed; the first: %w", len(r.errs), r.Tables, r.errs[0])
}

// margin is what is kept of the time that an invocation has left, to put back what is not done and to answer.
func margin(left time.Duration) time.Duration { return min(left/5, 15*time.Second) }

// inTime ends the work before Lambda ends the process.
func inTime(ctx context.Context, now time.Time) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-margin(deadline.Sub(now))))
}

// direct does an event here, all its tables.
func (h *handler) direct(ctx context.Context, in request) ([]byte, error) {
	tables, err := h.expand(ctx, in.Event)
	if err != nil {
		return nil, err
	}
	r := &report{Function: h.set.Function, EventID: in.ID, Tables: len(tables)}
	jobs := make([]job, len(tables))
	for i, name := range tables {
		jobs[i] = job{ID: in.ID, Event: in.Event, Table: name}
	}
	if err := h.do(ctx, r, jobs); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// do works on the jobs and puts those back for which there is no time.
func (h *handler) do(ctx context.Context, r *report, jobs []job) error {
	var left []job
	for _, res := range h.all(ctx, jobs) {
		if res.begun && !res.unlucky() {
			r.add(res)
			continue
		}
		res.job.Generation++
		left = append(left, res.job)
		r.Remaining = append(r.Remaining, res.job.Table)
	}
	h.count(r)
	err := r.err()
	if len(left) > 0 && h.set.Queue == "" {
		return errors.Join(err, fmt.Errorf("%w: %d are left: %q", errUnfinished, len(left), r.Remaining))
	}
	if len(left) > 0 {
		if sent := h.queue.send(ctx, h.set.Queue, left); sent != nil {
			return errors.Join(err, fmt.Errorf("%w: %q: %w", errUnfinished, r.Remaining, sent))
		}
		r.Redispatched = len(left)
		h.Log.Warn("no time for all tables: the rest goes on in another invocation", "tables", r.Remaining)
	}
	return err
}

// errLate marks a job that began too late to say that the whole of an invocation is not enough for it.
var errLate = errors.New("it began late")

func (r result) unlucky() bool { return errors.Is(r.err, errLate) }

// all works on the jobs, some at a time, until the time is up.
func (h *handler) all(ctx context.Context, jobs []job) []result {
	start := h.Now()
	ctx, cancel := inTime(ctx, start)
	defer cancel()
	results := make([]result, len(jobs))
	var wg sync.WaitGroup
	slots := make(chan struct{}, h.set.Concurrency)
	for i, j := range jobs {
		results[i].job = j
		slots <- struct{}{}
		if ctx.Err() != nil {
			<-slots
			continue
		}
		results[i].begun = true
		wg.Go(func() {
			defer func() { <-slots }()
			late := h.late(ctx, start)
			entry, err := h.one(ctx, j)
			if late && outOfTime(err) && ctx.Err() != nil {
				err = fmt.Errorf("%w: %w", errLate, err)
			}
			results[i].entry, results[i].err = entry, err
		})
	}
	wg.Wait()
	return results
}

// late tells that a good part of the invocation is over.
func (h *handler) late(ctx context.Context, start time.Time) bool {
	deadline, ok := ctx.Deadline()
	return ok && h.Now().Sub(start) > deadline.Sub(start)/10
}

// expand finds the tables of an event.
func (h *handler) expand(ctx context.Context, event json.RawMessage) (names []string, err error) {
	if u := uses[h.set.Function]; u.replace {
		t, err := h.task(visit{})
		if err != nil {
			return nil, err
		}
		return t.tables(ctx, event) // one, which may be missing
	}
	s, remove, err := h.place.census(ctx, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	for _, p := range s.Problems() {
		if !p.Ignorable() {
			h.Log.Warn("not a table", "path", p.Path, "reason", string(p.Reason), "detail", p.Detail, "hint", p.Hint)
		}
	}
	t, err := h.task(visit{shelf: s})
	if err != nil {
		return nil, err
	}
	return t.tables(ctx, event)
}

// attempts is how often a table is begun anew because somebody else wrote it.
const attempts = 3

// one does one job, unless it is done already.
func (h *handler) one(ctx context.Context, j job) (entry json.RawMessage, err error) {
	c, entry, err := h.once.take(ctx, j.ID, j.Table)
	if err != nil {
		return nil, err
	}
	if c == nil {
		h.Log.Info("the event was delivered again, and is done", "event", j.ID, "table", j.Table)
		return entry, nil
	}
	start := h.Now()
	for range attempts {
		entry, err = h.attempt(ctx, j)
		if !errors.Is(err, errOvertaken) {
			break
		}
		h.Log.Info("begun anew", "table", j.Table, "error", err)
	}
	if ended := c.end(ctx, entry, err); ended != nil {
		h.Log.Warn("the event may be done again if it is delivered again", "event", j.ID, "table", j.Table, "error", ended)
	}
	h.line(ctx, j, entry, err, h.Now().Sub(start))
	return entry, err
}

// attempt works on the table once. A panic ends the table's work, and not that of the others.
func (h *handler) attempt(ctx context.Context, j job) (entry json.RawMessage, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			h.Log.Error("panic", "table", j.Table, "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
			entry, err = nil, &crash{cause}
		}
	}()
	err = h.place.with(ctx, j.Table, uses[h.set.Function], func(v visit) error {
		if v.absent {
			entry, err = h.absent(ctx, j, v)
			return err
		}
		t, err := h.task(v)
		if err == nil {
			entry, err = t.run(ctx, j.Event, j.Table)
		}
		if err == nil && v.keep != nil && h.set.Function == "compact" {
			h.find(v, j, entry)
		}
		return err
	})
	return entry, err
}

// line logs how a table's work ended, and asks for a recovery of a damaged one.
func (h *handler) line(ctx context.Context, j job, entry json.RawMessage, err error, took time.Duration) {
	var e functions.Entry
	if json.Unmarshal(entry, &e) != nil || err != nil {
		e.Status = functions.Failed
	}
	args := []any{"function", h.set.Function, "table", j.Table, "event", j.ID, "status", string(e.Status), "reason", e.Reason, "ms", took.Milliseconds()}
	if err == nil {
		h.Log.Info("done", args...)
		return
	}
	h.Log.Warn("done", append(args, "reason", reasonOf(err), "error", err, "hint", hintOf(err))...)
	if !damaged(err) || h.set.Recover == "" {
		return
	}
	event, _ := json.Marshal(map[string]string{"table": j.Table, "reason": h.set.Function + ": " + err.Error()}) // strings
	if err := h.queue.send(context.WithoutCancel(ctx), h.set.Recover, []job{{ID: j.ID, Event: event, Table: j.Table}}); err != nil {
		h.Log.Error("the damaged table is not recovered", "table", j.Table, "error", err)
	}
}

// count prints the figures of a report.
func (h *handler) count(r *report) {
	var bytes struct {
		BytesBefore int64 `json:"bytes_before"`
		BytesAfter  int64 `json:"bytes_after"`
		BytesStored int64 `json:"bytes_stored"`
	}
	figures := map[string]int64{"TablesDone": int64(r.Tables - r.Failed - r.Skipped - len(r.Remaining)), "TablesSkipped": int64(r.Skipped),
		"TablesFailed": int64(r.Failed), "TablesRemaining": int64(len(r.Remaining))}
	for _, entry := range r.Entries {
		bytes.BytesBefore, bytes.BytesAfter, bytes.BytesStored = 0, 0, 0
		if json.Unmarshal(entry, &bytes) == nil {
			figures["BytesBefore"] += bytes.BytesBefore
			figures["BytesAfter"] += bytes.BytesAfter
			figures["BytesStored"] += bytes.BytesStored
		}
	}
	if err := h.metrics.put(figures, map[string]any{"event": r.EventID}, false); err != nil {
		h.Log.Warn("metrics are lost", "error", err)
	}
}
