package table

import (
	"context"
	"database/sql"
	"errors"
)

// Read calls fn inside one read transaction: a single state of the table. It ends in a rollback.
//
// If the table turns out to be damaged, Read waits for its recovery and calls fn again: fn sets what it returns rather
// than adding to it. Errors of SQLite are ErrBusy, ErrCorrupt and so on; fn's own come back as they are. ErrRecovering,
// ErrDegraded and ErrClosed mean that the table does not serve.
func (t *Table) Read(ctx context.Context, fn func(*sql.Tx) error) error {
	return t.operate(ctx, func(s *session) error {
		begun := false
		err := inTx(ctx, s.readers, &sql.TxOptions{ReadOnly: true}, func(tx *sql.Tx) error {
			begun = true
			return fn(tx)
		})
		if err != nil && !begun && s.retired.Load() {
			return errRetired
		}
		if err == nil && t.probed.due() {
			err = s.probe(ctx)
		}
		return err
	})
}

// inTx runs fn in a transaction, committed if fn returns nil. Leaving a panic to the caller, it still ends the transaction.
func inTx(ctx context.Context, db *sql.DB, opts *sql.TxOptions, fn func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			_ = tx.Rollback() // fn's error says more
		}
	}()
	if err := fn(tx); err != nil {
		return err
	}
	if opts != nil && opts.ReadOnly {
		return nil
	}
	done = true
	return tx.Commit()
}

// errRetired: another file took the table's place before the operation began. It is to be run again.
var errRetired = errors.New("the table's file was replaced")

// maxAttempts bounds how often one operation meets damage: a table that is damaged again at once does not loop.
const maxAttempts = 3

// operate runs one operation on the open session, reports the damage it meets, and runs it again after the recovery.
func (t *Table) operate(ctx context.Context, op func(*session) error) error {
	patience := patience{limit: t.opts.RecoverWait}
	defer patience.end()
	for attempt := 1; ; attempt++ {
		s, err := t.gate.enter(ctx, &patience)
		if err != nil {
			return &ownedError{t.path, err}
		}
		err = op(s)
		if err == nil {
			t.gate.leave(s)
			return nil
		}
		if errors.Is(err, errRetired) && attempt < maxAttempts {
			t.gate.leave(s)
			continue
		}
		found := t.diagnose(ctx, err)
		if found != nil && s.retired.Load() && attempt < maxAttempts { // in a file that is not the table any more
			t.gate.leave(s)
			continue
		}
		if found != nil && t.opts.OnCorrupt != nil {
			t.incident(ctx, found)
		}
		t.gate.leave(s)
		if found == nil || t.opts.OnCorrupt == nil || attempt == maxAttempts {
			return t.classified(err, found)
		}
	}
}

// classified makes the caller's error, once. An error that did not come from SQLite or from us is fn's own.
func (t *Table) classified(err error, found *damage) error {
	if found != nil {
		return &ownedError{t.path, found}
	}
	if sqliteCode(err) == 0 || isOwned(err) {
		return err
	}
	return &ownedError{t.path, classify(err)}
}

// ownedError is an error of an owned table. It keeps apart the errors of a table whose operation runs inside that of
// another one.
type ownedError struct {
	path string
	err  error
}

func (e *ownedError) Error() string { return "table " + e.path + ": " + e.err.Error() }
func (e *ownedError) Unwrap() error { return e.err }

func isOwned(err error) bool {
	var e *ownedError
	return errors.As(err, &e)
}
