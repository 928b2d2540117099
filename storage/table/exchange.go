package table

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"tablekeeper/storage/ledger"
)

const (
	outwaitReaders = 2 * time.Millisecond
	outwaitPoll    = 100 * time.Microsecond
)

// exchange puts the new file in place of the old one, and opens it. After an error the old one is open again.
func (c *cut) exchange(ctx context.Context) error {
	s := c.old
	w, err := s.writer.Conn(ctx) // before nobody can connect any more
	if err != nil {
		return classify(err)
	}
	s.entrance.Lock()
	defer s.entrance.Unlock()
	err = errors.Join(c.outwait(ctx, &conn{path: s.path, sql: w}), w.Close())
	if err == nil {
		c.before, err = s.main.Stat()
	}
	if err != nil {
		s.readers.SetMaxIdleConns(c.t.opts.Readers)
		return err
	}
	s.retired.Store(true)
	s.entrance.shut, s.closed = true, true
	err = errors.Join(closeDB(s.writer), closeConn(s.gauge), closeConn(s.spare))
	if !c.stay {
		err = errors.Join(err, closeConn(s.pin))
		c.left = s.leave(c.before)
	}
	if err == nil {
		err = c.swap()
	}
	if err != nil {
		defer c.unpin()
		return errors.Join(err, c.giveWay(), c.reopen(ctx))
	}
	c.unpin()
	if c.fresh, err = c.t.succeed(ctx, c.next); err != nil {
		return c.lost(fmt.Errorf("open the compacted file: %w", err))
	}
	return c.install()
}

// outwait lets those who read just now finish, if they are quick: the proof is surer without them, and often the only one there is. Nobody else
// begins to read meanwhile.
func (c *cut) outwait(ctx context.Context, w *conn) (err error) {
	s := c.old
	s.readers.SetMaxIdleConns(-1)
	for until := time.Now().Add(c.t.outwait); s.reading() > 0 && time.Now().Before(until); {
		_ = pause(ctx, outwaitPoll) // ends by itself
	}
	c.stay = s.reading() > 0
	if !c.settled && !c.stay { // somebody who has gone was in the way
		if c.settled, err = s.settle(ctx, true); err == nil {
			err = c.unchanged(ctx, w)
		}
	}
	c.stay = c.stay || !c.settled
	return err
}

// unpin closes the connection that has stayed with the readers: not before the names are exchanged, or the table is open again. A reader that
// left until then would have been the last to close the file, and SQLite would have moved the WAL into it, and deleted it.
func (c *cut) unpin() {
	if !c.stay {
		return
	}
	if err := closeConn(c.old.pin); err != nil {
		c.t.log.Warn("close a connection to the replaced file", "error", err)
	}
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

// prove takes the stronger proof if nobody of our own has the file open.
func (c *cut) prove() (proof, error) {
	if !c.stay {
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
