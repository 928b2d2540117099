package table

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"tablekeeper/storage/ledger"
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
		_, err := c.old.settle(ctx, true)
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

// exchange puts the new file in place of the old one, and opens it. After an error the old one is open again.
func (c *cut) exchange(ctx context.Context) error {
	s := c.old
	s.entrance.Lock()
	defer s.entrance.Unlock()
	var err error
	if c.before, err = s.main.Stat(); err != nil {
		return err
	}
	s.retired.Store(true)
	s.entrance.shut, s.closed = true, true
	s.readers.SetMaxIdleConns(-1)
	err = errors.Join(closeDB(s.writer), s.closeKeepers())
	c.left = s.leave(c.before)
	if err == nil {
		err = c.swap()
	}
	if err != nil {
		return errors.Join(err, c.giveWay(), c.reopen(ctx))
	}
	if c.fresh, err = c.t.succeed(ctx, c.next); err != nil {
		return c.lost(fmt.Errorf("open the compacted file: %w", err))
	}
	return c.install()
}

func (c *cut) install() error {
	if !c.t.gate.replace(c.old, c.fresh) {
		_, err := c.fresh.close(context.Background(), false)
		return errors.Join(errAway, err)
	}
	return nil
}

// swap exchanges the names, under the proof.
func (c *cut) swap() error {
	fresh, err := lockSole(c.sw.d, c.newFile)
	if err != nil {
		return fmt.Errorf("lock the new file: %w", err)
	}
	if c.proof, err = c.prove(); err != nil {
		return errors.Join(err, fresh.release())
	}
	if err := c.rename(); err != nil {
		return errors.Join(err, c.restore(), c.proof.release(), fresh.release())
	}
	return errors.Join(c.releaseProof(), fresh.release())
}

// prove takes the stronger proof if no reader of our own is in a transaction.
func (c *cut) prove() (proof, error) {
	if c.old.readers.Stats().InUse == 0 {
		if c.left == (evidence{}) { // the last reader has gone just now
			c.left = c.old.leave(c.before)
		}
		if err := c.old.main.Close(); err != nil {
			return nil, err
		}
		p, err := prove(c.sw.d, c.sw.path, false, "")
		var inUse *InUseError
		if err == nil {
			return p, nil
		}
		if !errors.As(err, &inUse) || !inUse.Own || len(inUse.Processes) > 0 {
			return nil, err
		}
	}
	return barAll(c.sw.d, c.sw.path)
}

func (c *cut) rename() error {
	sw := c.sw
	if id, err := identify(sw.path); err != nil || id != c.old.id {
		return fmt.Errorf("another file took the table's name meanwhile: %w", errors.Join(os.ErrInvalid, err))
	}
	if err := c.visited(); err != nil {
		return err
	}
	if err := c.clear(); err != nil {
		return err
	}
	if err := sw.d.rename(sw.newFile(), sw.path); err != nil {
		return err
	}
	err := c.proof.undisturbed()
	if err == nil {
		err = sw.d.syncDir(sw.dir())
	}
	if err == nil {
		err = c.proof.undisturbed()
	}
	if err != nil {
		return errors.Join(err, sw.putBack())
	}
	return nil
}

// visited finds who has come, committed and gone since finish: the proof does not show them, and the new file has nothing of theirs. What was
// committed beside our connections is in the WAL that we still have, whatever has become of its name. Whoever came later took the empty
// -wal away that we had left, or has written to the file.
func (c *cut) visited() error {
	if gen, err := walGeneration(c.old.tail.file); err != nil || gen != c.old.tail.gen || !c.old.quiet() {
		return errors.Join(errForeign, err)
	}
	wal := c.sw.path + "-wal"
	named, err := os.Lstat(wal)
	if err != nil {
		return errors.Join(errForeign, err)
	}
	if ours, err := c.old.tail.file.Stat(); err == nil && os.SameFile(named, ours) {
		return nil
	}
	main, err := os.Lstat(c.sw.path)
	if err != nil || main.ModTime().UnixNano() != c.left.clean.MainTime || named.Size() > 0 || fileIDOf(named).Ino != c.left.clean.WALInode ||
		named.ModTime().UnixNano() != c.left.clean.WALTime {
		return errors.Join(errForeign, err)
	}
	return os.Remove(wal) // it is empty, and need not be gone for good
}

// aside is where the names of what lies beside the old file are kept, as long as it may have to go back.
func (c *cut) aside() map[string]string {
	return map[string]string{"-wal": c.sw.kept() + "-wal", "-shm": c.shm}
}

// clear takes the old WAL away before the new file arrives: SQLite would replay it into that.
func (c *cut) clear() error {
	cleared := false
	for ending, kept := range c.aside() {
		file := c.sw.path + ending
		if _, err := os.Lstat(file); isGone(err) {
			continue
		}
		if err := c.sw.keep(file, kept); err != nil {
			return err
		}
		if err := c.sw.d.remove(file); err != nil {
			return err
		}
		cleared = true
	}
	if !cleared {
		return nil
	}
	return c.sw.d.syncDir(c.sw.dir())
}

// restore gives back what clear took away: readers that stayed are using it.
func (c *cut) restore() error {
	var err error
	for ending, kept := range c.aside() {
		if _, gone := os.Lstat(kept); gone != nil {
			continue
		}
		if linked := c.sw.d.link(kept, c.sw.path+ending); !errors.Is(linked, os.ErrExist) {
			err = errors.Join(err, linked)
		}
	}
	return errors.Join(err, c.sw.d.remove(c.shm))
}

// giveWay frees what the copy took if the disk is full: the table needs room for its -shm to be opened again.
func (c *cut) giveWay() error {
	if err := enoughSpace(need{c.sw.path, 0}); !errors.Is(err, ErrNoSpace) {
		return nil
	}
	c.dropWAL()
	return c.sw.d.remove(c.newFile)
}

// reopen goes on with the old file.
func (c *cut) reopen(ctx context.Context) error {
	// Not the time that the file has now: somebody may have written to it since.
	c.t.left = evidence{id: c.old.id, clean: ledger.Clean{MainTime: c.before.ModTime().UnixNano()}}
	var err error
	if c.fresh, err = c.t.open(ctx, AttachOptions{Trusted: true}); err != nil {
		return c.lost(fmt.Errorf("open the table again: %w", err))
	}
	err = c.install()
	c.t.tasks.Go(func() { c.retire() })
	return err
}

// lost takes the table out of service: its file cannot be opened.
func (c *cut) lost(err error) error {
	found := asDamage(err)
	if found != nil && c.t.opts.OnCorrupt != nil {
		c.t.incident(context.Background(), found)
	} else {
		c.t.gate.fail(&ownedError{c.t.path, fmt.Errorf("%w: %w", ErrDegraded, err)})
	}
	return err
}

// succeed opens the file that has just been swapped in, with its ledger at hand.
func (t *Table) succeed(ctx context.Context, l *ledger.Ledger) (*session, error) {
	main, info, err := openFile(t.path)
	if err != nil {
		return nil, err
	}
	f := &found{main: main, info: info, id: fileIDOf(info), ledger: l, trust: certain}
	s := &session{path: t.path, id: f.id, main: main, ledger: l}
	err = s.start(ctx, t, f, AttachOptions{})
	if err == nil {
		err = s.pools(ctx, t.opts)
	}
	if err != nil {
		return nil, errors.Join(err, s.abandon())
	}
	return s, nil
}
