package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// ErrClosed is Next's answer when the bus or the subscription is closed and nothing is left.
var ErrClosed = errors.New("the event bus is closed")

// SubscribeOptions say what a subscriber wants.
type SubscribeOptions struct {
	After  int64            // resume: first what was kept after this sequence number; 0 is from now on, FromStart everything
	Buffer int              // events that may wait for a slow reader; default 256
	Want   func(Event) bool // nil is everything
}

// FromStart as SubscribeOptions.After replays everything that is still kept.
const FromStart = -1

// Subscription is one reader of the bus. A reader that is too slow for its buffer gets the kept events from the log
// when it catches up; only progress is lost to it, and counted.
type Subscription struct {
	bus  *Bus
	want func(Event) bool

	mu     sync.Mutex
	buffer []Event
	limit  int
	behind bool  // the log has what the buffer had no room for
	last   int64 // newest sequence number that was given out, or passed over
	floor  int64 // what came before the first event of a subscription from now on
	lost   int64
	ended  bool
	bell   chan struct{} // holds a token while Next should look again
}

// Subscribe begins a subscription. Close it when done.
func (b *Bus) Subscribe(opts SubscribeOptions) *Subscription {
	s := &Subscription{bus: b, want: opts.Want, limit: opts.Buffer, bell: make(chan struct{}, 1), last: max(0, opts.After)}
	if s.limit <= 0 {
		s.limit = defaultBuffer
	}
	s.behind = opts.After != 0 && b.log != nil
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.ended = b.subs == nil; !s.ended {
		b.subs[s] = struct{}{}
	}
	return s
}

// Close ends the subscription; a waiting Next returns ErrClosed.
func (s *Subscription) Close() {
	s.bus.mu.Lock()
	delete(s.bus.subs, s)
	s.bus.mu.Unlock()
	s.end()
}

// Lost counts events that this reader will never get: progress it was too slow for, and what the log no longer has.
func (s *Subscription) Lost() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// Behind tells whether Next has something to give, or to look for in the log, and need not wait for what is published from now on.
func (s *Subscription) Behind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.behind || slices.ContainsFunc(s.buffer, func(e Event) bool { return s.fresh(e) && (s.want == nil || s.want(e)) })
}

// fresh tells whether an event did not come from the log already.
func (s *Subscription) fresh(e Event) bool { return e.Sequence == 0 || e.Sequence > s.last }

func (s *Subscription) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.ring()
}

func (s *Subscription) ring() {
	select {
	case s.bell <- struct{}{}:
	default:
	}
}

// offer never waits.
func (s *Subscription) offer(e Event) {
	s.mu.Lock()
	if s.floor == 0 && e.Sequence > 0 && !s.behind {
		s.floor = e.Sequence - 1
	}
	switch {
	case e.Sequence > 0 && s.behind:
		// The log has it, and will give it in order.
	case len(s.buffer) < s.limit:
		s.buffer = append(s.buffer, e)
	case e.Sequence > 0:
		s.behind = true
	default:
		s.lost++
	}
	s.mu.Unlock()
	s.ring()
}

// Next is the next event; it waits for one. Only one goroutine may call it.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	for {
		e, ok, behind, ended := s.take()
		switch {
		case ok:
			return e, nil
		case behind:
			if err := s.catchUp(ctx); err != nil {
				return Event{}, err
			}
			continue
		case ended:
			return Event{}, ErrClosed
		}
		select {
		case <-ctx.Done():
			return Event{}, ctx.Err()
		case <-s.bell:
		}
	}
}

func (s *Subscription) take() (e Event, ok, behind, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.buffer) > 0 {
		e = s.buffer[0]
		s.buffer = s.buffer[1:]
		if !s.fresh(e) {
			continue
		}
		s.last = max(s.last, e.Sequence)
		if s.want == nil || s.want(e) {
			return e, true, false, false
		}
	}
	return Event{}, false, s.behind, s.ended
}

// catchUp fills the buffer from the log.
func (s *Subscription) catchUp(ctx context.Context) error {
	s.mu.Lock()
	last := s.last
	if last == 0 {
		last = s.floor
	}
	s.behind = false // what is published from here on goes to the buffer again; what comes twice is passed over
	s.mu.Unlock()
	events, err := s.bus.log.EventsAfter(ctx, last, s.limit+1)
	var first int64
	if err == nil {
		first, _, err = s.bus.log.EventBounds(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.behind = true
		s.buffer = merge(nil, s.buffer, true) // the log has what arrived, too, and what comes before it
		return fmt.Errorf("read events after %d: %w", last, err)
	}
	if last > 0 && first > last+1 {
		s.lost += first - last - 1
	}
	more := len(events) > s.limit
	events = events[:min(len(events), s.limit)]
	s.behind = s.behind || more
	s.buffer = merge(events, s.buffer, more)
	return nil
}

// merge puts what the log gave before what arrived meanwhile. If the log has more, it has what arrived, too, and in between what neither has.
func merge(kept, arrived []Event, more bool) []Event {
	var last int64
	if n := len(kept); n > 0 {
		last = kept[n-1].Sequence
	}
	for _, e := range arrived {
		if e.Sequence == 0 || e.Sequence > last && !more {
			kept = append(kept, e)
		}
	}
	return kept
}
