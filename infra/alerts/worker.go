package alerts

import (
	"context"
	"log/slog"
	"time"
)

// worker sends one channel's deliveries, one at a time, so that a slow receiver holds up nobody else.
type worker struct {
	name    string
	channel channel
	box     *outbox
	now     func() time.Time
	log     *slog.Logger
	bell    chan struct{} // holds a token while there may be something to send
}

// ring wakes the worker.
func (w *worker) ring() {
	select {
	case w.bell <- struct{}{}:
	default:
	}
}

const atOnce = 50

// run sends what is due until ctx ends. What is cut off by the end stays pending.
func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		wait := w.round(ctx)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-w.bell:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// round sends what is due and returns how long to wait.
func (w *worker) round(ctx context.Context) time.Duration {
	now := w.now()
	ready, next, err := w.box.due(ctx, w.name, now, atOnce)
	if err != nil {
		if ctx.Err() == nil {
			w.log.Error("deliveries were not read", "channel", w.name, "error", err)
		}
		return time.Minute
	}
	for _, d := range ready {
		w.attempt(ctx, d)
	}
	switch {
	case len(ready) > 0:
		return 0 // what came behind one of them may be due now
	case next.IsZero():
		return longest
	}
	return min(max(next.Sub(w.now()), 0), longest)
}

func (w *worker) attempt(ctx context.Context, d Delivery) {
	failure := w.channel.send(ctx, d)
	if ctx.Err() != nil {
		return
	}
	if failure != nil {
		w.log.Warn("alert was not delivered", "channel", w.name, "delivery", d.ID, "attempt", d.Attempts+1, "error", failure)
	}
	// Until it is recorded nothing else is sent: what is not known to have been sent would be sent again, and again.
	for ctx.Err() == nil {
		err := w.box.attempted(context.WithoutCancel(ctx), d, w.now(), failure)
		if err == nil {
			return
		}
		w.log.Error("delivery was not recorded; it is tried again", "channel", w.name, "delivery", d.ID, "error", err)
		pause(ctx, again)
	}
}
