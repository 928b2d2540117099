package recover

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/stores"
	"tablekeeper/storage/table"
)

// patient is one of the nine, and what it has acknowledged.
type patient struct {
	name   string
	handle *table.Table

	mu    sync.Mutex
	acked []int64
}

// clinic is a fleet with the nine tables of the stores, all of them written to.
type clinic struct {
	*functionstest.Fleet
	function *Function
	tables   []*patient
	one      sync.Mutex // a recovery runs; whoever has it keeps them from beginning
	ended    chan Entry
}

func newClinic(t *testing.T) *clinic {
	t.Helper()
	c := &clinic{Fleet: functionstest.New(t), ended: make(chan Entry, 100)}
	c.function = New(Config{Shelf: c.Shelf, Sources: []Source{{Catalogue: c.Catalogue, Bucket: functionstest.BucketName}}, Now: c.Now})
	for name, schema := range stores.Schemas() {
		handle, err := c.Shelf.Own(t.Context(), name, c.Path(name), shelf.OwnOptions{
			Table:  table.Options{Idle: time.Hour, ProbeEvery: 20 * time.Millisecond, RecoverWait: 5 * time.Minute},
			Schema: []string{schema}, Recover: c.recover, Backoff: func(int) time.Duration { return time.Millisecond },
		})
		c.Must(err)
		p := &patient{name: name, handle: handle}
		c.tables = append(c.tables, p)
		c.Must(handle.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), schema+"; CREATE TABLE load (n INTEGER PRIMARY KEY, body BLOB); CREATE INDEX load_body ON load(body)")
			return err
		}))
		for range 30 {
			c.Must(p.write(t.Context()))
		}
	}
	slices.SortFunc(c.tables, func(a, b *patient) int { return strings.Compare(a.name, b.name) })
	t.Cleanup(func() { c.Must(c.Shelf.CloseOwned()) })
	c.Refresh()
	return c
}

func (c *clinic) recover(ctx context.Context, name string, r table.Report) error {
	c.one.Lock()
	defer c.one.Unlock()
	entry, err := c.function.Run(ctx, Event{Table: name, Reason: string(r.Cause), Force: true}, name, functions.Progress{})
	if err == nil {
		c.ended <- entry
	}
	return err
}

// write adds a row, and remembers it once it is acknowledged.
func (p *patient) write(ctx context.Context) error {
	var n int64
	err := p.handle.Write(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, "INSERT INTO load (n, body) SELECT coalesce(max(n), 0) + 1, randomblob(400) FROM load RETURNING n").Scan(&n)
	})
	if err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.acked = append(p.acked, n)
	}
	return err
}

// missing reads every row, and counts those that were acknowledged and are not there.
func (p *patient) missing(ctx context.Context) (missing int, err error) {
	p.mu.Lock()
	acked := slices.Clone(p.acked)
	p.mu.Unlock()
	err = p.handle.Read(ctx, func(tx *sql.Tx) error {
		there := map[int64]bool{}
		rows, err := tx.QueryContext(ctx, "SELECT n, coalesce(length(body), 0) FROM load NOT INDEXED")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var n, length int64
			if err := rows.Scan(&n, &length); err != nil {
				return err
			}
			there[n] = length == 400
		}
		missing = 0
		for _, n := range acked {
			if !there[n] {
				missing++
			}
		}
		return rows.Err()
	})
	return missing, err
}

// forget begins the account anew, with what is there.
func (p *patient) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acked = nil
}

// typed are the errors by which an operation may end that meets damage.
func typed(err error) bool {
	return errors.Is(err, table.ErrCorrupt) || errors.Is(err, table.ErrRecovering) || errors.Is(err, table.ErrDegraded)
}

// load writes to every table until the test says stop.
func (c *clinic) load() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for _, p := range c.tables {
		work.Go(func() {
			pace := time.NewTicker(10 * time.Millisecond)
			defer pace.Stop()
			for ctx.Err() == nil {
				if err := p.write(ctx); err != nil && ctx.Err() == nil && !typed(err) {
					c.T.Errorf("write to %s: %v", p.name, err)
					return
				}
				select {
				case <-pace.C:
				case <-ctx.Done():
				}
			}
		})
	}
	return func() {
		cancel()
		work.Wait()
	}
}

func (c *clinic) overwrite(path string, off int64, b []byte) {
	c.T.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	c.Must(err)
	_, err = f.WriteAt(b, off)
	c.Must(errors.Join(err, f.Close()))
}

