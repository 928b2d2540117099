package bucket

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Backoff says how often and how patiently a call is tried again. Waits grow by half each time, and are spread at random by half.
type Backoff struct {
	Attempts int           // in all; 0 means 5, 1 never tries again
	First    time.Duration // before the second attempt; 0 means 200 ms
	Max      time.Duration // the longest wait; 0 means 10 s
}

func (b Backoff) attempts() int {
	if b.Attempts <= 0 {
		return 5
	}
	return b.Attempts
}

func (b Backoff) waits() *backoff.ExponentialBackOff {
	waits := backoff.NewExponentialBackOff()
	waits.InitialInterval, waits.MaxInterval = 200*time.Millisecond, 10*time.Second
	if b.First > 0 {
		waits.InitialInterval = b.First
	}
	if b.Max > 0 {
		waits.MaxInterval = b.Max
	}
	waits.Reset()
	return waits
}

// Retry calls f until it succeeds, fails with anything but ErrUnreachable, or the attempts are used up; the last error is returned.
// It waits between attempts, not beyond the context's end. A nil notify is not called.
func (b Backoff) Retry(ctx context.Context, f func() error, notify func(err error, wait time.Duration)) error {
	var last error
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		last = f()
		if last != nil && !errors.Is(last, ErrUnreachable) {
			return struct{}{}, backoff.Permanent(last)
		}
		return struct{}{}, last
	}, backoff.WithBackOff(b.waits()), backoff.WithMaxTries(uint(b.attempts())), backoff.WithMaxElapsedTime(0), backoff.WithNotify(notify))
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(last, cause) {
		return errors.Join(last, cause)
	}
	return last
}

// watchdog cancels a context if something that was started does not stop in time.
type watchdog struct {
	patience time.Duration
	bite     context.CancelCauseFunc
	timer    *time.Timer
}

// errStalled is the cause of a context that a watchdog ended.
var errStalled = errors.New("nothing came in time")

// watch returns a context that ends if the watchdog's started time exceeds patience.
func watch(ctx context.Context, patience time.Duration) (context.Context, *watchdog) {
	ctx, bite := context.WithCancelCause(ctx)
	return ctx, &watchdog{patience: patience, bite: bite}
}

func (w *watchdog) start() {
	if w.timer == nil {
		w.timer = time.AfterFunc(w.patience, func() { w.bite(errStalled) })
		return
	}
	w.timer.Reset(w.patience)
}

func (w *watchdog) stop() { w.timer.Stop() }

// end releases the context.
func (w *watchdog) end() { w.bite(nil) }
