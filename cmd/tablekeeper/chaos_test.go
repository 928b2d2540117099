package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"tablekeeper/infra/hub"
	"tablekeeper/jobs"
	"tablekeeper/storage/stores"
	"tablekeeper/storage/table"
)

// chaosClock runs sixty times as fast as the real one: a table that is damaged every few seconds is not damaged too often for it.
func chaosClock() func() time.Time {
	start := time.Now()
	return func() time.Time { return start.Add(60 * time.Since(start)) }
}

type chaos struct {
	t      *testing.T
	house  *house
	hub    hub.Stores
	now    func() time.Time
	random *rand.Rand
	names  []string
	books  map[string]*account
	did    map[string]int
	hurt   map[string][]time.Time // when each table was damaged last
	wounds map[string][]wound     // all that was done to each
}

// TestChaos is a service with all nine tables under load, in which tables are compacted, backed up, scrubbed and damaged at random. Every
// write that was acknowledged is there in the end, or a recovery has said that it is lost.
//
// It takes a quarter of a minute; TABLEKEEPER_CHAOS=10m makes it longer, TABLEKEEPER_SEED repeats one.
func TestChaos(t *testing.T) {
	length, err := time.ParseDuration(orDefault(os.Getenv("TABLEKEEPER_CHAOS"), "15s"))
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	if s := os.Getenv("TABLEKEEPER_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d: TABLEKEEPER_SEED=%d", seed, seed)
	c := newChaos(t, seed)
	ctx, stop := context.WithTimeout(t.Context(), length)
	defer stop()
	var load sync.WaitGroup
	for i, name := range c.names {
		load.Go(func() { c.write(ctx, name) })
		load.Go(func() { c.use(ctx, i) })
	}
	for ctx.Err() == nil {
		c.step(ctx)
	}
	load.Wait()
	c.settle()
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// serviceHere is the house of a service with the tables in data, which its caller closes.
func serviceHere(t *testing.T, now func() time.Time) *house {
	t.Helper()
	p := newProgram(nil, io.Discard, io.Discard)
	p.now, p.quiet = now, true
	p.flags.Tables, p.flags.Bucket, p.flags.State = []string{"data"}, "backups", "state"
	f, err := p.openFleet(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	h, err := p.openHouse(t.Context(), f, houseOptions{service: true})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newChaos(t *testing.T, seed uint64) *chaos {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	now := chaosClock()
	h := serviceHere(t, now)
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	c := &chaos{t: t, house: h, now: now, random: rand.New(rand.NewPCG(seed, seed)), books: map[string]*account{}, did: map[string]int{}, hurt: map[string][]time.Time{}, wounds: map[string][]wound{}}
	var err error
	if c.hub, err = h.openHub(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name := range stores.Schemas() {
		c.names = append(c.names, name)
		c.books[name] = &account{acked: map[int64]span{}}
		if err := c.define(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(c.names)
	c.run(t.Context(), "backup", map[string]any{"tables": []string{"*"}}, jobs.Sync)
	return c
}

func (c *chaos) define(ctx context.Context, name string) error {
	return c.house.shelf.Owned(name).Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS chaos (n INTEGER PRIMARY KEY, body BLOB); CREATE INDEX IF NOT EXISTS chaos_body ON chaos(body)")
		return err
	})
}

// run has the runner do something, and lets it fail: a table that is damaged at that moment may refuse.
func (c *chaos) run(ctx context.Context, function string, event map[string]any, kind jobs.Type) {
	text, err := json.Marshal(event)
	if err != nil {
		c.t.Error(err)
		return
	}
	if _, err := c.house.runner.Invoke(context.WithoutCancel(ctx), jobs.Invocation{Function: function, Event: text, Type: kind}); err != nil {
		c.t.Errorf("%s: %v", function, err)
	}
	c.did[function]++
}

// write adds rows to a table and remembers each that was acknowledged.
func (c *chaos) write(ctx context.Context, name string) {
	book, handle := c.books[name], c.house.shelf.Owned(name)
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for n := int64(1); ctx.Err() == nil; n++ {
		began := c.now()
		err := handle.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO chaos VALUES (?, randomblob(300))", n)
			return err
		})
		switch {
		case err == nil:
			book.mu.Lock()
			book.acked[n] = span{began, c.now()}
			book.mu.Unlock()
		case ctx.Err() != nil, unavailable(err), errors.Is(err, table.ErrCorrupt), errors.Is(err, table.ErrBusy):
		default:
			c.t.Errorf("write to %s: %v", name, err)
			return
		}
		select {
		case <-pace.C:
		case <-ctx.Done():
		}
	}
}

// use works with one of the stores, as agents do. What a restore has taken back may be missing.
func (c *chaos) use(ctx context.Context, i int) {
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		err := c.useOnce(ctx, i, n)
		known := err == nil || ctx.Err() != nil || unavailable(err) || errors.Is(err, table.ErrCorrupt) || errors.Is(err, table.ErrBusy) ||
			errors.Is(err, stores.ErrNotFound) || errors.Is(err, stores.ErrConflict)
		if !known {
			c.t.Errorf("store %d: %v", i, err)
			return
		}
		select {
		case <-pace.C:
		case <-ctx.Done():
		}
	}
}

func (c *chaos) useOnce(ctx context.Context, i, n int) (err error) {
	switch i % 6 {
	case 0:
		if _, err = c.hub.Mailbox.Send(ctx, stores.Message{From: "a", To: "b", Body: fmt.Sprint(n)}); err == nil {
			_, err = c.hub.Mailbox.Receive(ctx, "b", 5)
		}
	case 1:
		if _, err = c.hub.Channels.Create(ctx, stores.Channel{Name: "news", Creator: "a"}); err == nil || errors.Is(err, stores.ErrConflict) {
			_, err = c.hub.Channels.Publish(ctx, stores.Post{Channel: "news", From: "a", Body: fmt.Sprint(n)})
		}
	case 2:
		if _, err = c.hub.Tasks.Enqueue(ctx, stores.Task{Queue: "q", Payload: fmt.Sprint(n)}); err == nil {
			var task stores.Task
			if task, err = c.hub.Tasks.Claim(ctx, "q", "w", time.Hour); err == nil {
				err = c.hub.Tasks.Complete(ctx, task.ID, task.Lease, "done")
			}
		}
	case 3:
		var thread stores.Thread
		if thread, err = c.hub.Threads.Start(ctx, stores.Thread{Author: "a", Title: "s", Body: fmt.Sprint(n)}); err == nil {
			_, err = c.hub.Threads.Reply(ctx, stores.Reply{Thread: thread.ID, Author: "b", Body: "yes"})
		}
	case 4:
		_, err = c.hub.History.Append(ctx, stores.Record{From: "a", To: "b", Kind: "note", Body: fmt.Sprint(n)})
	case 5:
		_, err = c.hub.Config.Set(ctx, fmt.Sprintf("key-%d", n), "v", "a", 0)
	}
	return err
}
