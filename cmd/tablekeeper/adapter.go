package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"tablekeeper/functions"
	"tablekeeper/jobs"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// work is one of the functions, with its own event E and report R.
type work[E, R any] interface {
	Tables(ctx context.Context, event E) ([]string, error)
	Run(ctx context.Context, event E, table string, p functions.Progress) (R, error)
}

// adapter makes a function out of functions/ one that the runner of jobs/ knows: the two never meet elsewhere.
type adapter[E, R any] struct {
	name  string
	work  work[E, R]
	house *house
}

func adapt[E, R any](h *house, name string, w work[E, R]) jobs.Function {
	return &adapter[E, R]{name, w, h}
}

// Tables implements jobs.Function.
func (a *adapter[E, R]) Tables(ctx context.Context, event json.RawMessage) ([]string, error) {
	event, expression, chosen := takeSchedule(event)
	var e E
	if err := functions.Decode(event, &e); err != nil {
		return nil, err
	}
	if err := a.house.refresh(ctx); err != nil {
		return nil, err
	}
	tables, err := a.work.Tables(ctx, e)
	if chosen && tables != nil {
		tables = slices.DeleteFunc(tables, func(name string) bool { return !a.house.hasSchedule(name, a.name, expression) })
	}
	a.house.watch.expect(len(tables))
	return tables, err
}

// Run implements jobs.Function.
func (a *adapter[E, R]) Run(ctx context.Context, call jobs.Call) (json.RawMessage, error) {
	event, _, _ := takeSchedule(call.Event)
	var e E
	if err := functions.Decode(event, &e); err != nil {
		return nil, err
	}
	progress := functions.Progress{Phase: call.Phase, Step: func(done, total int64, note string) {
		call.Progress(done, total, note)
		a.house.watch.step(call.Table, done, total)
	}}
	report, err := a.work.Run(ctx, e, call.Table, progress)
	a.house.watch.ended(call.Table)
	// An error after ctx is the end of the work, and says nothing of the table; a recovery that found no way is not begun anew by itself.
	if ctx.Err() == nil && a.name != "recover" {
		a.house.suspectLater(call.Table, err)
	}
	entry, encodeErr := json.Marshal(report)
	if err == nil && encodeErr != nil {
		err = fmt.Errorf("encode the report: %w", encodeErr)
	}
	return entry, err
}

// Over implements jobs.Urgent, for the work that says so.
func (a *adapter[E, R]) Over(event json.RawMessage) []string {
	urgent, ok := a.work.(interface{ Over(event E) []string })
	event, _, _ = takeSchedule(event)
	var e E
	if !ok || functions.Decode(event, &e) != nil { // Tables says what is wrong with it
		return nil
	}
	return urgent.Over(e)
}

// hasSchedule tells whether a table has this schedule of its own for a function; "" is none.
func (h *house) hasSchedule(name, function, expression string) bool {
	t, err := h.shelf.Get(name)
	return err == nil && t.Settings.Schedules[function] == expression
}

// watch tells a person at a terminal how far the work is. A nil watch tells nobody.
type watch struct {
	label string
	show  func(label string, done, total int64)

	mu     sync.Mutex
	tables int
	done   int
	shares map[string]float64 // of the tables that are being worked on
}

func (w *watch) expect(tables int) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tables, w.shares = tables, map[string]float64{}
}

func (w *watch) step(table string, done, total int64) {
	if w == nil || total <= 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.shares != nil {
		w.shares[table] = min(1, float64(done)/float64(total))
	}
	w.tellLocked(table)
}

func (w *watch) ended(table string) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done++
	delete(w.shares, table)
	w.tellLocked(table)
}

func (w *watch) tellLocked(table string) {
	const parts = 1000 // of a table, so that one large table moves too
	sum := float64(w.done)
	for _, share := range w.shares {
		sum += share
	}
	w.show(fmt.Sprintf("%s %d/%d %s", w.label, min(w.done+1, w.tables), w.tables, table), int64(sum*parts), int64(w.tables)*parts)
}

func newLocks(s *shelf.Shelf, now func() time.Time) *locks {
	return &locks{shelf: s, now: now, held: map[string]*table.Held{}}
}

// locks are the tables' locks that the runner holds. They exclude every other tablekeeper on this machine.
type locks struct {
	shelf *shelf.Shelf
	now   func() time.Time

	mu   sync.Mutex
	held map[string]*table.Held
}

// Lock implements jobs.Locker.
func (l *locks) Lock(ctx context.Context, name string, owner jobs.Owner) (func(), error) {
	t, err := l.shelf.Place(name)
	if err != nil {
		return nil, err
	}
	held, err := table.Lock(ctx, t.Path, table.Owner{Function: owner.Function, Run: owner.RunID, Since: l.now().UTC()})
	if err != nil {
		return nil, lockError(name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[name] = held
	return func() { l.release(name) }, nil
}

func (l *locks) release(name string) {
	l.mu.Lock()
	held := l.held[name]
	delete(l.held, name)
	l.mu.Unlock()
	// The kernel lets go of it at the latest when the process ends.
	_ = held.Release()
}

// of implements functions.Holder.
func (l *locks) of(name string) *table.Held {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[name]
}

// lockError tells the runner who is in the way.
func lockError(name string, err error) error {
	var locked *table.LockedError
	if errors.As(err, &locked) {
		return &jobs.BusyError{Table: name, Holder: locked.Owner.String()}
	}
	return err
}
