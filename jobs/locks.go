package jobs

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	lockGlance = 250 * time.Millisecond // how long a Locker may take that waits, where we do not want to
	lockPoll   = 200 * time.Millisecond
)

// tableLocks excludes the runs of this process from each other.
type tableLocks struct {
	mu   sync.Mutex
	held map[string]*tableLock
}

type tableLock struct {
	owner Owner
	free  chan struct{} // closed when it is released
}

func newTableLocks() *tableLocks { return &tableLocks{held: map[string]*tableLock{}} }

// try takes the lock, or gives the one that is in the way.
func (l *tableLocks) try(table string, owner Owner) (unlock func(), other *tableLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if other := l.held[table]; other != nil {
		return nil, other
	}
	mine := &tableLock{owner: owner, free: make(chan struct{})}
	l.held[table] = mine
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.held, table)
		close(mine.free)
	}, nil
}

func (l *tableLocks) holder(key string) (Owner, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if held := l.held[key]; held != nil {
		return held.owner, true
	}
	return Owner{}, false
}

// busy is a table that another holds.
type busy struct {
	holder  string
	overlap bool // the same function, in this process
}

// lock takes a table, waiting up to patience. Nil unlock and busy: ctx has ended, or err.
func (x *run) lock(ctx context.Context, table string, patience time.Duration) (unlock func(), held *busy, err error) {
	owner := Owner{Function: x.spec.Name, RunID: x.id, Actor: x.rec.Actor}
	key := "table/" + table
	if table == "" {
		key = "function/" + x.spec.Name // a unit without a table excludes itself alone
	}
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		inner, other := x.r.locks.try(key, owner)
		if other == nil {
			return x.lockOutside(ctx, table, owner, inner, patience)
		}
		held = &busy{holder: other.owner.Function + " (run " + other.owner.RunID + ")", overlap: other.owner.Function == x.spec.Name}
		if patience == 0 || held.overlap && x.scheduled() {
			return nil, held, nil
		}
		select {
		case <-other.free:
		case <-deadline.C:
			return nil, held, nil
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// lockOutside takes the lock that other processes see. inner is released again if that does not succeed.
func (x *run) lockOutside(ctx context.Context, table string, owner Owner, inner func(), patience time.Duration) (unlock func(), held *busy, err error) {
	if x.r.cfg.Locker == nil || table == "" {
		return inner, nil, nil
	}
	defer func() {
		if unlock == nil {
			inner()
		}
	}()
	waiting, stop := context.WithTimeout(ctx, max(patience, lockGlance))
	defer stop()
	for {
		outer, err := x.r.cfg.Locker.Lock(waiting, table, owner)
		if err == nil {
			return func() { outer(); inner() }, nil, nil
		}
		b, isBusy := errors.AsType[*BusyError](err)
		switch {
		case ctx.Err() != nil:
			return nil, nil, ctx.Err()
		case !isBusy && !errors.Is(err, context.DeadlineExceeded):
			return nil, nil, err
		case isBusy:
			held = &busy{holder: b.Holder}
		case held == nil:
			held = &busy{holder: "another process"}
		}
		if patience == 0 || waiting.Err() != nil {
			return nil, held, nil
		}
		select {
		case <-waiting.Done():
		case <-time.After(lockPoll):
		}
	}
}
