package table

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

// # Compaction in place by a copy
//
// A VACUUM computes and writes under the write lock. Here the compacted copy is computed first, beside the table, while its users go
// on. Then the lock is taken, it is proved that nobody has committed since before the copy was begun, and the pages of
// the copy are put in through SQLite's backup API: one transaction, as safe as any other. Only that keeps writers waiting.
//
// A commit in between costs a copy, not a row: it is made again, a few times, and then a VACUUM does it if that fits the budget.

const (
	strategyCopyIn = "copy_in"

	// mostCopyIns is how often a copy is made before the table's users are found too busy for it.
	mostCopyIns = 3
	copyWatch   = 50 * time.Millisecond
)

// errMoved: somebody committed since the copy was begun.
var errMoved = errors.New("others committed while the table was copied")

// copyIn is one attempt.
type copyIn struct {
	*compaction
	into  *conn // puts the pages in
	file  string
	rows  map[string]int64
	state mark
	own   int64 // what into knew as data_version: its own commits do not change it
}

// mark tells one committed state of the table from any other.
type mark struct {
	wal     bool
	version int64 // data_version
	// In a table with a rollback journal, what the header says. In WAL mode checkpoints change it.
	counter, pages uint32
}

// copyIn compacts by a copy, or returns errMoved.
func (k *compaction) copyIn(ctx context.Context) error {
	defer moreProcs()()
	for attempt := 1; ; attempt++ {
		c := &copyIn{compaction: k, file: Temporary(k.path, "compact")}
		err := errors.Join(c.run(ctx), c.clean())
		if !errors.Is(err, errMoved) || attempt == mostCopyIns {
			return err
		}
	}
}

func (c *copyIn) run(ctx context.Context) (err error) {
	if c.into, err = openWithMain(ctx, c.path, openOptions{wait: c.opts.Wait}); err != nil {
		return err
	}
	// The journal's name goes durably, or a power cut would bring the old pages back into the shorter file.
	err = c.into.exec(ctx, fmt.Sprintf("PRAGMA synchronous=EXTRA; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-%d", putInCache>>10))
	if err != nil {
		return err
	}
	if c.own, err = c.into.dataVersion(ctx); err != nil {
		return err
	}
	if c.state, err = c.look(ctx); err != nil {
		return err
	}
	if err := c.watched(ctx, c.duplicate); err != nil {
		return err
	}
	c.checked = true
	if err := c.unmoved(ctx); err != nil { // or the rows would differ
		return err
	}
	if err := c.watched(ctx, c.proveCopy); err != nil {
		return err
	}
	if err := c.putIn(ctx); err != nil {
		return err
	}
	c.Status = Compacted
	return c.settle(ctx)
}

// look reads the mark of the present state. k.conn commits nothing itself.
func (c *copyIn) look(ctx context.Context) (m mark, err error) {
	if err := c.conn.patience(ctx, c.opts.Wait); err != nil {
		return m, err
	}
	err = c.conn.read(ctx, func() error {
		version, err := c.conn.dataVersion(ctx)
		if err == nil {
			m, err = c.mark(version)
		}
		return err
	})
	return m, err
}

func (c *copyIn) mark(version int64) (mark, error) {
	h, _, err := readHeader(c.path)
	m := mark{wal: h.walMode, version: version}
	if !m.wal {
		m.counter, m.pages = h.changeCounter, h.pages
	}
	return m, err
}

// watched runs f until somebody commits: what it does is of no use then.
func (c *copyIn) watched(ctx context.Context, f func(context.Context) error) error {
	watching, stop := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause(watching, copyWatch) == nil {
			if now, err := c.look(watching); err == nil && now != c.state {
				stop(errMoved)
			}
		}
	}()
	err := f(watching)
	stop(nil)
	<-done
	if errors.Is(context.Cause(watching), errMoved) {
		return errMoved
	}
	return err
}

func (c *copyIn) unmoved(ctx context.Context) error {
	now, err := c.look(ctx)
	if err == nil && now != c.state {
		err = errMoved
	}
	return err
}

// duplicate makes the copy while the table is checked, both from one committed state; a table with a rollback journal is copied
// page by page before, under short locks.
func (c *copyIn) duplicate(ctx context.Context) error {
	opts := SnapshotOptions{Beside: true, SkipCheck: c.checked, MaxPause: c.opts.MaxPause, Wait: c.opts.Wait}
	c.opts.Progress("copy", 0, 1)
	err := TakeSnapshot(ctx, c.path, opts, func(ctx context.Context, s *Snapshot) error {
		if err := inBackground(func() error { return c.vacuumInto(ctx, s.conn.path) }); err != nil {
			return fmt.Errorf("copy the table: %w", err)
		}
		c.rows = s.Rows() // waits for the check
		return nil
	})
	if err == nil {
		c.opts.Progress("copy", 1, 1)
	}
	return err
}

func (c *copyIn) vacuumInto(ctx context.Context, from string) error {
	if err := MakeStateDir(c.path); err != nil {
		return err
	}
	conn, err := connect(ctx, from, openOptions{wait: c.opts.Wait, private: true})
	if err != nil {
		return err
	}
	even := evenOut(c.file)
	err = conn.convert(ctx, c.opts.Convert)
	if err == nil {
		err = conn.exec(ctx, "VACUUM INTO ?", c.file)
	}
	return errors.Join(err, even(), conn.close())
}

// proveCopy checks the copy, before anybody has to wait for it. Its indexes are as old as itself, and made of its rows.
func (c *copyIn) proveCopy(ctx context.Context) error {
	c.opts.Progress("verify", 0, 1)
	var r CheckReport
	err := inBackground(func() error {
		conn, missing, err := openToCheck(ctx, c.file, openOptions{private: true})
		if err != nil {
			return err
		}
		return errors.Join(conn.read(ctx, func() error {
			r, err = conn.report(ctx, c.file, missing, SnapshotOptions{Quick: true, alone: true})
			return err
		}), conn.close())
	})
	if errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("%w: %v", errCopyDiffers, err) //nolint:errorlint // the table is sound
	}
	if err != nil {
		return err
	}
	if !maps.Equal(r.Rows, c.rows) {
		return fmt.Errorf("%w: it has %v rows, the table %v", errCopyDiffers, r.Rows, c.rows)
	}
	c.opts.Progress("verify", 1, 1)
	return nil
}

func (c *copyIn) clean() error {
	var err error
	if c.into != nil {
		err = c.into.close()
	}
	for _, ending := range append([]string{""}, sidecars...) {
		err = errors.Join(err, disk{}.remove(c.file+ending))
	}
	return err
}
