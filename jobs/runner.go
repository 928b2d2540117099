package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
	"tablekeeper/jobs/template"
)

// Config of a Runner. Template, History and Functions are required; other zero fields are defaults.
type Config struct {
	Template  *template.Template
	History   *history.Store
	Functions map[string]Function // by short name: compact, backup, ...

	Bus         *events.Bus        // nil: nobody is told
	Locker      Locker             // nil: only this process works on the tables
	OnFailure   FailureDestination // nil: the bus alone
	Recorded    func(history.Run)  // is told of each run when its end is in the history; nil: nobody is
	Concurrency int                // tables worked on at a time, over all runs; default 4; urgent runs have as many again
	MaxRuns     int                // runs under way at a time; default 1000
	LockWait    time.Duration      // how long a run waits for tables that others hold; default 30 s
	Abandon     time.Duration      // how long an attempt may ignore the end of its context; default 10 s
	// Backoff is the wait before an attempt (2, 3, ...). Default: 1 s, doubled each time, up to a minute, with jitter.
	Backoff func(attempt int) time.Duration
	Now     func() time.Time // default time.Now
	Logger  *slog.Logger     // default: discards
}

// Runner runs functions. Safe for concurrent use.
type Runner struct {
	cfg    Config
	log    *slog.Logger
	now    func() time.Time
	locks  *tableLocks
	slots  chan struct{} // one token per table that is worked on; waiting for one is first come, first served
	urgent chan struct{} // as many again for urgent runs, which do not wait behind the others

	mu     sync.Mutex
	closed bool
	active map[string]*run
	keys   map[string]*run // active runs by idempotency key
	idle   *sync.Cond      // told whenever a run leaves active
	late   []*run          // ended, and not recorded yet
}

// New makes a runner. Every function must be declared in the template.
func New(cfg Config) (*Runner, error) {
	for name := range cfg.Functions {
		if f, ok := cfg.Template.Function(name); !ok || f.Name != name {
			return nil, fmt.Errorf("function %s is not declared in %s", name, cfg.Template.File)
		}
	}
	cfg.fill()
	r := &Runner{cfg: cfg, log: cfg.Logger, now: cfg.Now, locks: newTableLocks(), slots: make(chan struct{}, cfg.Concurrency), urgent: make(chan struct{}, cfg.Concurrency),
		active: map[string]*run{}, keys: map[string]*run{}}
	r.idle = sync.NewCond(&r.mu)
	return r, nil
}

