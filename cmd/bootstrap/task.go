package main

import (
	"context"
	"encoding/json"
	"fmt"

	"tablekeeper/functions"
	"tablekeeper/functions/backup"
	"tablekeeper/functions/compact"
	"tablekeeper/functions/recover"
	"tablekeeper/functions/restore"
	"tablekeeper/functions/verify"
)

// task is one of the functions on the tables of a visit: events and reports are JSON.
type task interface {
	tables(ctx context.Context, event json.RawMessage) ([]string, error)
	run(ctx context.Context, event json.RawMessage, table string) (json.RawMessage, error)
}

// work is a function with its own event E and report R.
type work[E, R any] interface {
	Tables(ctx context.Context, event E) ([]string, error)
	Run(ctx context.Context, event E, table string, p functions.Progress) (R, error)
}

type adapter[E, R any] struct{ work[E, R] }

func adapt[E, R any](w work[E, R]) task { return adapter[E, R]{w} }

func (a adapter[E, R]) tables(ctx context.Context, event json.RawMessage) ([]string, error) {
	var e E
	if err := functions.Decode(event, &e); err != nil {
		return nil, err
	}
	return a.Tables(ctx, e)
}

func (a adapter[E, R]) run(ctx context.Context, event json.RawMessage, table string) (json.RawMessage, error) {
	var e E
	if err := functions.Decode(event, &e); err != nil {
		return nil, err
	}
	report, err := a.Run(ctx, e, table, functions.Progress{})
	entry, encodeErr := json.Marshal(report)
	if err == nil && encodeErr != nil {
		err = fmt.Errorf("encode the report: %w", encodeErr)
	}
	return entry, err
}

// task makes the function that this program is. All but sweep, which is one for all tables.
func (h *handler) task(v visit) (task, error) {
	switch h.set.Function {
	case "compact":
		return adapt(compact.New(compact.Config{Shelf: v.shelf, NeedBackup: true, Now: h.Now})), nil
	case "backup":
		return adapt(h.backup(v)), nil
	case "verify":
		return adapt(verify.New(verify.Config{
			Shelf: v.shelf, Catalogue: h.catalogue, Bucket: h.address, ScrubRate: h.set.ScrubRate, Held: v.held, Now: h.Now,
		})), nil
	case "restore":
		return adapt(restorer{restore.New(restore.Config{Shelf: v.shelf, Catalogue: h.catalogue, Bucket: h.address, Held: v.held, Now: h.Now})}), nil
	case "recover":
		return adapt(recover.New(recover.Config{
			Shelf: v.shelf, Sources: []recover.Source{{Catalogue: h.catalogue, Bucket: h.address}}, Held: v.held, Now: h.Now, Logger: h.Log,
		})), nil
	}
	return nil, fmt.Errorf("%s is no function that works on one table", h.set.Function)
}

func (h *handler) backup(v visit) *backup.Function {
	return backup.New(backup.Config{Shelf: v.shelf, Catalogue: h.catalogue, Objects: h.backups, Bucket: h.address, ToolVersion: toolVersion(), Now: h.Now})
}

// restorer restores in place: a file elsewhere would be gone with the sandbox.
type restorer struct{ *restore.Function }

// Tables implements work.
func (r restorer) Tables(ctx context.Context, e restore.Event) ([]string, error) {
	if e.Output != "" {
		return nil, &functions.EventError{Problem: "output names a file, and there is no disk here that stays", Try: "leave it out to restore in place; or tablekeeper restore TABLE -o FILE --bucket aws://..."}
	}
	e.InPlace = true
	return r.Function.Tables(ctx, e)
}

// Run implements work.
func (r restorer) Run(ctx context.Context, e restore.Event, table string, p functions.Progress) (restore.Entry, error) {
	e.InPlace = true
	return r.Function.Run(ctx, e, table, p)
}
