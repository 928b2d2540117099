package jobs

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrShuttingDown refuses an invocation while the runner stops.
var ErrShuttingDown = errors.New("the service is shutting down")

// ErrTooMany refuses an invocation while too many runs are under way; try again later.
var ErrTooMany = errors.New("too many runs are under way")

// ErrNotActive says that no run with this id is under way in this process.
var ErrNotActive = errors.New("no run with this id is under way here")

// Why a run's context ended; context.Cause tells a function.
var (
	ErrCancelled  = errors.New("the run was cancelled")
	ErrCallerLeft = errors.New("whoever asked for the run went away")
)

// asideError is why an attempt's context ended whose table an urgent run needs.
type asideError struct{ holder string }

func (e *asideError) Error() string { return "the table was needed by " + e.holder }

// UnknownFunctionError is an invocation of what neither template nor binary know.
type UnknownFunctionError struct {
	Name       string
	Suggestion string // "" if nothing is like it
	Known      []string
}

func (e *UnknownFunctionError) Error() string { return fmt.Sprintf("no function is named %q", e.Name) }

// Hint is what to do about it.
func (e *UnknownFunctionError) Hint() string {
	if e.Suggestion != "" {
		return "did you mean " + e.Suggestion + "?"
	}
	return "functions are " + strings.Join(e.Known, ", ")
}

// EventError is an event that is not a JSON object, or that the function refuses.
type EventError struct {
	Function string
	Err      error
}

func (e *EventError) Error() string { return "event for " + e.Function + ": " + e.Err.Error() }
func (e *EventError) Unwrap() error { return e.Err }

// Permanent: the same event will be refused again.
func (e *EventError) Permanent() bool { return true }

// KeyReusedError is an idempotency key that belongs to a run of another function.
type KeyReusedError struct{ Key, Function, RunID string }

func (e *KeyReusedError) Error() string {
	return fmt.Sprintf("idempotency key %q belongs to run %s of %s", e.Key, e.RunID, e.Function)
}

// Permanent: the key stays taken.
func (e *KeyReusedError) Permanent() bool { return true }

// Hint is what to do about it.
func (e *KeyReusedError) Hint() string { return "use a new key for each thing you want done" }

// timeoutError is an attempt that took longer than the template's Timeout.
type timeoutError struct {
	after    time.Duration
	deserted bool // it went on regardless
}

func (e *timeoutError) Error() string {
	if e.deserted {
		return fmt.Sprintf("timed out after %v, and does not stop", e.after)
	}
	return fmt.Sprintf("timed out after %v", e.after)
}

func (e *timeoutError) Hint() string {
	return "raise the function's Timeout in the template (at most 900 s), or look at the run's phases for what was slow"
}

// panicError is a function that panicked. The stack is in the run's log.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }
func (e *panicError) Hint() string {
	return "this is a bug in tablekeeper: please report it with the run's log"
}

func isPermanent(err error) bool {
	p, ok := errors.AsType[interface {
		error
		Permanent() bool
	}](err)
	return ok && p.Permanent()
}

func hintOf(err error) string {
	h, ok := errors.AsType[interface {
		error
		Hint() string
	}](err)
	if !ok {
		return ""
	}
	return h.Hint()
}
