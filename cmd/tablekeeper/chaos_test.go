package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"tablekeeper/infra/hub"
	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
	"tablekeeper/storage/stores"
	"tablekeeper/storage/table"
)

// chaosClock runs sixty times as fast as the real one: a table that is damaged every few seconds is not damaged too often for it.
func chaosClock() func() time.Time {
	start := time.Now()
	return func() time.Time { return start.Add(60 * time.Since(start)) }
}

// account is what one table has acknowledged, and when.
type account struct {
	mu    sync.Mutex
	acked map[int64]span
}

// span is a time, from before a write to after its acknowledgement: it was committed somewhere between.
type span struct{ since, until time.Time }

func (s span) meets(other span) bool {
	return !s.until.Before(other.since) && !s.since.After(other.until)
}

// wound is damage that was done to a table.
type wound struct {
	at   time.Time
	kind string
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
	c.run(t.Context(), "backup", map[string]any{"tables": []string{"*"}})
	return c
}

func (c *chaos) define(ctx context.Context, name string) error {
	return c.house.shelf.Owned(name).Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS chaos (n INTEGER PRIMARY KEY, body BLOB); CREATE INDEX IF NOT EXISTS chaos_body ON chaos(body)")
		return err
	})
}

// run has the runner do something, and lets it fail: a table that is damaged at that moment may refuse.
func (c *chaos) run(ctx context.Context, function string, event map[string]any) {
	text, err := json.Marshal(event)
	if err != nil {
		c.t.Error(err)
		return
	}
	if _, err := c.house.runner.Invoke(context.WithoutCancel(ctx), jobs.Invocation{Function: function, Event: text}); err != nil {
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

// step does one thing to one table, and waits until it serves again.
func (c *chaos) step(ctx context.Context) {
	name := c.names[c.random.IntN(len(c.names))]
	event := map[string]any{"tables": []string{name}}
	switch c.random.IntN(8) {
	case 0, 1:
		c.run(ctx, "backup", event)
	case 2:
		c.run(ctx, "compact", map[string]any{"tables": []string{name}, "force": true})
	case 3:
		c.run(ctx, "verify", event)
	default:
		if c.spared(name) {
			return
		}
		c.damage(name)
		c.serves(name)
	}
}

// spared tells whether a table was damaged so often just now that once more would be too often for its recovery.
func (c *chaos) spared(name string) bool {
	c.hurt[name] = slices.DeleteFunc(c.hurt[name], func(at time.Time) bool { return c.now().Sub(at) > 12*time.Minute })
	if len(c.hurt[name]) >= 2 {
		return true
	}
	c.hurt[name] = append(c.hurt[name], c.now())
	return false
}

// serves waits until a table has been scrubbed and takes a write.
func (c *chaos) serves(name string) {
	handle := c.house.shelf.Owned(name)
	if _, err := handle.Scrub(context.Background(), table.ScrubOptions{}); err != nil && !errors.Is(err, table.ErrCorrupt) && !unavailable(err) {
		c.t.Errorf("scrub %s: %v", name, err)
	}
	if err := c.define(context.Background(), name); err != nil {
		c.t.Errorf("%s does not serve again: %v", name, err)
	}
}

// damage does to the file of a table what disks, people and other programs do.
func (c *chaos) damage(name string) {
	path := c.house.shelf.Owned(name).Path()
	kinds := []string{"flip", "flip", "zero", "garbage", "truncate", "delete", "replace", "header", "journal"}
	kind := kinds[c.random.IntN(len(kinds))]
	c.did[kind]++
	c.wounds[name] = append(c.wounds[name], wound{c.now(), kind})
	if err := c.inflict(path, kind); err != nil && !errors.Is(err, io.EOF) {
		c.t.Errorf("%s %s: %v", kind, name, err)
	}
}

func (c *chaos) inflict(path, kind string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	switch kind {
	case "delete":
		return os.Remove(path)
	case "replace":
		return errors.Join(os.WriteFile(path+".other", []byte("not a table"), 0o600), os.Rename(path+".other", path))
	case "truncate":
		return os.Truncate(path, c.random.Int64N(info.Size()))
	case "journal":
		b := make([]byte, 512+4096+8)
		copy(b, "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7")
		copy(b[8:], []byte{0, 0, 0, 1, 1, 2, 3, 4, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 16, 0})
		return os.WriteFile(path+"-journal", b, 0o600)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	page := c.random.Int64N(max(info.Size()/4096, 1)) * 4096
	switch kind {
	case "flip":
		b := make([]byte, 1)
		at := page + c.random.Int64N(4096)
		if _, err = f.ReadAt(b, at); err == nil {
			b[0] ^= 1 << c.random.IntN(8)
			_, err = f.WriteAt(b, at)
		}
	case "zero":
		_, err = f.WriteAt(make([]byte, 4096), page)
	case "garbage":
		_, err = f.WriteAt(slices.Repeat([]byte("garbage!"), 1024), page)
	case "header":
		_, err = f.WriteAt(make([]byte, 100), 0)
	}
	return errors.Join(err, f.Close())
}

// loss is what a recovery said of a table: what was written then is gone, or may be. kind is the damage that it was for.
type loss struct {
	span
	kind string
}

// losses reads what the recoveries said, and counts by which damage and how they were made.
func (c *chaos) losses() (all map[string][]loss, by map[string]map[string]int) {
	all, by = map[string][]loss{}, map[string]map[string]int{}
	filter := history.Filter{Function: "recover", Limit: 100}
	for {
		page, err := c.house.history.List(c.t.Context(), filter)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, head := range page.Runs {
			run, err := c.house.history.Get(c.t.Context(), head.ID)
			if err != nil {
				c.t.Fatal(err)
			}
			if !run.Status.Ended() {
				c.t.Fatalf("recovery %s of %v is still %s", run.ID, run.Tables(), run.Status)
			}
			for _, e := range run.Entries {
				kind := c.kindOf(e.Table, run.Queued)
				lost, how := c.lossOf(e, run.Ended)
				if by[kind] == nil {
					by[kind] = map[string]int{}
				}
				by[kind][how]++
				if lost != nil {
					all[e.Table] = append(all[e.Table], loss{*lost, kind})
				}
			}
		}
		if page.Next == "" {
			return all, by
		}
		filter.Cursor = page.Next
	}
}

// kindOf is the last damage that was done to a table before its recovery began.
func (c *chaos) kindOf(name string, at time.Time) string {
	kind := "nothing"
	for _, w := range c.wounds[name] {
		if !w.at.After(at) {
			kind = w.kind
		}
	}
	return kind
}

// lossOf is what one recovery said.
func (c *chaos) lossOf(e history.Entry, ended time.Time) (lost *span, how string) {
	if len(e.Report) == 0 { // it was interrupted, and so said nothing
		return nil, e.Status + " " + e.Reason
	}
	var entry struct {
		Status, Rung, Reason, Lost string
		LostSince                  time.Time `json:"lost_since"`
	}
	if err := json.Unmarshal(e.Report, &entry); err != nil {
		c.t.Fatalf("%v: %s", err, e.Report)
	}
	if entry.Lost != "" {
		lost = &span{entry.LostSince, ended}
	}
	return lost, entry.Status + " " + entry.Rung + entry.Reason
}

// settle compares what the tables have with what they acknowledged. Whoever reads a table waits until it serves, which it does before its
// recovery is recorded. So the content comes first, then the end of every run, then what the recoveries said.
func (c *chaos) settle() {
	there := map[string]map[int64]bool{}
	for _, name := range c.names {
		there[name] = c.content(name)
	}
	c.house.runner.Wait()
	lost, by := c.losses()
	acked, gone := 0, map[string]int{}
	for _, name := range c.names {
		book := c.books[name]
		acked += len(book.acked)
		for n, when := range book.acked {
			if there[name][n] {
				continue
			}
			i := slices.IndexFunc(lost[name], func(l loss) bool { return when.meets(l.span) })
			if i < 0 {
				c.t.Errorf("row %d of %s was acknowledged at %v and is gone; it was damaged by %v, and the losses told of are %v",
					n, name, when.until, c.wounds[name], lost[name])
				return
			}
			gone[lost[name][i].kind]++
		}
	}
	all := 0
	for _, n := range gone {
		all += n
	}
	c.t.Logf("%d writes acknowledged, %d kept, %d lost and told of; done %v", acked, acked-all, all, c.did)
	for _, kind := range slices.Sorted(maps.Keys(by)) {
		c.t.Logf("%10s: recovered %v, %d rows lost and told of", kind, by[kind], gone[kind])
	}
}

func (c *chaos) content(name string) map[int64]bool {
	there := map[int64]bool{}
	ctx := context.Background()
	err := c.house.shelf.Owned(name).Read(ctx, func(tx *sql.Tx) error {
		clear(there)
		var verdict string
		if err := tx.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
			return errors.Join(fmt.Errorf("integrity_check: %s", verdict), err)
		}
		rows, err := tx.QueryContext(ctx, "SELECT n FROM chaos NOT INDEXED")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var n int64
			if err := rows.Scan(&n); err != nil {
				return err
			}
			there[n] = true
		}
		return rows.Err()
	})
	if err != nil {
		c.t.Errorf("%s: %v", name, err)
	}
	return there
}
