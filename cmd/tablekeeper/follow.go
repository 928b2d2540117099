package main

import (
	"context"
	"errors"
	"slices"

	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
	"tablekeeper/jobs/schedule"
	"tablekeeper/storage/shelf"
)

// backUpSoon has a service back up a table whose pages have moved: single pages can come only from a backup that has them in their places.
func (h *house) backUpSoon(table string) {
	if !h.since.IsZero() {
		go h.follow("backup", []string{table}, "recover")
	}
}

// proveFirst has a service prove backups of tables of which none was ever proved. The next drill by schedule may be a day off, and until then
// nobody knows whether what is stored restores. Where no drill is scheduled, none is made.
func (h *house) proveFirst(run history.Run) {
	if h.since.IsZero() || !h.scheduled("verify") {
		return
	}
	var never []string
	for _, e := range run.Entries {
		t, err := h.shelf.Get(e.Table)
		if err != nil {
			continue
		}
		record, err := shelf.ReadRecord(t.Path)
		if err == nil && record.Distrust == "" && record.Proved.IsZero() && record.LastProved.IsZero() {
			never = append(never, t.Name)
		}
	}
	if len(never) > 0 {
		h.follow("verify", never, "backup")
	}
}

// scheduled tells whether a function runs by itself in this service.
func (h *house) scheduled(function string) bool {
	return slices.ContainsFunc(h.planned, func(job schedule.Job) bool {
		if job.Function != function || job.Disabled {
			return false
		}
		_, paused, err := h.history.JobState(context.Background(), job.Name)
		return err == nil && !paused
	})
}

// follow begins the work that another function's leads to.
func (h *house) follow(function string, tables []string, after string) {
	event, err := encodeEvent(map[string]any{"tables": tables})
	if err == nil {
		_, err = h.runner.Invoke(context.Background(), jobs.Invocation{Function: function, Event: event, Type: jobs.Async, Trigger: jobs.TriggerHotPath, Actor: after})
	}
	if err != nil && !errors.Is(err, jobs.ErrShuttingDown) {
		h.log.Warn(function+" comes at its next schedule only", "tables", len(tables), "first", tables[0], "after", after, "error", err)
	}
}