func (c *Config) fill() {
	if c.Concurrency <= 0 {
		c.Concurrency = DefaultConcurrency
	}
	if c.MaxRuns <= 0 {
		c.MaxRuns = 1000
	}
	if c.LockWait == 0 {
		c.LockWait = DefaultLockWait
	}
	if c.Abandon == 0 {
		c.Abandon = DefaultAbandon
	}
	if c.Backoff == nil {
		c.Backoff = backoff
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// backoff waits between half and the whole of 1 s, 2 s, 4 s, ... so that runs that failed together do not come back
// together.
func backoff(attempt int) time.Duration {
	d := min(time.Minute, time.Second<<min(max(attempt-2, 0), 6))
	return d/2 + rand.N(d/2+1)
}

// Invoke runs a function, as Lambda's Invoke does. An error means that nothing was run: the function or its event are
// wrong, or the runner does not take work. How the run itself went is in the run: failed tables are no error here.
//
// Sync: the run has ended, and has its entries. If ctx ends first the run is cancelled. Async: the run is queued.
// DryRun: the run is not recorded and has no id; its entries are the tables that would be worked on.
//
// An invocation with the idempotency key of an earlier one does nothing and gives that run; a Sync one waits for its end
// if it is under way in this process.
func (r *Runner) Invoke(ctx context.Context, inv Invocation) (history.Run, error) {
	if err := ctx.Err(); err != nil {
		return history.Run{}, err
	}
	spec, fn, err := r.function(inv.Function)
	if err != nil {
		return history.Run{}, err
	}
	if inv.Event, err = object(inv.Event); err != nil {
		return history.Run{}, &EventError{Function: spec.Name, Err: err}
	}
	if inv.Trigger == "" {
		inv.Trigger = TriggerCLI
	}
	if inv.Type == DryRun {
		return r.dryRun(ctx, spec, fn, inv)
	}
	x, ours, err := r.accept(ctx, spec, fn, inv)
	if err != nil {
		return history.Run{}, err
	}
	if inv.Type == Async {
		return x.head(), nil
	}
	select {
	case <-x.done:
	case <-ctx.Done():
		if !ours {
			return x.full(), ctx.Err()
		}
		x.cancel(fmt.Errorf("%w: %w", ErrCallerLeft, context.Cause(ctx)))
		<-x.done
	}
	return x.full(), nil
}

func (r *Runner) function(name string) (template.Function, Function, error) {
	spec, declared := r.cfg.Template.Function(name)
	fn, known := r.cfg.Functions[spec.Name]
	if declared && known {
		return spec, fn, nil
	}
	var names []string
	for _, n := range r.cfg.Template.Names() {
		if _, ok := r.cfg.Functions[n]; ok {
			names = append(names, n)
		}
	}
	return spec, nil, &UnknownFunctionError{Name: name, Suggestion: template.Suggest(name, names), Known: names}
}

// object checks that an event is a JSON object; none is an empty one.
func object(event json.RawMessage) (json.RawMessage, error) {
	event = bytes.TrimSpace(event)
	if len(event) == 0 {
		return json.RawMessage(`{}`), nil
	}
	if event[0] != '{' {
		return nil, errors.New("is not a JSON object")
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, event); err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	return compact.Bytes(), nil
}

func (r *Runner) dryRun(ctx context.Context, spec template.Function, fn Function, inv Invocation) (history.Run, error) {
	tables, err := expand(ctx, fn, inv.Event)
	if err != nil {
		return history.Run{}, &EventError{Function: spec.Name, Err: err}
	}
	run := history.Run{Function: spec.Name, Trigger: inv.Trigger, Actor: inv.Actor, Event: inv.Event}
	for _, t := range tables {
		run.Entries = append(run.Entries, history.Entry{Table: t, Status: history.EntryPending})
	}
	run.Counts.Tables = len(tables)
	return run, nil
}

// accept records a run and starts it. For a known idempotency key it gives that run, which is not ours: it is under way,
// or long over.
func (r *Runner) accept(ctx context.Context, spec template.Function, fn Function, inv Invocation) (x *run, ours bool, err error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, false, fmt.Errorf("make a run id: %w", err)
	}
	x = newRun(r, spec, fn, inv, id.String())
	if known, err := r.admit(x); err != nil {
		return nil, false, err
	} else if known != nil {
		<-known.accepted
		return known, false, known.refusal
	}
	defer close(x.accepted)
	// That the caller goes away does not hide an earlier run: this one would do its work again.
	recording, stop := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer stop()
	first, begun, err := r.cfg.History.Begin(recording, x.head())
	if err != nil {
		// The work matters more than its record, which is tried again at every later step.
		r.log.Error("run is not recorded yet", "run", x.id, "function", spec.Name, "error", err)
		begun = true
	}
	if begun {
		x.update(func(rec *history.Run) { rec.Seq = first.Seq })
		go x.work()
		return x, true, nil
	}
	err = x.become(ctx, first)
	return x, false, err
}

// become makes a run that is not needed stand for the earlier one that has its idempotency key.
func (x *run) become(ctx context.Context, first history.Run) error {
	defer x.end()
	defer x.cancel(nil)
	defer x.r.leave(x)
	if first.Function != x.spec.Name {
		x.refusal = &KeyReusedError{Key: x.key, Function: first.Function, RunID: first.ID}
		return x.refusal
	}
	full, err := x.r.cfg.History.Get(ctx, first.ID)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.rec, x.final = first, true
	if err == nil {
		x.rec = full
	}
	return err
}

// admit adds a run to those under way, or gives the one that has its idempotency key.
func (r *Runner) admit(x *run) (known *run, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := x.key
	if other := r.keys[key]; key != "" && other != nil {
		if other.spec.Name != x.spec.Name {
			return nil, &KeyReusedError{Key: key, Function: other.spec.Name, RunID: other.id}
		}
		return other, nil
	}
	switch {
	case r.closed:
		return nil, ErrShuttingDown
	case len(r.active) >= r.cfg.MaxRuns:
		return nil, ErrTooMany
	}
	r.active[x.id] = x
	if key != "" {
		r.keys[key] = x
	}
	return nil, nil
}

func (r *Runner) leave(x *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.active, x.id)
	if key := x.key; r.keys[key] == x {
		delete(r.keys, key)
	}
	r.idle.Broadcast()
}

