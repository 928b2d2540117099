package table

import (
	"context"
	"errors"
	"fmt"

	"tablekeeper/storage/ledger"
)

// Detach takes the table out of service and closes its files, so that they can be repaired or replaced: operations that have
// begun are waited for, later ones wait for Attach. What is in the WAL is moved to the main file first. The handle stays the
// table's owner.
//
// Of a damaged table, all that was committed is in its ledger afterwards, for CompareLedger; Findings has what else was learnt. If the ledger
// cannot be written, the table stays out of service with its files open, and Detach can be called again.
//
// If ctx ends before the last operation does, the table stays out of service with its files open, and Detach can be called again.
func (t *Table) Detach(ctx context.Context) error {
	t.cease()
	t.swapping.Lock()
	defer t.swapping.Unlock()
	sound := t.gate.to(detached, serving)
	if !sound && !t.gate.to(detached, suspicious, failed, detached) {
		return &ownedError{t.path, ErrClosed}
	}
	s, err := t.gate.drained(ctx)
	if err != nil {
		return fmt.Errorf("detach table %s: wait for its users: %w", t.path, err)
	}
	t.left = evidence{}
	if s == nil {
		return nil
	}
	whole := context.WithoutCancel(ctx)
	if !sound {
		if err := s.surrender(whole); err != nil {
			t.gate.restore(s)
			return fmt.Errorf("detach table %s: record what is only in its WAL: %w", t.path, err)
		}
	}
	left, err := s.end(whole, sound)
	t.left = left
	t.learn(s.found)
	if !sound && left.clean != (ledger.Clean{}) {
		// Whoever goes on after a crash can rely on the ledger, too.
		err = errors.Join(err, s.ledger.Fold(left.clean))
	}
	if closeErr := s.ledger.Close(); err == nil {
		err = closeErr
	}
	if err != nil && sound {
		return fmt.Errorf("detach table %s: %w", t.path, err)
	}
	if err != nil {
		t.log.Warn("close the damaged table", "error", err)
	}
	return nil
}

// AttachOptions: the zero value compares the file with its ledger, like Open.
type AttachOptions struct {
	// Trusted: the file has just been checked, so that its pages need not be compared with the ledger now.
	Trusted bool
	// LedgerHolds: only the caller has touched the file since Detach, to give pages the content that the ledger knows.
	// What differs is damaged, even where SQLite's own traces would leave that open.
	LedgerHolds bool
	// LossTold: commits that the ledger knows, and that are neither in the file nor in a WAL any more, are given up. Else they make the
	// table a damaged one, CauseWAL.
	LossTold bool
}

// Attach opens the files again and goes on serving whoever waits. The file may be another one than before: repaired, or swapped
// in, with the ledger that StageLedger wrote. If it is damaged, the table stays out of service, and the error is ErrCorrupt.
func (t *Table) Attach(ctx context.Context, opts AttachOptions) error {
	t.swapping.Lock()
	defer t.swapping.Unlock()
	if t.gate.current() != nil {
		return fmt.Errorf("attach table %s: its files are open: %w", t.path, ErrBusy)
	}
	s, err := t.open(ctx, opts)
	if err != nil {
		if found := asDamage(err); found != nil {
			err = found
		}
		return fmt.Errorf("attach table %s: %w", t.path, err)
	}
	if !t.gate.attach(s) {
		_, err := s.close(context.WithoutCancel(ctx), false)
		return &ownedError{t.path, fmt.Errorf("%w: %w", ErrClosed, err)}
	}
	t.found = Findings{}
	return nil
}

// Fail gives up: whoever waits, and whoever comes until the next Attach, gets ErrDegraded and the cause.
func (t *Table) Fail(cause error) {
	t.gate.fail(&ownedError{t.path, fmt.Errorf("%w: %w", ErrDegraded, cause)})
}
