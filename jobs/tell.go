package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
)

const (
	progressInterval = 250 * time.Millisecond // between progress events of a run
	maxResults       = 500                    // entries in an event; failed ones first if there are more
)

// Outcome is the data of the event at the end of a run.
type Outcome struct {
	RunID      string          `json:"run_id"`
	Function   string          `json:"function"`
	Job        string          `json:"job,omitempty"`
	Trigger    string          `json:"trigger"`
	Actor      string          `json:"actor,omitempty"`
	Status     history.Status  `json:"status"`
	Reason     string          `json:"reason,omitempty"`
	Started    time.Time       `json:"started_at,omitzero"`
	DurationMS int64           `json:"duration_ms"`
	Attempts   int             `json:"attempts"`
	Counts     history.Counts  `json:"counts"`
	Error      string          `json:"error,omitempty"`
	Hint       string          `json:"hint,omitempty"`
	Results    []history.Entry `json:"results"`
	Truncated  bool            `json:"truncated,omitempty"` // there are more results than fit
}

// Add completes the results of an event that had no room for all, by the run's entries in the history. What the event says stays: a history
// that could not be written may know less.
func (o *Outcome) Add(all []history.Entry) {
	said := make(map[string]bool, len(o.Results))
	for _, e := range o.Results {
		said[e.Table] = true
	}
	for _, e := range all {
		if !said[e.Table] && e.Status != history.EntryPending && e.Status != history.EntryRunning {
			o.Results = append(o.Results, e)
		}
	}
}

// Progress is the data of a run_progress event.
type Progress struct {
	RunID    string         `json:"run_id"`
	Function string         `json:"function"`
	Table    string         `json:"table,omitempty"`
	Phase    string         `json:"phase,omitempty"`
	Done     int64          `json:"done"`
	Total    int64          `json:"total"` // 0: unknown
	Note     string         `json:"note,omitempty"`
	Counts   history.Counts `json:"counts"`
}

// EventType is the type of the event at the end of a run: tablekeeper.compaction_complete, tablekeeper.backup_failed.
func EventType(function string, failed bool) string {
	noun := map[string]string{"compact": "compaction", "recover": "recovery"}[function]
	if noun == "" {
		noun = function
	}
	if failed {
		return events.Prefix + noun + "_failed"
	}
	return events.Prefix + noun + "_complete"
}

// bad reports whether a run of this status is a failure to be told of.
func bad(s history.Status) bool {
	return slices.Contains([]history.Status{history.Failed, history.Partial, history.TimedOut, history.Lost, history.Cancelled}, s)
}

// report logs the end of a run, in one line.
func (r *Runner) report(run history.Run) {
	level := slog.LevelInfo
	if bad(run.Status) {
		level = slog.LevelError
	}
	attrs := []any{"run", run.ID, "function", run.Function, "trigger", run.Trigger, "status", string(run.Status), "tables", run.Counts.Tables,
		"done", run.Counts.Done, "skipped", run.Counts.Skipped, "failed", run.Counts.Failed, "duration_ms", run.DurationMS}
	if run.Error != "" {
		attrs = append(attrs, "error", run.Error)
	}
	if run.Hint != "" {
		attrs = append(attrs, "hint", run.Hint)
	}
	r.log.Log(context.Background(), level, "run ended", attrs...)
}

// tell publishes the event at the end of a run. A run that did not take place has none: the one in its way will.
func (r *Runner) tell(run history.Run) {
	if r.cfg.Bus == nil || run.Status == history.Skipped {
		return
	}
	o := Outcome{RunID: run.ID, Function: run.Function, Job: run.Job, Trigger: run.Trigger, Actor: run.Actor, Status: run.Status, Reason: run.Reason,
		Started: run.Started, DurationMS: run.DurationMS, Attempts: run.Attempts, Counts: run.Counts, Error: run.Error, Hint: run.Hint}
	o.Results, o.Truncated = results(run.Entries)
	e := events.Event{Type: EventType(run.Function, bad(run.Status))}
	if len(run.Entries) == 1 {
		e.Subject = run.Entries[0].Table
	}
	r.publish(e, o)
}

func results(entries []history.Entry) ([]history.Entry, bool) {
	if len(entries) <= maxResults {
		return append([]history.Entry{}, entries...), false
	}
	sorted := slices.Clone(entries)
	slices.SortStableFunc(sorted, func(a, b history.Entry) int {
		return count([]history.Entry{b}).Failed - count([]history.Entry{a}).Failed
	})
	return sorted[:maxResults], true
}

func (r *Runner) publish(e events.Event, data any) {
	body, err := json.Marshal(data)
	if err != nil {
		r.log.Error("event was not published", "type", e.Type, "error", err)
		return
	}
	e.Data = body
	r.cfg.Bus.Publish(e)
}

// progress publishes how far the run is; not more often than is useful, except where always.
func (x *run) progress(p Progress, always bool) {
	if x.r.cfg.Bus == nil {
		return
	}
	x.mu.Lock()
	now := x.r.now()
	if since := now.Sub(x.told); since >= 0 && since < progressInterval && (!always || len(x.rec.Entries) > 20) {
		x.mu.Unlock()
		return
	}
	x.told = now
	p.Counts = count(x.rec.Entries)
	x.mu.Unlock()
	p.RunID, p.Function = x.id, x.spec.Name
	x.r.publish(events.Event{Type: events.RunProgress, Subject: p.Table}, p)
}

// failed hands a run that failed for good to the template's on-failure destination.
func (r *Runner) failed(ctx context.Context, run history.Run, condition string) {
	spec, _ := r.cfg.Template.Function(run.Function)
	if r.cfg.OnFailure == nil || spec.OnFailure == "" || !bad(run.Status) || run.Status == history.Cancelled {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			r.log.Error("on-failure destination panicked", "run", run.ID, "panic", fmt.Sprint(v))
		}
	}()
	if err := r.cfg.OnFailure.Failed(ctx, Failure{Destination: spec.OnFailure, Condition: condition, Run: run}); err != nil {
		r.log.Error("on-failure destination was not reached", "run", run.ID, "destination", spec.OnFailure, "error", err)
	}
}
