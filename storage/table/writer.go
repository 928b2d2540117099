package table

import (
	"context"
	"database/sql"
)

// Write calls fn inside one write transaction, the only one at that time, and commits it if fn returns nil. When Write returns nil the
// transaction is durable: it survives a power cut.
//
// If the table turns out to be damaged before the commit, Write waits for its recovery and calls fn again: fn sets what it
// returns rather than adding to it. Errors are those of Read. fn must not call Write of the same table.
func (t *Table) Write(ctx context.Context, fn func(*sql.Tx) error) error {
	return t.operate(ctx, func(*session) error {
		release, err := t.writeLock(ctx)
		if err != nil {
			return err
		}
		defer release()
		s := t.gate.current() // while we waited, the file may have been replaced
		if s == nil {
			return errRetired
		}
		if err := inTx(ctx, s.writer, nil, fn); err != nil {
			return err
		}
		return t.committed(s)
	})
}

// Exclusive gives fn the connection that writes, while nobody else in this program writes. It is for work that a
// transaction cannot do: hooks, pragmas, a catch-up before a swap. fn leaves no transaction open. It is not run again.
func (t *Table) Exclusive(ctx context.Context, fn func(context.Context, *sql.Conn) error) error {
	patience := patience{limit: t.opts.RecoverWait}
	defer patience.end()
	s, err := t.gate.enter(ctx, &patience)
	if err != nil {
		return &ownedError{t.path, err}
	}
	defer t.gate.leave(s)
	release, err := t.writeLock(ctx)
	if err != nil {
		return err
	}
	defer release()
	if s := t.gate.current(); s != nil {
		return t.exclusive(ctx, s, fn)
	}
	return &ownedError{t.path, ErrRecovering}
}

func (t *Table) exclusive(ctx context.Context, s *session, fn func(context.Context, *sql.Conn) error) error {
	c, err := s.writer.Conn(ctx)
	if err != nil {
		return t.classified(err, nil)
	}
	defer func() { _ = c.Close() }() // goes back to the pool
	if err := fn(ctx, c); err != nil {
		return t.classified(err, t.diagnose(ctx, err))
	}
	return t.committed(s)
}

// writeLock takes the right to write.
func (t *Table) writeLock(ctx context.Context) (release func(), err error) {
	select {
	case t.write <- struct{}{}:
		return func() { <-t.write }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// committed is what a commit costs beyond SQLite: two small reads and a stat.
func (t *Table) committed(s *session) error {
	// A commit into a file that has lost its name is no commit.
	if err := s.sameFile(); err != nil {
		return err
	}
	t.commits.Add(1)
	full, err := s.afterCommit()
	if err != nil {
		t.log.Warn("note the WAL's generation", "error", err)
	}
	if full || s.dirty.CompareAndSwap(false, true) {
		select {
		case t.kick <- struct{}{}:
		default:
		}
	}
	return nil
}
