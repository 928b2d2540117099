package main

import (
	"context"
	"encoding/json"
	"fmt"

	"tablekeeper/functions"
	recovery "tablekeeper/functions/recover"
	"tablekeeper/jobs"
	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
	"tablekeeper/storage/shelf"
)

// The events about one table that alerts know.
const (
	corruptionDetected = events.Prefix + "corruption_detected"
	tableDegraded      = events.Prefix + "table_degraded"
	tableAccepted      = events.Prefix + "table_accepted"
)

// recoverer is the function recover, whose outcomes the bus is told of.
type recoverer struct {
	*recovery.Function
	house *house
}

// recoverer looks into the second bucket where the first has no good backup.
func (h *house) recoverer() *recoverer {
	c := recovery.Config{Shelf: h.shelf, Held: h.locks.of, Now: h.now, Logger: h.log, Remember: true}
	for _, s := range []*store{h.first, h.second} {
		if s != nil {
			c.Sources = append(c.Sources, recovery.Source{Catalogue: s.Catalogue, Bucket: s.Address})
		}
	}
	return &recoverer{recovery.New(c), h}
}

// Run implements work.
func (r *recoverer) Run(ctx context.Context, e recovery.Event, table string, p functions.Progress) (recovery.Entry, error) {
	entry, err := r.Function.Run(ctx, e, table, p)
	switch {
	case err != nil:
	case entry.Status == functions.Degraded:
		r.house.publish(tableDegraded, table, "no backup is good: the table is empty; what was there is in "+entry.Quarantine)
	case entry.Rung == recovery.RungAccept:
		r.house.publish(tableAccepted, table, entry.Detail)
	case entry.Rung == recovery.RungReindex:
		r.house.backUpSoon(table)
	}
	return entry, err
}

// recorded does what follows from a run whose end is in the history.
func (h *house) recorded(run history.Run) {
	switch run.Function {
	case "recover":
		h.forgetTold(run)
	case "backup":
		h.proveFirst(run)
	}
}

// forgetTold forgets the reports of recoveries that are in the history now.
func (h *house) forgetTold(run history.Run) {
	for _, e := range run.Entries {
		var report struct{ Recoveries []string }
		t, err := h.shelf.Get(e.Table)
		if err != nil || json.Unmarshal(e.Report, &report) != nil || len(report.Recoveries) == 0 {
			continue
		}
		if err := shelf.Told(t.Path, report.Recoveries); err != nil {
			h.log.Warn("a recovery is told of once more at the next start", "table", e.Table, "error", err)
		}
	}
}

// tellUntold has the recoveries told of that an earlier process made without being able to record them.
func (h *house) tellUntold(ctx context.Context) {
	for _, t := range h.shelf.Tables() {
		if len(shelf.ReadRecovery(t.Path).Untold) == 0 {
			continue
		}
		event, err := encodeEvent(map[string]any{"table": t.Name, "tell": true})
		if err == nil {
			_, err = h.runner.Invoke(ctx, jobs.Invocation{Function: "recover", Event: event, Type: jobs.Async, Trigger: jobs.TriggerHotPath, Actor: "start"})
		}
		if err != nil {
			h.log.Error("a recovery is not recorded yet", "table", t.Name, "error", err)
		}
	}
}

func (h *house) publish(kind, table, detail string) {
	// A map of strings can be encoded.
	data, _ := json.Marshal(map[string]string{"detail": detail})
	h.bus.Publish(events.Event{Type: kind, Subject: table, Data: data})
}

func (h *house) tellCorruption(table, detail string) { h.publish(corruptionDetected, table, detail) }

// suspectLater has a table of other programs recovered that a function has just found to be damaged; in a service only, which is there to
// tell of it. Tables that the service owns report by themselves.
func (h *house) suspectLater(name string, err error) {
	if h.since.IsZero() || err == nil || h.shelf.Owned(name) != nil {
		return
	}
	t, getErr := h.shelf.Get(name)
	if _, known := h.template.Function("recover"); getErr != nil || !known || t.State != shelf.Suspect {
		return
	}
	h.tellCorruption(name, err.Error())
	go func() {
		// The run that found it may still have the table's lock: the runner ends it.
		if err := h.recoverNow(context.WithoutCancel(context.Background()), name, err.Error()); err != nil {
			h.log.Error("damaged table was not recovered", "table", name, "error", err)
		}
	}()
}

func encodeEvent(event map[string]any) (json.RawMessage, error) {
	text, err := json.Marshal(event)
	if err != nil {
		return nil, fmt.Errorf("encode the event: %w", err)
	}
	return text, nil
}
