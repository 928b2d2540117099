package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// attempt is how one try at one table went.
type attempt struct {
	report   json.RawMessage
	err      error
	stopped  bool // err is the end of the context, and nothing else
	took     time.Duration
	deserted <-chan struct{} // not nil: the function goes on and this is closed when it returns
}

// expand asks a function for the tables of an event, each once; a panic is an error.
func expand(ctx context.Context, fn Function, event json.RawMessage) (tables []string, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v}
		}
	}()
	named, err := fn.Tables(ctx, event)
	if err != nil || named == nil {
		return nil, err
	}
	seen := make(map[string]bool, len(named))
	tables = make([]string, 0, len(named))
	for _, t := range named {
		if !seen[t] {
			seen[t] = true
			tables = append(tables, t)
		}
	}
	return tables, nil
}

// attempt calls the function with the template's timeout. A function that ignores the end of its context is left
// alone after a while, so that one table cannot stop the others; its lock is kept until it returns.
func (x *run) attempt(ctx context.Context, table string, number int) attempt {
	began := x.r.now()
	deadline := &timeoutError{after: x.spec.Timeout}
	working, stop := context.WithTimeoutCause(ctx, x.spec.Timeout, deadline)
	defer stop()
	call, finish := x.call(table, number)
	returned := make(chan attempt, 1)
	left := make(chan struct{})
	go func() {
		a := attempt{err: errors.New("the function ended its goroutine")}
		defer func() { returned <- a; close(left) }()
		a = x.guarded(working, call)
	}()
	var a attempt
	select {
	case a = <-returned:
	case <-working.Done():
		a = x.outlast(returned, left)
	}
	finish()
	a.took = max(0, x.r.now().Sub(began))
	// Only an error of ours: a function that succeeded at the last moment has succeeded.
	if a.err != nil && errors.Is(context.Cause(working), error(deadline)) && ctx.Err() == nil {
		a.err = &timeoutError{after: x.spec.Timeout, deserted: a.deserted != nil}
	} else if a.err != nil && ctx.Err() != nil {
		a.stopped = errors.Is(a.err, context.Canceled) || errors.Is(a.err, context.Cause(ctx))
		a.err = fmt.Errorf("%w (%w)", context.Cause(ctx), a.err)
	}
	return a
}

func (x *run) outlast(returned <-chan attempt, left <-chan struct{}) attempt {
	patience := time.NewTimer(x.r.cfg.Abandon)
	defer patience.Stop()
	select {
	case a := <-returned:
		return a
	case <-patience.C:
		return attempt{err: errors.New("the function does not stop"), deserted: left}
	}
}

// guarded calls the function and turns a panic into an error.
func (x *run) guarded(ctx context.Context, call Call) (a attempt) {
	defer func() {
		if v := recover(); v != nil {
			a = attempt{err: &panicError{v}}
			call.Log.Error("function panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
	}()
	a.report, a.err = x.fn.Run(ctx, call)
	return a
}