// injuries are what disks, people and other programs do to a file.
var injuries = []struct {
	name string
	do   func(c *clinic, path string)
}{
	{"page zeroed", func(c *clinic, path string) { c.overwrite(path, size(c.T, path)/4096/2*4096, make([]byte, 4096)) }},
	{"bit flipped", func(c *clinic, path string) {
		at, b := size(c.T, path)/4096/2*4096+4000, make([]byte, 1)
		f, err := os.Open(path)
		c.Must(err)
		_, err = f.ReadAt(b, at)
		c.Must(errors.Join(err, f.Close()))
		c.overwrite(path, at, []byte{b[0] ^ 16})
	}},
	{"truncated", func(c *clinic, path string) { c.Must(os.Truncate(path, size(c.T, path)/2+100)) }},
	{"garbage", func(c *clinic, path string) {
		c.overwrite(path, 0, []byte(strings.Repeat("garbage!", int(size(c.T, path)/8))))
	}},
	{"deleted", func(c *clinic, path string) { c.Must(os.Remove(path)) }},
	{"header destroyed", func(c *clinic, path string) { c.overwrite(path, 0, make([]byte, 100)) }},
	{"journal of another", func(c *clinic, path string) { c.Must(os.WriteFile(path+"-journal", foreignJournal(), 0o600)) }},
}

// healsItself tells of which damage nothing may be left when the recovery looks: a journal is set aside; and of a single page the WAL may have had
// a newer version at that moment, which took its place when the files were closed. (TestTheWALHeals has that without chance.)
func healsItself(injury string) bool {
	return injury == "journal of another" || injury == "page zeroed" || injury == "bit flipped" || injury == "header destroyed"
}

// Each of the nine tables is damaged in each way while all of them are written to. The next operation or the scrub notices; while the
// recovery is held up, the other eight answer; whoever met the damage gets an answer or a typed error; then the table serves again, with every
// row that was acknowledged, unless the recovery said that some are lost.
func TestEachOfNineTables(t *testing.T) {
	c := newClinic(t)
	stop := c.load()
	defer stop()
	done, rung, lost := 0, map[string]map[string]int{}, 0
	for i, injury := range injuries {
		for k, p := range c.tables {
			if functionstest.Race && k%len(injuries) != i {
				continue
			}
			_, err := p.handle.Checkpoint(t.Context()) // or the WAL has all there is
			c.Must(err)
			c.Backup(p.name)
			entry := c.injure(p, injury.name, injury.do)
			if rung[injury.name] == nil {
				rung[injury.name] = map[string]int{}
			}
			rung[injury.name][entry.Rung]++
			done++
			if entry.Lost != "" {
				lost++
			}
		}
	}
	t.Logf("%d injuries, recovered by %v, %d with a loss that was told", done, rung, lost)
}

func (c *clinic) injure(p *patient, name string, do func(*clinic, string)) Entry {
	t, ctx := c.T, c.T.Context()
	t.Helper()
	c.one.Lock()
	do(c, p.handle.Path())
	met := make(chan error, 2)
	go func() {
		_, err := p.missing(ctx)
		met <- err
	}()
	go func() {
		_, err := p.handle.Scrub(ctx, table.ScrubOptions{})
		met <- err
	}()
	for _, other := range c.tables {
		if other == p {
			continue
		}
		if err := other.write(ctx); err != nil {
			t.Errorf("%s, %s: %s notices: %v", p.name, name, other.name, err)
		}
	}
	c.one.Unlock()
	var entry Entry
	select {
	case entry = <-c.ended:
	case <-time.After(5 * time.Minute):
		t.Fatalf("%s, %s: no recovery", p.name, name)
	}
	for range 2 {
		if err := <-met; err != nil && !typed(err) {
			t.Errorf("%s, %s: whoever met it got %v", p.name, name, err)
		}
	}
	if entry.Rung == RungNone && !healsItself(name) {
		t.Errorf("%s, %s: it ended as %s: %+v", p.name, name, entry.Detail, entry)
	}
	if entry.Table != p.name || entry.Status != functions.Repaired && entry.Status != functions.Restored {
		t.Fatalf("%s, %s: %s: %+v", p.name, name, rungs(entry), entry)
	}
	if err := p.write(ctx); err != nil {
		t.Fatalf("%s, %s: it does not serve again: %v", p.name, name, err)
	}
	missing, err := p.missing(ctx)
	switch {
	case err != nil:
		t.Fatalf("%s, %s: %v", p.name, name, err)
	case missing > 0 && entry.Lost == "":
		t.Fatalf("%s, %s: %d acknowledged rows are gone, and nobody said so: %s %s", p.name, name, missing, entry.Rung, rungs(entry))
	case entry.Lost != "":
		p.forget()
	}
	for _, other := range c.tables {
		if got, err := c.Shelf.Get(other.name); err != nil || got.State != shelf.Healthy {
			t.Errorf("%s, %s: then %s is %s, %v", p.name, name, other.name, got.State, err)
		}
	}
	if len(c.ended) > 0 {
		t.Fatalf("%s, %s: one more recovery: %+v", p.name, name, <-c.ended)
	}
	return entry
}
