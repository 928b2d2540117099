package events

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// DefaultSource is the CloudEvents source of this program's events.
const DefaultSource = "tablekeeper"

const (
	defaultBuffer = 256
	queueLength   = 4096
	batch         = 128
)

// Options of a Bus. Zero values are defaults.
type Options struct {
	Log    Log              // keeps events; nil: nothing is kept, sequence numbers are 0
	Source string           // URI reference; default "tablekeeper"
	Now    func() time.Time // default time.Now
	Logger *slog.Logger     // default: discards
}

// Bus takes events from whoever publishes and hands each to every subscriber.
type Bus struct {
	log     Log
	source  string
	now     func() time.Time
	logger  *slog.Logger
	dropped atomic.Int64
	stop    context.CancelFunc // ends what the log is doing
	ctx     context.Context    // of the log's calls; ends when Close gives up waiting
	done    chan struct{}

	mu     sync.Mutex
	closed bool
	queue  chan Event
	subs   map[*Subscription]struct{} // nil once the bus has ended them
}

// NewBus starts a bus. Close it.
func NewBus(opts Options) *Bus {
	b := &Bus{log: opts.Log, source: opts.Source, now: opts.Now, logger: opts.Logger,
		done: make(chan struct{}), queue: make(chan Event, queueLength), subs: map[*Subscription]struct{}{}}
	if b.source == "" {
		b.source = DefaultSource
	}
	if b.now == nil {
		b.now = time.Now
	}
	if b.logger == nil {
		b.logger = slog.New(slog.DiscardHandler)
	}
	b.ctx, b.stop = context.WithCancel(context.Background())
	go b.deliver()
	return b
}

// Publish completes the event (id, source, time) and hands it on. It never waits: if the bus cannot keep up with
// thousands of events, the event is dropped and counted; progress long before what is kept. Publishing on a closed bus does nothing.
func (b *Bus) Publish(e Event) {
	e.SpecVersion, e.Sequence = "1.0", 0
	if e.ID == "" {
		e.ID = newID()
	}
	if e.Source == "" {
		e.Source = b.source
	}
	if e.Time.IsZero() {
		e.Time = b.now()
	}
	e.Time = e.Time.UTC().Round(0)
	if len(e.Data) > 0 && e.DataContentType == "" {
		e.DataContentType = "application/json"
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	if e.Type == RunProgress && len(b.queue) >= queueLength/2 {
		b.dropped.Add(1) // the next says more, and the end of a run has room
		return
	}
	select {
	case b.queue <- e:
	default:
		b.dropped.Add(1)
	}
}

func newID() string {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.NewString()
	}
	return id.String()
}

// Dropped counts the events that Publish had no room for.
func (b *Bus) Dropped() int64 { return b.dropped.Load() }

// Close hands on what was published and then ends every subscription. If ctx ends first, what is left is dropped.
func (b *Bus) Close(ctx context.Context) error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.queue)
	}
	b.mu.Unlock()
	defer b.stop()
	select {
	case <-b.done:
		return nil
	case <-ctx.Done():
		b.stop()
		<-b.done
		return ctx.Err()
	}
}

func (b *Bus) deliver() {
	defer close(b.done)
	for e := range b.queue {
		events := []Event{e}
	more:
		for len(events) < batch {
			select {
			case e, ok := <-b.queue:
				if !ok {
					break more
				}
				events = append(events, e)
			default:
				break more
			}
		}
		b.keep(events)
		b.fanOut(events)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subs {
		s.end()
	}
	b.subs = nil
}

// keep gives sequence numbers to all events but progress. Without a number an event is still handed on: whoever listens
// now should know, and the history says in the log what it could not keep.
func (b *Bus) keep(events []Event) {
	if b.log == nil {
		return
	}
	var kept []Event
	var at []int
	for i, e := range events {
		if e.Type != RunProgress {
			kept, at = append(kept, e), append(at, i)
		}
	}
	if len(kept) == 0 {
		return
	}
	if err := b.log.AppendEvents(b.ctx, kept); err != nil {
		b.logger.Error("events were not kept", "count", len(kept), "error", err)
		return
	}
	for i, e := range kept {
		events[at[i]] = e
	}
}

func (b *Bus) fanOut(events []Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subs {
		for _, e := range events {
			s.offer(e)
		}
	}
}
