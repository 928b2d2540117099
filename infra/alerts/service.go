package alerts

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"tablekeeper/jobs"
	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
)

// Options of a Service. Folder and Bus are required.
type Options struct {
	Folder     string // where alerts.db is kept
	Bus        *events.Bus
	Webhooks   []Webhook
	Topics     []SNS
	Heartbeats []Heartbeat
	Contact    string // mailto: or https: address for push services; "" turns web push off
	PushURL    string // of the dashboard, for a click on a push message
	// PushToPrivate lets push messages go to addresses that are not public.
	PushToPrivate bool
	Timing        Timing
	// Entries are all entries of a run: the event at the end of a large one has only some. nil: those have to do.
	Entries func(ctx context.Context, runID string) ([]history.Entry, error)
	Now     func() time.Time // default time.Now
	Logger  *slog.Logger     // default: discards
}

// Service tells. Run does the work; the other methods may be called from anywhere.
type Service struct {
	bus        *events.Bus
	box        *outbox
	channels   map[string]*worker
	heartbeats []*heartbeat
	vapid      VAPID
	now        func() time.Time
	log        *slog.Logger
	source     string
	entries    func(ctx context.Context, runID string) ([]history.Entry, error)

	mu       sync.Mutex
	book     *book
	sequence int64      // of the last event in the book
	unsaved  bool       // the book has what the outbox does not know
	unkept   []Delivery // what the outbox had no room for
}

// PushChannel is the name of the web push channel.
const PushChannel = "push"

// New opens the outbox and the channels.
func New(ctx context.Context, opts Options) (*Service, error) {
	box, err := openOutbox(ctx, opts.Folder)
	if err != nil {
		return nil, err
	}
	s := &Service{bus: opts.Bus, box: box, channels: map[string]*worker{}, now: opts.Now, log: opts.Logger, source: events.DefaultSource,
		entries: opts.Entries, book: newBook(opts.Timing)}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	err = s.restore(ctx)
	if err == nil {
		err = s.addChannels(ctx, opts)
	}
	if err != nil {
		return nil, errors.Join(err, box.close())
	}
	return s, nil
}

func (s *Service) restore(ctx context.Context) error {
	kept, err := s.box.load(ctx)
	if err != nil {
		return fmt.Errorf("read the state of alerts: %w", err)
	}
	s.sequence, s.book.once = kept.Sequence, kept.Once
	if kept.Alerts != nil {
		s.book.alerts = kept.Alerts
	}
	return nil
}

func (s *Service) addChannels(ctx context.Context, opts Options) error {
	for i, w := range opts.Webhooks {
		ch, err := newWebhook(w, s.now)
		if err := s.add(cmp.Or(w.Name, fmt.Sprintf("webhook-%d", i+1)), ch, err); err != nil {
			return err
		}
	}
	for i, t := range opts.Topics {
		ch, err := newSNS(ctx, t)
		if err := s.add(cmp.Or(t.Name, fmt.Sprintf("sns-%d", i+1)), ch, err); err != nil {
			return err
		}
	}
	for _, h := range opts.Heartbeats {
		beat, err := newHeartbeat(h)
		if err != nil {
			return err
		}
		s.heartbeats = append(s.heartbeats, beat)
	}
	if opts.Contact == "" {
		return nil
	}
	key, err := s.box.vapid(ctx)
	if err != nil {
		return fmt.Errorf("web push: %w", err)
	}
	s.vapid = VAPID{Key: key, Contact: opts.Contact}
	p := push{pusher: pusher{client: guardedClient(opts.PushToPrivate, sendTimeout), vapid: s.vapid, now: s.now}, box: s.box, url: opts.PushURL}
	return s.add(PushChannel, p, nil)
}

func (s *Service) add(name string, ch channel, err error) error {
	if err == nil && s.channels[name] != nil {
		err = fmt.Errorf("two alert channels are called %q", name)
	}
	s.channels[name] = &worker{name: name, channel: ch, box: s.box, now: s.now, log: s.log, bell: make(chan struct{}, 1)}
	return err
}

// Run listens and sends until ctx ends, then closes the outbox.
func (s *Service) Run(ctx context.Context) error {
	var working sync.WaitGroup
	working.Go(func() { s.listen(ctx) })
	working.Go(func() { s.tidy(ctx) })
	for _, w := range s.channels {
		working.Go(func() { w.run(ctx) })
	}
	for _, h := range s.heartbeats {
		working.Go(func() { h.run(ctx, s.log) })
	}
	working.Wait()
	return s.box.close()
}

