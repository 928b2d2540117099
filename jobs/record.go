package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tablekeeper/jobs/history"
)

const (
	flushInterval = 500 * time.Millisecond
	saveTimeout   = 30 * time.Second
)

// update changes the run's record, unless it is final.
func (x *run) update(change func(rec *history.Run)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.final {
		change(&x.rec)
		x.changed = true
	}
}

// flushEvery saves what has changed, now and then: one fsync for many tables.
func (x *run) flushEvery(ctx context.Context) {
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			x.mu.Lock()
			changed := x.changed
			x.mu.Unlock()
			if changed {
				x.save(ctx)
			}
		}
	}
}

// save writes what has changed to the history. A history that cannot be written stops nothing: the change waits for the
// next save.
func (x *run) save(ctx context.Context) {
	x.saving.Lock()
	defer x.saving.Unlock()
	c := x.change()
	err := x.r.cfg.History.Save(ctx, c)
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil {
		x.changed = true
		for _, e := range c.Entries {
			x.dirty[e.N] = true
		}
		if !x.unsaved && ctx.Err() == nil {
			x.r.log.Error("run is not recorded for now; the work goes on", "run", x.id, "function", x.spec.Name, "error", err)
			x.unsaved = true
		}
		return
	}
	x.unsaved = false
	x.phases, x.lines = c.PhaseFrom+len(c.Phases), c.LogFrom+len(c.Log)
}

// saved tells whether the history has all there is.
func (x *run) saved() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.changed
}

func (x *run) change() history.Change {
	x.mu.Lock()
	defer x.mu.Unlock()
	c := history.Change{Run: x.headLocked(), PhaseFrom: x.phases, LogFrom: x.lines}
	for i := range x.dirty {
		c.Entries = append(c.Entries, history.NumberedEntry{N: i, Entry: x.rec.Entries[i]})
	}
	clear(x.dirty)
	x.changed = false
	c.Phases = append(c.Phases, x.rec.Phases[x.phases:]...)
	c.Log = append(c.Log, x.rec.Log[x.lines:]...)
	return c
}

// finish decides how the run went, records it and tells of it.
func (x *run) finish(condition string) {
	x.close(func(rec *history.Run) {
		stopped := x.ctx.Err() != nil && x.sweepUp(stopReason(context.Cause(x.ctx)))
		x.judge(stopped)
	}, condition)
}

// giveUp ends the record of a run that does not stop. Its process is about to end.
func (x *run) giveUp() {
	ours := x.close(func(rec *history.Run) {
		for i, e := range rec.Entries {
			if e.Status == history.EntryRunning {
				rec.Entries[i].Status, rec.Entries[i].Reason = history.EntryLost, "lost"
				x.dirty[i] = true
			}
		}
		x.sweepUp(reasonShutdown)
		rec.Counts = count(rec.Entries)
		rec.Status, rec.Error = history.Lost, "the service stopped while it was at work, and it did not stop in time"
		rec.Hint = "look at the tables it had begun; the next scheduled run takes them up again"
	}, "RetriesExhausted")
	if ours {
		x.end()
	}
}

// close makes the record final, once: it tells whether it was this call that did.
func (x *run) close(decide func(rec *history.Run), condition string) bool {
	x.mu.Lock()
	if x.final {
		x.mu.Unlock()
		return false
	}
	decide(&x.rec)
	x.rec.Ended = x.r.now().UTC().Round(0)
	if x.rec.Ended.Before(x.rec.Queued) {
		x.rec.Ended = x.rec.Queued // the clock was set back
	}
	if !x.rec.Started.IsZero() {
		x.rec.DurationMS = max(0, x.rec.Ended.Sub(x.rec.Started).Milliseconds())
	}
	x.final = true
	x.mu.Unlock()
	ctx, stop := context.WithTimeout(context.Background(), saveTimeout)
	defer stop()
	x.save(ctx)
	run := x.full()
	if x.saved() {
		x.r.recorded(run)
	} else {
		x.r.keepFor(x)
	}
	x.r.report(run)
	x.r.tell(run)
	x.r.failed(ctx, run, condition)
	return true
}

func (r *Runner) recorded(run history.Run) {
	if r.cfg.Recorded != nil {
		r.cfg.Recorded(run)
	}
}

