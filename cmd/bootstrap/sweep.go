package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"tablekeeper/functions"
	"tablekeeper/functions/sweep"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/shelf"
)

// sweep is one unit of work for all tables.
func (h *handler) sweep(ctx context.Context, in request) (out []byte, err error) {
	var event sweep.Event
	if err := functions.Decode(in.Event, &event); err != nil {
		return nil, err
	}
	c, before, err := h.once.take(ctx, in.ID, "")
	if err != nil || c == nil {
		return before, err
	}
	ctx, cancel := inTime(ctx, h.Now())
	defer cancel()
	entry, err := h.sweepAll(ctx, event)
	out, encodeErr := json.Marshal(entry)
	err = errors.Join(err, encodeErr)
	if ended := c.end(ctx, out, err); ended != nil {
		h.Log.Warn("the event may be done again if it is delivered again", "event", in.ID, "error", ended)
	}
	return out, err
}

func (h *handler) sweepAll(ctx context.Context, event sweep.Event) (entry sweep.Entry, err error) {
	s, remove, err := h.place.census(ctx, true)
	if err != nil {
		return entry, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	config := sweep.Config{
		Shelf: s, Bucket: h.address, Catalogue: h.catalogue, Retention: h.set.Retention, QuarantineAge: h.set.Quarantine, Now: h.Now,
	}
	if h.expiresByItself(ctx) {
		config.Catalogue = nil
	}
	entry, err = sweep.New(config).Run(ctx, event, "", functions.Progress{})
	figures := map[string]int64{
		"TablesOverdue": int64(len(entry.Overdue)), "Tables": int64(entry.Tables), "OldestProvedSeconds": int64(h.oldestProof(s) / time.Second),
		"BackupsRemoved": int64(len(entry.Removed)),
	}
	return entry, errors.Join(err, h.metrics.put(figures, nil, true))
}

// expiresByItself tells that the bucket has a rule for what is superseded.
func (h *handler) expiresByItself(ctx context.Context) bool {
	l, ok := h.backups.(bucket.Lifecycler)
	if !ok {
		return false
	}
	rules, err := l.Lifecycle(ctx)
	if err != nil {
		h.Log.Warn("the bucket's lifecycle rules cannot be read, so sweep removes old backups itself", "error", err)
	}
	return len(rules) > 0
}

// oldestProof is the age of the oldest of the tables' last proved backups. A backup that is not proved yet counts from when it
// was made; a table without a backup is overdue, and not counted here.
func (h *handler) oldestProof(s *shelf.Shelf) (oldest time.Duration) {
	for _, t := range s.Tables() {
		record, err := shelf.ReadRecord(t.Path)
		if err != nil {
			continue
		}
		at := record.Proved
		if at.IsZero() {
			at = record.Created
		}
		oldest = max(oldest, h.Now().Sub(at))
	}
	return oldest
}