// Skip records a run that did not take place, with the reason: silence would be a failure.
func (r *Runner) Skip(ctx context.Context, inv Invocation, reason string) (history.Run, error) {
	r.log.Warn("run skipped", "function", inv.Function, "job", inv.Job, "reason", reason)
	return r.record(ctx, inv, func(rec *history.Run) { rec.Status, rec.Reason = history.Skipped, reason })
}

// record keeps a run that is over before it began.
func (r *Runner) record(ctx context.Context, inv Invocation, decide func(rec *history.Run)) (history.Run, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return history.Run{}, fmt.Errorf("make a run id: %w", err)
	}
	x := newRun(r, template.Function{Name: inv.Function}, nil, inv, id.String())
	defer x.cancel(nil)
	x.rec.Ended = x.rec.Queued
	decide(&x.rec)
	run, _, err := r.cfg.History.Begin(ctx, x.rec)
	return run, err
}

// Cancel ends a run that is under way in this process. The run is still to be waited for.
func (r *Runner) Cancel(runID string) error {
	x := r.find(runID)
	if x == nil {
		return fmt.Errorf("cancel run %s: %w", runID, ErrNotActive)
	}
	x.cancel(ErrCancelled)
	return nil
}

func (r *Runner) find(runID string) *run {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.active[runID]
}

// Active are the heads of the runs under way in this process, in no order.
func (r *Runner) Active() []history.Run {
	r.mu.Lock()
	runs := make([]*run, 0, len(r.active))
	for _, x := range r.active {
		runs = append(runs, x)
	}
	r.mu.Unlock()
	heads := make([]history.Run, len(runs))
	for i, x := range runs {
		heads[i] = x.head()
	}
	return heads
}

// Live is a run that is under way in this process, with its entries, phases and log so far.
func (r *Runner) Live(runID string) (history.Run, bool) {
	x := r.find(runID)
	if x == nil {
		return history.Run{}, false
	}
	return x.full(), true
}

// Holder says which run of this process is at work on a table.
func (r *Runner) Holder(table string) (Owner, bool) { return r.locks.holder("table/" + table) }

// WaitRun waits for a run that is under way in this process and gives it with its entries.
func (r *Runner) WaitRun(ctx context.Context, runID string) (history.Run, error) {
	x := r.find(runID)
	if x == nil {
		return history.Run{}, fmt.Errorf("wait for run %s: %w", runID, ErrNotActive)
	}
	select {
	case <-x.done:
		return x.full(), nil
	case <-ctx.Done():
		return x.full(), ctx.Err()
	}
}

// Wait waits until no run is under way.
func (r *Runner) Wait() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.active) > 0 {
		r.idle.Wait()
	}
}

// Shutdown takes no more work, cancels what is under way and waits for it. Runs that have not ended when ctx does are
// recorded as lost, and are the error.
func (r *Runner) Shutdown(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	runs := make([]*run, 0, len(r.active))
	for _, x := range r.active {
		runs = append(runs, x)
	}
	r.mu.Unlock()
	for _, x := range runs {
		x.cancel(ErrShuttingDown)
	}
	var errs []error
	for _, x := range runs {
		select {
		case <-x.done:
			continue
		default:
		}
		select {
		case <-x.done:
		case <-ctx.Done():
			x.giveUp()
			errs = append(errs, fmt.Errorf("run %s of %s did not stop: %w", x.id, x.spec.Name, ctx.Err()))
		}
	}
	r.recordLate(ctx)
	return errors.Join(errs...)
}

// Reap finds runs that died with their process, records them as lost and tells of them. Call it at the start.
func (r *Runner) Reap(ctx context.Context) ([]history.Run, error) {
	lost, err := r.cfg.History.Reap(ctx)
	for _, run := range lost {
		r.log.Error("run was lost", "run", run.ID, "function", run.Function, "error", run.Error)
		if full, err := r.cfg.History.Get(ctx, run.ID); err == nil {
			run = full
		}
		r.tell(run)
		r.failed(ctx, run, "RetriesExhausted")
	}
	return lost, err
}