// maxLate is how many runs are kept for a history that cannot be written. The oldest go first: they will be found lost.
const maxLate = 1000

// keepFor keeps a run whose end is not in the history, where it would be under way for ever.
func (r *Runner) keepFor(late ...*run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.late = append(r.late, late...)
	r.late = r.late[max(0, len(r.late)-maxLate):]
}

// recordLate writes the ends of runs for which there was no room, as long as there is.
func (r *Runner) recordLate(ctx context.Context) {
	r.mu.Lock()
	late := r.late
	r.late = nil
	r.mu.Unlock()
	for i, x := range late {
		x.save(ctx)
		if !x.saved() {
			r.keepFor(late[i:]...)
			return
		}
		r.log.Info("run is recorded after all", "run", x.id, "function", x.spec.Name)
		r.recorded(x.full())
	}
}

// end lets go of those who wait for the run.
func (x *run) end() { x.once.Do(func() { close(x.done) }) }

const reasonShutdown = "shutdown"

func stopReason(cause error) string {
	switch {
	case errors.Is(cause, ErrShuttingDown):
		return reasonShutdown
	case errors.Is(cause, ErrCallerLeft):
		return "caller_left"
	}
	return "cancelled"
}

// sweepUp gives the tables that were never tried their reason. It reports whether the run was stopped before its end.
func (x *run) sweepUp(reason string) (stopped bool) {
	stopped = len(x.rec.Entries) == 0
	for i, e := range x.rec.Entries {
		if e.Status == history.EntryPending {
			x.rec.Entries[i] = skippedEntry(e.Table, reason, "")
			x.dirty[i] = true
			stopped = true
		}
		stopped = stopped || e.Status == history.EntryFailed && e.Reason == "cancelled"
	}
	if stopped {
		x.rec.Reason = reason
	}
	return stopped
}

func count(entries []history.Entry) history.Counts {
	c := history.Counts{Tables: len(entries)}
	for _, e := range entries {
		switch e.Status {
		case history.EntryFailed, history.EntryLost, statusDegraded:
			c.Failed++
		case history.EntrySkipped, history.EntryPending:
			c.Skipped++
		default:
			c.Done++
		}
	}
	return c
}

// judge decides the status of the run from those of its tables.
func (x *run) judge(stopped bool) {
	rec := &x.rec
	rec.Counts = count(rec.Entries)
	switch {
	case stopped:
		rec.Status = history.Cancelled
		rec.Error = context.Cause(x.ctx).Error()
	case rec.Error != "":
		rec.Status = history.Failed
	case rec.Counts.Failed == 0:
		rec.Status = history.Succeeded
		if reason, all := passedOver(rec.Entries); all {
			rec.Status, rec.Reason = history.Skipped, reason
		}
	default:
		rec.Status = x.failure()
	}
}

// passedOver reports whether no table was tried because others were at work on every one.
func passedOver(entries []history.Entry) (reason string, all bool) {
	for _, e := range entries {
		if e.Status != history.EntrySkipped || e.Attempts > 0 || e.Reason != "locked" && e.Reason != "overlap" {
			return "", false
		}
		reason = e.Reason
	}
	return reason, len(entries) > 0
}

func (x *run) failure() history.Status {
	rec := &x.rec
	first, timedOut := -1, 0
	for i, e := range rec.Entries {
		if e.Status != history.EntryFailed && e.Status != statusDegraded {
			continue
		}
		if first < 0 {
			first = i
		}
		if e.Reason == "timed_out" {
			timedOut++
		}
	}
	rec.Error = rec.Entries[first].Reason
	if err := x.failures[first]; err != nil {
		rec.Error, rec.Hint = err.Error(), hintOf(err)
	}
	if t := rec.Entries[first].Table; t != "" {
		rec.Error = t + ": " + rec.Error
	}
	if rec.Counts.Failed > 1 {
		rec.Error = fmt.Sprintf("%d of %d tables failed; %s", rec.Counts.Failed, rec.Counts.Tables, rec.Error)
	}
	switch {
	case rec.Counts.Failed < rec.Counts.Tables:
		return history.Partial
	case timedOut == rec.Counts.Tables:
		return history.TimedOut
	}
	return history.Failed
}
