package table

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// errNotYet: more was left than the cut may take.
var errNotYet = errors.New("the writers were faster")

// proof says that nobody but this process can use a file any more.
type proof interface {
	undisturbed() error // asked again after the rename
	release() error
}

// cut is the swap under the handle. Only while the writer waits:
//
//	the last rows are carried over, and the new file is durable
//	what is in the old WAL is moved to the old file: it is whole by itself, if no reader needs the WAL
//	our connections close, those of readers in a transaction aside
//	it is proved that nobody else uses the old file
//	the old -wal and -shm leave, the new file gets the name, the folder is synced
//	the connections open again
//
// Readers in a transaction keep the old file and its WAL, which have no names any more; those that come later read the new one.
func (o *online) cut(ctx context.Context) (err error) {
	if !o.t.swapping.TryLock() {
		return errAway
	}
	defer o.t.swapping.Unlock()
	s := o.t.gate.enterNow()
	if s != o.s {
		if s != nil {
			o.t.gate.leave(s)
		}
		return errAway
	}
	defer o.t.gate.leave(s)
	sw, err := o.announce()
	if err != nil {
		return err
	}
	c := &cut{online: o, sw: sw, old: s, shm: Temporary(o.t.path, "shm")}
	// From here to the end, or there would be neither one file nor the other.
	if err := c.make(context.WithoutCancel(ctx), ctx); err != nil {
		_, settled := sw.settle()
		return errors.Join(err, settled)
	}
	o.next, o.Status = nil, Compacted
	o.CutUS = c.took.Microseconds()
	err = errors.Join(c.fresh.ledger.Move(ledgerPath(o.t.path)), sw.end())
	closed := err == nil
	o.t.tasks.Go(func() { c.bury(closed) })
	if err != nil {
		return fmt.Errorf("the compacted file is in place, but the swap is not closed: %w", err)
	}
	return nil
}

// announce does all of the swap that can be done before: attributes, intent, quarantine.
func (o *online) announce() (*swapper, error) {
	if err := copyAttributes(o.t.path, o.newFile); err != nil {
		return nil, err
	}
	sw, err := newSwapper(o.disk, o.t.path, o.newFile, SwapOptions{Reason: "compact"})
	if err != nil {
		return nil, err
	}
	err = sw.d.syncDir(filepath.Dir(o.newFile))
	if err == nil {
		err = sw.in.write(sw.d, sw.path)
	}
	if err == nil {
		_, err = makeQuarantine(sw.d, sw.path, sw.in.Quarantine)
	}
	if err == nil {
		err = sw.keep(sw.path, sw.kept())
	}
	if err != nil {
		_, settled := sw.settle()
		return nil, errors.Join(err, settled)
	}
	return sw, nil
}

type cut struct {
	*online
	sw    *swapper
	old   *session
	fresh *session
	shm   string   // where the name of the old -shm is kept
	wal   *os.File // the last that holds the new file's own WAL, whose name is gone
	proof proof
	// settled: nothing of the old WAL is needed any more. stay: somebody reads it, or did a moment ago.
	settled, stay bool
	// The old file before our connections closed, and what they left beside it; zero if readers stayed.
	before fs.FileInfo
	left   evidence
	took   time.Duration
}

func (c *cut) make(ctx, waiting context.Context) error {
	defer c.dropWAL()
	s := c.old
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errAway
	}
	if err := s.bulk(ctx); err != nil {
		return err
	}
	for range 2 { // so that little is left to carry over, and little to sync
		if err := c.approach(waiting, cutRows, true); err != nil {
			return err
		}
		if err := c.sw.d.sync(c.newFile); err != nil {
			return err
		}
	}
	if err := c.copy.shrink(ctx); err != nil {
		return err
	}
	release, err := c.t.writeLock(waiting)
	if err != nil {
		return err
	}
	start := time.Now()
	defer func() {
		c.took = time.Since(start)
		release()
		c.blocked(c.took)
	}()
	if c.t.gate.current() != s {
		return errAway
	}
	if err := c.finish(ctx); err != nil {
		return err
	}
	return c.exchange(ctx)
}

// finish makes the new file equal to the old one, and each whole.
func (c *cut) finish(ctx context.Context) error {
	if n := c.capture.waiting(); n > cutRows && time.Duration(n)*c.perRow > cutCatchUp && c.Rounds < mostRounds {
		return errNotYet
	}
	settled := make(chan error, 1)
	go func() {
		var err error
		c.settled, err = c.old.settle(ctx, true)
		settled <- err
	}()
	err := c.old.onWriter(ctx, func(w *conn) error {
		set, err := c.fix(ctx, w)
		if err != nil {
			return err
		}
		return c.carryOver(ctx, set, false)
	})
	if err == nil {
		c.wal, c.copy.tail.file = c.copy.tail.file, nil
		err = c.copy.close()
		c.copy = nil
	}
	if err == nil {
		err = c.sw.d.sync(c.newFile)
	}
	if err = errors.Join(err, <-settled); err != nil {
		return err
	}
	// All that is in the ledger by now is in the new file, too. What somebody else commits from now on, the ledger does not have: see visited.
	return c.old.onWriter(ctx, func(w *conn) error { return c.unchanged(ctx, w) })
}

// dropWAL frees the new file's own WAL when the writer goes on: the file system keeps whoever frees a file waiting for its journal.
func (c *cut) dropWAL() {
	if c.wal != nil {
		_ = c.wal.Close() // only read
		c.wal = nil
	}
}