const (
	longest = time.Hour
	// again is when what the disk refused is tried once more.
	again = 10 * time.Second
	// patience is how long a part of the past may take to be read.
	patience = time.Minute
	// tidied is how often old deliveries are forgotten.
	tidied = 24 * time.Hour
)

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (s *Service) tidy(ctx context.Context) {
	for ctx.Err() == nil {
		if err := s.box.prune(ctx, s.now()); err != nil && ctx.Err() == nil {
			s.log.Warn("old deliveries were not removed", "error", err)
		}
		pause(ctx, tidied)
	}
}

// listen takes events into the book, and tells what is due. While there is more to read nothing is told: what is over by the end of it was
// never told.
func (s *Service) listen(ctx context.Context) {
	sub := s.bus.Subscribe(events.SubscribeOptions{After: cmp.Or(s.sequence, events.FromStart)})
	defer sub.Close()
	for {
		wait := patience
		if !sub.Behind() {
			wait = s.untilNext()
		}
		waiting, stop := context.WithTimeout(ctx, wait)
		e, err := sub.Next(waiting)
		cut := waiting.Err() != nil
		stop()
		switch {
		case ctx.Err() != nil || errors.Is(err, events.ErrClosed):
			return
		case err == nil:
			s.take(ctx, e)
			if sub.Behind() {
				continue
			}
		case !cut:
			s.log.Error("events were not read; they are asked for again", "error", err)
			pause(ctx, again)
		}
		s.tell(ctx)
	}
}

// untilNext is how long there is nothing to do unless something happens.
func (s *Service) untilNext() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := longest
	if s.unsaved {
		wait = again
	}
	if at := s.book.next(); !at.IsZero() {
		wait = min(wait, max(at.Sub(s.now()), 10*time.Millisecond))
	}
	return wait
}

func (s *Service) take(ctx context.Context, e events.Event) {
	for _, h := range s.heartbeats {
		h.hear(e, s.now())
	}
	if e.Type == events.RunProgress {
		return
	}
	e = s.complete(ctx, e)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Sequence > 0 {
		s.sequence = e.Sequence
	}
	s.unsaved = true
	s.book.apply(e)
}

// complete adds the entries for which the event had no room: a table that is fine again is among them.
func (s *Service) complete(ctx context.Context, e events.Event) events.Event {
	var o jobs.Outcome
	if s.entries == nil || json.Unmarshal(e.Data, &o) != nil || !o.Truncated {
		return e
	}
	all, err := s.entries(ctx, o.RunID)
	if err == nil {
		o.Add(all)
		e.Data, err = json.Marshal(o)
	}
	if err != nil {
		s.log.Warn("an alert may last longer than its cause: the tables of a run were not read", "run", o.RunID, "error", err)
	}
	return e
}

// tell makes deliveries of what is due. What cannot be kept now is tried again until it can.
func (s *Service) tell(ctx context.Context) {
	s.mu.Lock()
	notices := s.book.due(s.now())
	for _, n := range notices {
		made, err := s.deliveries(n, slices.Sorted(maps.Keys(s.channels)))
		if err != nil {
			s.log.Error("an alert could not be written", "key", n.Key, "error", err)
		}
		s.unkept = append(s.unkept, made...)
	}
	err := s.keep(ctx, len(notices) > 0)
	s.mu.Unlock()
	for _, n := range notices {
		s.logNotice(n)
	}
	if err != nil {
		s.log.Error("alerts were not kept; it is tried again", "error", err)
		return
	}
	for _, w := range s.channels {
		w.ring()
	}
}

// keep writes what has changed to the outbox.
func (s *Service) keep(ctx context.Context, told bool) error {
	s.unsaved = s.unsaved || told
	if !s.unsaved {
		return nil
	}
	kept := state{Sequence: s.sequence, Alerts: s.book.alerts, Once: s.book.once}
	if err := s.box.save(context.WithoutCancel(ctx), kept, s.unkept); err != nil {
		return err
	}
	s.unsaved, s.unkept = false, nil
	return nil
}

func (s *Service) logNotice(n Notice) {
	level := slog.LevelWarn
	if n.State == Resolved {
		level = slog.LevelInfo
	}
	s.log.Log(context.Background(), level, "alert", "state", n.State, "severity", string(n.Severity), "title", n.Title, "detail", n.Detail, "run", n.RunID)
}

// deliveries makes one delivery of a notice for each channel.
func (s *Service) deliveries(n Notice, channels []string) ([]Delivery, error) {
	var all []Delivery
	for _, name := range channels {
		d, err := newDelivery(name, nil, s.now())
		if err != nil {
			return nil, err
		}
		if d.Body, err = envelope(n, d.ID, s.source, s.now()); err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}
