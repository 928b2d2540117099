package jobs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"tablekeeper/jobs/history"
	"tablekeeper/jobs/template"
)

// run is one run under way. What is recorded of it is in rec; everything below mu is guarded by it.
type run struct {
	r      *Runner
	spec   template.Function
	fn     Function
	over   []string        // the functions that stand aside for this run
	ctx    context.Context // the run's own: it outlives whoever asked
	cancel context.CancelCauseFunc
	done   chan struct{} // closed, once, when rec is final
	once   sync.Once
	// accepted is closed when it is known whether an earlier run has the idempotency key; then rec is that run.
	accepted chan struct{}
	refusal  error // the earlier run is of another function; set before accepted is closed
	id, key  string

	mu       sync.Mutex
	rec      history.Run
	final    bool
	changed  bool         // something is not saved
	dirty    map[int]bool // entries that changed since they were saved
	phases   int          // phases and log lines that were saved
	lines    int
	failures map[int]error // last error of each table that failed
	deserted map[int]bool  // tables whose function goes on after its time
	told     time.Time     // last progress event

	saving  sync.Mutex // one Save at a time, or an older state could overwrite a newer one
	unsaved bool       // the last Save did not succeed
}

func newRun(r *Runner, spec template.Function, fn Function, inv Invocation, id string) *run {
	x := &run{r: r, spec: spec, fn: fn, id: id, key: inv.IdempotencyKey, done: make(chan struct{}), accepted: make(chan struct{}), dirty: map[int]bool{}, failures: map[int]error{}, deserted: map[int]bool{}}
	x.ctx, x.cancel = context.WithCancelCause(context.Background())
	if urgent, ok := fn.(Urgent); ok {
		x.over = urgent.Over(inv.Event)
	}
	x.rec = history.Run{ID: id, Function: spec.Name, Job: inv.Job, Trigger: inv.Trigger, Actor: inv.Actor, RetryOf: inv.RetryOf,
		IdempotencyKey: inv.IdempotencyKey, Event: inv.Event, Status: history.Queued, Queued: r.now().UTC().Round(0)}
	return x
}

// scheduled reports whether a schedule asked: then a table that the same function works on is passed over, not waited
// for. The schedule comes again.
func (x *run) scheduled() bool {
	return x.rec.Trigger == TriggerSchedule || x.rec.Trigger == TriggerCatchUp
}

// head is the run without its parts.
func (x *run) head() history.Run {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.headLocked()
}

func (x *run) headLocked() history.Run {
	head := x.rec
	head.Entries, head.Phases, head.Log = nil, nil, nil
	return head
}

// full is the run with its parts, as they are now.
func (x *run) full() history.Run {
	x.mu.Lock()
	defer x.mu.Unlock()
	full := x.rec
	full.Entries = append([]history.Entry(nil), x.rec.Entries...)
	full.Phases = append([]history.Phase(nil), x.rec.Phases...)
	full.Log = append([]history.LogLine(nil), x.rec.Log...)
	return full
}

// work does the run, from the event to the record. Whoever waits for its end finds it under way no more.
func (x *run) work() {
	defer x.end()
	defer x.r.leave(x)
	defer x.cancel(nil)
	flushing, stopFlushing := context.WithCancel(context.Background())
	flushed := make(chan struct{})
	go func() { defer close(flushed); x.flushEvery(flushing) }()
	condition := x.tables()
	stopFlushing()
	<-flushed
	x.finish(condition)
}

// tables expands the event and works on every table, with retries. It returns why there are no more of them.
func (x *run) tables() (condition string) {
	x.update(func(rec *history.Run) { rec.Status, rec.Started = history.Running, x.r.now().UTC().Round(0) })
	tables, err := expand(x.ctx, x.fn, x.rec.Event)
	if err != nil {
		x.refuse(err)
		return "RetriesExhausted"
	}
	todo := x.begin(tables)
	for number := 1; ; number++ {
		x.pass(todo, number)
		if todo = x.retryable(todo); len(todo) == 0 || number > x.spec.MaxRetries || x.ctx.Err() != nil {
			return "RetriesExhausted"
		}
		wait := x.r.cfg.Backoff(number + 1)
		if x.r.now().Add(wait).Sub(x.rec.Queued) > x.spec.MaxEventAge {
			return "EventAgeExceeded"
		}
		x.note("WARN", "", "some tables failed and are tried again", fmt.Sprintf("tables=%d wait=%v attempt=%d", len(todo), wait, number+1))
		select {
		case <-x.ctx.Done():
		case <-time.After(wait):
		}
	}
}

// refuse ends a run whose event could not be expanded.
func (x *run) refuse(err error) {
	if x.ctx.Err() != nil {
		return // finish says why
	}
	x.update(func(rec *history.Run) { rec.Error, rec.Hint = err.Error(), hintOf(err) })
}

