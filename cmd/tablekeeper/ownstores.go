package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tablekeeper/cmd/tablekeeper/settings"
	"tablekeeper/infra/hub"
	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/stores"
	"tablekeeper/storage/table"
)

// openHub opens the nine tables in the stores folder, as their owner, and the stores on them. A table that is damaged is being recovered when this
// returns; its store answers when it is done. The tables are closed with the house.
func (h *house) openHub(ctx context.Context) (s hub.Stores, err error) {
	tables := map[string]stores.Table{}
	for name, schema := range stores.Schemas() {
		handle, err := h.shelf.Own(ctx, name, filepath.Join(h.cfg.Stores, name+".db"), shelf.OwnOptions{
			Table: table.Options{Logger: h.log, Clock: h.now}, Schema: []string{schema}, Recover: h.recoverOwned,
		})
		if err != nil {
			return s, errors.Join(fmt.Errorf("open the table %s of the stores: %w", name, err), h.shelf.CloseOwned())
		}
		tables[name] = &patient{Table: handle}
	}
	var errs [6]error
	s.Mailbox, errs[0] = stores.NewMailbox(ctx, tables["agent_mailbox"], h.now)
	s.Channels, errs[1] = stores.NewChannels(ctx, tables["agent_channels"], tables["channel_history"], h.now)
	s.Tasks, errs[2] = stores.NewTaskQueue(ctx, tables["task_queue"], tables["task_dead_letter"], h.now)
	s.Threads, errs[3] = stores.NewThreads(ctx, tables["thread_messages"], tables["thread_replies"], h.now)
	s.History, errs[4] = stores.NewHistory(ctx, tables["message_history"], h.now)
	s.Config, errs[5] = stores.NewConfig(ctx, tables["config"], h.now)
	if err := errors.Join(errs[:]...); err != nil {
		return s, errors.Join(err, h.shelf.CloseOwned())
	}
	for name, t := range tables {
		if err := h.ready(ctx, name, t.(*patient)); err != nil {
			return s, errors.Join(err, h.shelf.CloseOwned())
		}
	}
	return s, nil
}

// routes registers the HTTP API of the stores.
func routes(s hub.Stores) func(huma.API) {
	return func(api huma.API) { hub.Register(api, s, unavailable) }
}

// unavailable tells the errors of a table that is being repaired, or waits for somebody to do so.
func unavailable(err error) bool {
	return errors.Is(err, table.ErrRecovering) || errors.Is(err, table.ErrDegraded) || errors.Is(err, table.ErrClosed)
}

// patient is a table that takes its schema later: a store must open though its table is out of service at that moment.
type patient struct {
	*table.Table

	mu     sync.Mutex
	open   bool
	define []func(*sql.Tx) error
}

// Write implements stores.Table. Until the stores are open, all they write is their schema, which can be written again.
func (p *patient) Write(ctx context.Context, fn func(*sql.Tx) error) error {
	p.mu.Lock()
	if !p.open {
		p.define = append(p.define, fn)
		p.mu.Unlock()
		return nil
	}
	p.mu.Unlock()
	if err := p.settle(ctx); err != nil {
		return err
	}
	return p.Table.Write(ctx, fn)
}

// Read implements stores.Table.
func (p *patient) Read(ctx context.Context, fn func(*sql.Tx) error) error {
	if err := p.settle(ctx); err != nil {
		return err
	}
	return p.Table.Read(ctx, fn)
}

// ready writes the schema of a table that serves: from its first backup on it is in every one.
func (h *house) ready(ctx context.Context, name string, p *patient) error {
	p.opened()
	if t, err := h.shelf.Get(name); err != nil || t.State == shelf.Suspect || t.State == shelf.Recovering {
		return err
	}
	err := p.settle(ctx)
	if unavailable(err) {
		return nil // it was found to be damaged just now
	}
	return err
}

func (p *patient) opened() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = true
}

// settle writes the schema, if that is still to be done.
func (p *patient) settle(ctx context.Context) error {
	p.mu.Lock()
	todo := slices.Clone(p.define)
	p.mu.Unlock()
	for _, define := range todo {
		if err := p.Table.Write(ctx, define); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.define = nil
	return nil
}

// ofStores is where the table of that name is, if it is one of the stores' nine and is there; it need not look like a table any more.
func (f *fleet) ofStores(name string) (path string, ok bool) {
	if _, ok := stores.Schemas()[name]; !ok || f.cfg.Stores == settings.Off {
		return "", false
	}
	path = filepath.Join(f.cfg.Stores, name+".db")
	if t, err := f.shelf.Get(name); err == nil {
		return path, t.Path == path
	}
	_, err := os.Lstat(path)
	return path, err == nil
}

// knows is nil for a table that can be recovered, whatever is left of it.
func (f *fleet) knows(name string) error {
	_, err := f.shelf.Get(name)
	if _, ok := f.ofStores(name); ok {
		return nil
	}
	return err
}

// ownStore makes a command the owner of the table that an event of recover names, if it is one of the stores' nine: while no service runs, that
// one's ledger is what tells which pages are damaged. The command itself recovers it; nobody waits for the handle.
func (h *house) ownStore(ctx context.Context, event json.RawMessage) error {
	var e struct {
		Table string `json:"table"`
	}
	if err := json.Unmarshal(event, &e); err != nil {
		return nil //nolint:nilerr // the runner will say so
	}
	path, ok := h.ofStores(e.Table)
	if !ok {
		return nil
	}
	told := make(chan struct{})
	var once sync.Once
	handle, err := h.shelf.Own(ctx, e.Table, path, shelf.OwnOptions{
		Table: table.Options{Logger: h.log, Clock: h.now, RecoverWait: time.Millisecond}, Schema: []string{stores.Schemas()[e.Table]},
		Recover: func(ctx context.Context, _ string, _ table.Report) error {
			once.Do(func() { close(told) })
			<-ctx.Done()
			return ctx.Err()
		},
	})
	if err != nil {
		return fmt.Errorf("own the table %s of the stores: %w", e.Table, err)
	}
	// What opening it found is reported beside us, and the recovery is to know it.
	if err := handle.Read(ctx, func(*sql.Tx) error { return nil }); errors.Is(err, table.ErrRecovering) {
		select {
		case <-told:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// recoverOwned has the runner recover a table that this process owns.
func (h *house) recoverOwned(ctx context.Context, name string, r table.Report) error {
	h.tellCorruption(name, r.Err.Error())
	return h.recoverNow(ctx, name, fmt.Sprintf("%s: %v", r.Cause, r.Err))
}

// recoverNow runs recover on a table and waits.
func (h *house) recoverNow(ctx context.Context, name, reason string) error {
	event, err := encodeEvent(map[string]any{"table": name, "reason": reason})
	if err != nil {
		return err
	}
	run, err := h.runner.Invoke(ctx, jobs.Invocation{Function: "recover", Event: event, Trigger: jobs.TriggerHotPath, Actor: "detection"})
	switch {
	case err != nil:
		return err
	case run.Status != history.Succeeded && run.Status != history.Skipped:
		return fmt.Errorf("run %s %s: %s", run.ID, run.Status, run.Error)
	}
	return nil
}
