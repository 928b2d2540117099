package table

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// errApart: somebody committed between the starts of two read transactions.
var errApart = errors.New("the two connections see different commits")

// besideAttempts is how often two connections try to begin on the same commit before one does all.
const besideAttempts = 3

// snapshotBeside reads on c while another connection checks. Both begin a read transaction, and they see the same commit if
// the checker's data_version is, inside its transaction, what it was before c's began
// (https://sqlite.org/pragma.html#pragma_data_version): then nobody has committed from before the one to after the other.
func (c *conn) snapshotBeside(ctx context.Context, path, file string, how openOptions, opts SnapshotOptions, use func(context.Context, *Snapshot) error) error {
	checker, missing, err := openToCheck(ctx, file, how)
	if err != nil {
		return err
	}
	err = errApart
	for attempt := 0; attempt < besideAttempts && errors.Is(err, errApart); attempt++ {
		err = c.beginWith(ctx, checker, func(stats Stats) error {
			return c.useBeside(ctx, checker, path, missing, stats, opts, use)
		})
	}
	return errors.Join(err, checker.close())
}

// beginWith runs f in a read transaction of c and one of the checker that see the same commit, or returns errApart.
func (c *conn) beginWith(ctx context.Context, checker *conn, f func(Stats) error) error {
	before, err := checker.dataVersion(ctx)
	if err != nil {
		return err
	}
	return c.read(ctx, func() error {
		stats, err := c.stats(ctx)
		if err != nil {
			return err
		}
		return checker.read(ctx, func() error {
			after, err := checker.dataVersion(ctx)
			if err != nil {
				return err
			}
			if after != before {
				return errApart
			}
			return f(stats)
		})
	})
}

// useBeside hands the snapshot to use while the checker works. A verdict of corruption counts whatever use has made of the pages.
func (c *conn) useBeside(ctx context.Context, checker *conn, path string, missing []string, stats Stats, opts SnapshotOptions, use func(context.Context, *Snapshot) error) error {
	checking, stop := context.WithCancel(ctx)
	defer stop()
	var r CheckReport
	var failure error
	done := make(chan struct{})
	go func() {
		defer close(done)
		r, failure = checker.report(checking, path, missing, opts)
	}()
	verdict := sync.OnceValues(func() (CheckReport, error) {
		<-done
		return r, failure
	})
	s, err := c.snapshot(ctx, path, stats, verdict)
	if err == nil {
		err = use(ctx, s)
	}
	if err != nil {
		stop()
	}
	if _, checked := verdict(); err == nil || errors.Is(checked, ErrCorrupt) {
		return checked
	}
	return err
}

func (c *conn) dataVersion(ctx context.Context) (n int64, err error) {
	if err := c.sql.QueryRowContext(ctx, "PRAGMA data_version").Scan(&n); err != nil {
		return 0, fmt.Errorf("ask for the data version: %w", classify(err))
	}
	return n, nil
}