func (x *run) begin(tables []string) (todo []int) {
	if tables == nil {
		tables = []string{""}
	}
	x.update(func(rec *history.Run) {
		rec.Counts.Tables = len(tables)
		rec.Entries = make([]history.Entry, len(tables))
		for i, t := range tables {
			rec.Entries[i] = history.Entry{Table: t, Status: history.EntryPending}
			x.dirty[i] = true
			todo = append(todo, i)
		}
	})
	x.save(x.ctx)
	return todo
}

// pass tries each table once. Tables that others hold come last: meanwhile they may have become free. An urgent run waits for each at once:
// its turn is kept only while it waits.
func (x *run) pass(todo []int, number int) {
	held := todo
	if len(x.over) == 0 {
		held = x.each(todo, func(i int) *busy { return x.table(i, number, 0) })
	}
	until := x.r.now().Add(x.r.cfg.LockWait)
	x.each(held, func(i int) *busy {
		b := x.table(i, number, max(time.Millisecond, until.Sub(x.r.now())))
		for b != nil && b.aside {
			b = x.table(i, number, x.r.cfg.LockWait)
		}
		if b != nil {
			x.locked(i, b)
		}
		return nil
	})
}

// each calls do for tables, as many at a time as the runner allows, and gives those that were busy.
func (x *run) each(todo []int, do func(i int) *busy) (held []int) {
	var next atomic.Int64
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range min(len(todo), x.r.cfg.Concurrency) {
		workers.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= len(todo) || x.ctx.Err() != nil {
					return
				}
				if do(todo[n]) != nil {
					mu.Lock()
					held = append(held, todo[n])
					mu.Unlock()
				}
			}
		})
	}
	workers.Wait()
	return held
}

// table locks a table, waits for a slot and makes one attempt. It gives whoever holds the table, or needed it more.
func (x *run) table(i, number int, patience time.Duration) *busy {
	name := x.name(i)
	working, end := context.WithCancelCause(x.ctx)
	defer end(nil)
	unlock, held, err := x.lock(working, end, name, patience)
	switch {
	case held != nil && held.overlap && x.scheduled():
		x.locked(i, held)
		return nil
	case held != nil:
		return held
	case working.Err() != nil:
		if unlock != nil {
			unlock()
		}
		return x.aside(working, name)
	case err != nil:
		x.settle(i, number, attempt{err: fmt.Errorf("lock table %s: %w", name, err)})
		return nil
	}
	slots := x.slots()
	select {
	case <-working.Done():
		unlock()
		return x.aside(working, name)
	case slots <- struct{}{}:
	}
	before := x.running(i, number)
	a := x.attempt(working, name, number)
	<-slots
	if a.deserted != nil {
		x.r.log.Error("function ignores the end of its context; its table stays locked until it returns", "run", x.id, "function", x.spec.Name, "table", name)
		go func() { <-a.deserted; unlock() }()
	} else {
		unlock()
	}
	if held := x.aside(working, name); held != nil && a.stopped {
		x.update(func(rec *history.Run) { rec.Entries[i] = before })
		return held
	}
	x.settle(i, number, a)
	return nil
}

func (x *run) slots() chan struct{} {
	if len(x.over) > 0 {
		return x.r.urgent
	}
	return x.r.slots
}

// running puts down that a table is worked on and gives its entry as it was.
func (x *run) running(i, number int) (before history.Entry) {
	x.update(func(rec *history.Run) {
		before = rec.Entries[i]
		rec.Entries[i].Status, rec.Entries[i].Attempts = history.EntryRunning, number
		rec.Attempts = max(rec.Attempts, number)
	})
	return before
}

// aside is the run that ended the work on a table because it needs it, if one did.
func (x *run) aside(working context.Context, table string) *busy {
	urgent, ok := errors.AsType[*asideError](context.Cause(working))
	if !ok {
		return nil
	}
	x.note("WARN", table, "stood aside", "for="+strconv.Quote(urgent.holder))
	return &busy{holder: urgent.holder, aside: true}
}

func (x *run) name(i int) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.rec.Entries[i].Table
}

// settle puts down how an attempt went.
func (x *run) settle(i, number int, a attempt) {
	x.update(func(rec *history.Run) {
		rec.Entries[i], a.err = entryOf(rec.Entries[i].Table, number, a, x.ctx.Err() != nil)
		x.dirty[i] = true
		delete(x.failures, i)
		if a.err != nil {
			x.failures[i] = a.err
		}
		if a.deserted != nil {
			x.deserted[i] = true
		}
	})
	x.progress(Progress{Table: x.name(i)}, true)
}

// locked puts down that a table was passed over.
func (x *run) locked(i int, b *busy) {
	reason := "locked"
	if b.overlap {
		reason = "overlap"
	}
	x.update(func(rec *history.Run) {
		if rec.Entries[i].Attempts == 0 { // else it has failed already, and that is what counts
			rec.Entries[i] = skippedEntry(rec.Entries[i].Table, reason, b.holder)
			x.dirty[i] = true
		}
	})
}

// retryable are those of the tables that failed and may succeed the next time.
func (x *run) retryable(todo []int) (again []int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, i := range todo {
		if err := x.failures[i]; err != nil && !x.deserted[i] && !isPermanent(err) {
			again = append(again, i)
		}
	}
	return again
}
