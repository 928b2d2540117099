package alerts

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// Open returns the alerts that last, the gravest first.
func (s *Service) Open() []Alert {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []Alert{}
	for _, a := range s.book.alerts {
		if a.Ended.IsZero() {
			copied := *a
			copied.Members = maps.Clone(a.Members)
			all = append(all, copied)
		}
	}
	slices.SortFunc(all, func(a, b Alert) int {
		if c := strings.Compare(string(a.Severity), string(b.Severity)); c != 0 {
			return c // critical, info, warning: alphabetical order has the gravest first, and info is never open
		}
		return a.Since.Compare(b.Since)
	})
	return all
}

// Channels are the names of the channels, in order.
func (s *Service) Channels() []string { return slices.Sorted(maps.Keys(s.channels)) }

// Kind of a channel: webhook, sns or push; "" if there is no such channel.
func (s *Service) Kind(channel string) string {
	w := s.channels[channel]
	if w == nil {
		return ""
	}
	switch w.channel.(type) {
	case webhook:
		return "webhook"
	case topic:
		return "sns"
	}
	return PushChannel
}

// Close closes a service that is not to be run. Run closes it, too.
func (s *Service) Close() error { return s.box.close() }

// Deliveries returns the newest deliveries before an id ("" is the newest), limit at most.
func (s *Service) Deliveries(ctx context.Context, before string, limit int) ([]Delivery, error) {
	return s.box.log(ctx, before, limit)
}

// Redeliver sends an ended delivery once more, under the same id.
func (s *Service) Redeliver(ctx context.Context, id string) error {
	if err := s.box.redeliver(ctx, id, s.now()); err != nil {
		return err
	}
	for _, w := range s.channels {
		w.ring()
	}
	return nil
}

// Test sends a test notice through a channel and waits for the answer; it is not retried.
func (s *Service) Test(ctx context.Context, channel string) error {
	w := s.channels[channel]
	if w == nil {
		return fmt.Errorf("alert channel %q: %w (there are: %s)", channel, fs.ErrNotExist, strings.Join(s.Channels(), ", "))
	}
	n := Notice{Key: "test", State: Happened, Severity: Info, Title: "test message", Tables: []string{}, Since: s.now(),
		Detail: "If you read this, alerts reach you."}
	made, err := s.deliveries(n, []string{channel})
	if err != nil {
		return err
	}
	if err := w.channel.send(ctx, made[0]); err != nil {
		return &TestError{err}
	}
	return nil
}

// PushKey is the applicationServerKey for browsers; "" if web push is off.
func (s *Service) PushKey() (string, error) {
	if s.vapid.Key == nil {
		return "", nil
	}
	return s.vapid.PublicKey()
}

// Subscribe adds a browser to web push.
func (s *Service) Subscribe(ctx context.Context, sub Subscription) error {
	if s.vapid.Key == nil {
		return fmt.Errorf("web push is off: set alerts.push.contact: %w", fs.ErrInvalid)
	}
	return s.box.subscribe(ctx, sub, s.now())
}

// Unsubscribe removes a browser from web push.
func (s *Service) Unsubscribe(ctx context.Context, endpoint string) error {
	return s.box.unsubscribe(ctx, endpoint)
}
