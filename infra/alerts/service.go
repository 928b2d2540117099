package alerts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"tablekeeper/jobs/events"
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
	Now           func() time.Time // default time.Now
	Logger        *slog.Logger     // default: discards
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

	mu       sync.Mutex
	book     *book
	sequence int64 // of the last event in the book
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
		book: newBook(opts.Timing)}
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
	if err := s.box.prune(ctx, s.now()); err != nil {
		s.log.Warn("old deliveries were not removed", "error", err)
	}
	var working sync.WaitGroup
	working.Go(func() { s.listen(ctx) })
	for _, w := range s.channels {
		working.Go(func() { w.run(ctx) })
	}
	for _, h := range s.heartbeats {
		working.Go(func() { h.run(ctx, s.log) })
	}
	working.Wait()
	return s.box.close()
}

// listen takes events into the book, and tells what is due.
func (s *Service) listen(ctx context.Context) {
	sub := s.bus.Subscribe(events.SubscribeOptions{After: cmp.Or(s.sequence, events.FromStart)})
	defer sub.Close()
	taken := make(chan events.Event)
	var reading sync.WaitGroup
	defer reading.Wait()
	reading.Go(func() {
		defer close(taken)
		for {
			e, err := sub.Next(ctx)
			if err != nil {
				return
			}
			select {
			case taken <- e:
			case <-ctx.Done():
				return
			}
		}
	})
	for {
		timer := time.NewTimer(s.untilNext())
		select {
		case e, open := <-taken:
			if !open {
				timer.Stop()
				return
			}
			s.take(e)
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
		s.tell(ctx)
	}
}

const longest = time.Hour

func (s *Service) untilNext() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.book.next()
	if at.IsZero() {
		return longest
	}
	return min(max(at.Sub(s.now()), 10*time.Millisecond), longest)
}

func (s *Service) take(e events.Event) {
	for _, h := range s.heartbeats {
		h.hear(e)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Sequence > 0 {
		s.sequence = e.Sequence
	}
	s.book.apply(e)
}

// tell makes deliveries of what is due. What cannot be kept now stays in the book and is due again after a restart only;
// losing the disk is told in the log.
func (s *Service) tell(ctx context.Context) {
	s.mu.Lock()
	notices := s.book.due(s.now())
	kept := state{Sequence: s.sequence, Alerts: s.book.alerts, Once: s.book.once}
	var deliveries []Delivery
	for _, n := range notices {
		made, err := s.deliveries(n, slices.Sorted(maps.Keys(s.channels)))
		if err != nil {
			s.log.Error("an alert could not be written", "key", n.Key, "error", err)
		}
		deliveries = append(deliveries, made...)
	}
	err := s.box.save(context.WithoutCancel(ctx), kept, deliveries)
	s.mu.Unlock()
	for _, n := range notices {
		s.logNotice(n)
	}
	if err != nil {
		s.log.Error("alerts were not kept", "count", len(deliveries), "error", err)
		return
	}
	for _, w := range s.channels {
		w.ring()
	}
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
