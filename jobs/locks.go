package jobs

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	lockGlance = 250 * time.Millisecond // how long a Locker may take that waits, where we do not want to
	lockPoll   = 200 * time.Millisecond
)

// tableLocks excludes the runs of this process from each other.
type tableLocks struct {
	mu     sync.Mutex
	held   map[string]*tableLock
	wanted map[string]*tableLock // by an urgent run, which is to have it next; free is closed when that has it, or gave up
}

type tableLock struct {
	owner Owner
	free  chan struct{}           // closed when it is released
	end   context.CancelCauseFunc // ends what the owner does with the table
}

func newTableLocks() *tableLocks {
	return &tableLocks{held: map[string]*tableLock{}, wanted: map[string]*tableLock{}}
}

// want reserves a table for an urgent run: whoever stands aside for it may ask for the table again before it does.
func (l *tableLocks) want(table string, owner Owner) (done func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wanted[table] != nil {
		return func() {} // the other one's turn comes first
	}
	w := &tableLock{owner: owner, free: make(chan struct{}), end: func(error) {}}
	l.wanted[table] = w
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.wanted, table)
		close(w.free)
	}
}

// try takes the lock, or gives the one that is in the way.
func (l *tableLocks) try(table string, owner Owner, end context.CancelCauseFunc) (unlock func(), other *tableLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if other := l.held[table]; other != nil {
		return nil, other
	}
	if other := l.wanted[table]; other != nil && other.owner != owner {
		return nil, other
	}
	mine := &tableLock{owner: owner, free: make(chan struct{}), end: end}
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
	aside   bool // we had it, and stood aside
}

// run names the run in a message.
func (o Owner) run() string { return o.Function + " (run " + o.RunID + ")" }

func (x *run) owner() Owner { return Owner{Function: x.spec.Name, RunID: x.id, Actor: x.rec.Actor} }

// lock takes a table, waiting up to patience; end is how the one who needs it more ends what is done under the lock. Nil unlock and busy: ctx
// has ended, or err.
func (x *run) lock(ctx context.Context, end context.CancelCauseFunc, table string, patience time.Duration) (unlock func(), held *busy, err error) {
	owner := x.owner()
	key := "table/" + table
	if table == "" {
		key = "function/" + x.spec.Name // a unit without a table excludes itself alone
	}
	if len(x.over) > 0 {
		defer x.r.locks.want(key, owner)()
	}
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		inner, other := x.r.locks.try(key, owner, end)
		if other == nil {
			return x.lockOutside(ctx, table, owner, inner, patience)
		}
		if slices.Contains(x.over, other.owner.Function) {
			other.end(&asideError{owner.run()})
		}
		held = &busy{holder: other.owner.run(), overlap: other.owner.Function == x.spec.Name}
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
