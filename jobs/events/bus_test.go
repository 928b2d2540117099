package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shelf is a Log in memory that can fail and be slow.
type shelf struct {
	mu     sync.Mutex
	events []Event
	from   int // events before were pruned
	broken error
	delay  time.Duration
	read   func() // runs when events have been read, before the answer
}

func (l *shelf) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = err
}

func (l *shelf) AppendEvents(ctx context.Context, list []Event) error {
	select {
	case <-time.After(l.delay):
	case <-ctx.Done():
		return ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	for i := range list {
		list[i].Sequence = int64(len(l.events) + 1)
		l.events = append(l.events, list[i])
	}
	return nil
}

func (l *shelf) EventsAfter(_ context.Context, after int64, limit int) ([]Event, error) {
	if l.read != nil {
		defer l.read()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := l.events[max(int(after), l.from):]
	return append([]Event(nil), rest[:min(limit, len(rest))]...), l.broken
}

func (l *shelf) EventBounds(context.Context) (first, last int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(l.from + 1), int64(len(l.events)), l.broken
}

func closeBus(t *testing.T, b *Bus) {
	t.Helper()
	if err := b.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// drain reads what a subscription has until it is closed.
func drain(t *testing.T, s *Subscription) (ids []string) {
	t.Helper()
	for {
		e, err := s.Next(t.Context())
		if errors.Is(err, ErrClosed) {
			return ids
		}
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, e.ID)
	}
}

func publish(b *Bus, from, to int) (ids []string) {
	for i := from; i <= to; i++ {
		id := fmt.Sprintf("e%d", i)
		b.Publish(Event{ID: id, Type: Prefix + "backup_complete"})
		ids = append(ids, id)
	}
	return ids
}

func TestEnvelope(t *testing.T) {
	at := time.Date(2026, 11, 22, 3, 0, 0, 0, time.FixedZone("", 3600))
	b := NewBus(Options{Log: &shelf{}, Now: func() time.Time { return at }})
	s := b.Subscribe(SubscribeOptions{})
	b.Publish(Event{Type: Prefix + "compaction_complete", Subject: "orders", Data: json.RawMessage(`{"status":"compacted"}`)})
	e, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e.ID = "id"
	got, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"specversion":"1.0","id":"id","source":"tablekeeper","type":"tablekeeper.compaction_complete","subject":"orders",` +
		`"time":"2026-11-22T02:00:00Z","datacontenttype":"application/json","data":{"status":"compacted"},"sequence":"1"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var back Event
	if err := json.Unmarshal(got, &back); err != nil || cmp.Diff(e, back) != "" {
		t.Error(cmp.Diff(e, back), err)
	}
	closeBus(t, b)
}

func TestEverySubscriberGetsEverythingInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBus(Options{Log: &shelf{delay: time.Millisecond}})
		one, two := b.Subscribe(SubscribeOptions{}), b.Subscribe(SubscribeOptions{})
		only := b.Subscribe(SubscribeOptions{Want: func(e Event) bool { return e.ID == "e7" }})
		want := publish(b, 1, 200)
		closeBus(t, b)
		for _, s := range []*Subscription{one, two} {
			if d := cmp.Diff(want, drain(t, s)); d != "" {
				t.Error(d)
			}
		}
		if d := cmp.Diff([]string{"e7"}, drain(t, only)); d != "" {
			t.Error(d)
		}
	})
}

func TestSlowReaderCatchesUpFromTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBus(Options{Log: &shelf{}})
		before := publish(b, 1, 50)
		synctest.Wait()
		s := b.Subscribe(SubscribeOptions{Buffer: 8})
		want := publish(b, 51, 300)
		synctest.Wait()
		b.Publish(Event{ID: "progress", Type: RunProgress}) // no room, and not in the log
		closeBus(t, b)
		if d := cmp.Diff(want, drain(t, s)); d != "" {
			t.Error(d)
		}
		if s.Lost() != 1 {
			t.Errorf("lost %d", s.Lost())
		}
		if before == nil {
			t.Error("nothing came before")
		}
	})
}

func TestResumeHasNoGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &shelf{}
		b := NewBus(Options{Log: log})
		all := publish(b, 1, 100)
		synctest.Wait()
		resumed := b.Subscribe(SubscribeOptions{After: 40, Buffer: 16})
		whole := b.Subscribe(SubscribeOptions{After: FromStart, Buffer: 16})
		all = append(all, publish(b, 101, 150)...)
		closeBus(t, b)
		if d := cmp.Diff(all[40:], drain(t, resumed)); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff(all, drain(t, whole)); d != "" {
			t.Error(d)
		}
		if resumed.Lost() != 0 || whole.Lost() != 0 {
			t.Error("nothing was lost", resumed.Lost(), whole.Lost())
		}
	})
}

// What happens while a long past is read does not come before the rest of it, nor in its place.
func TestEventsWhileTheLogIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &shelf{}
		b := NewBus(Options{Log: log})
		all := publish(b, 1, 100)
		synctest.Wait()
		log.read = func() {
			if n := len(all); n < 160 {
				all = append(all, publish(b, n+1, n+3)...)
				b.Publish(Event{ID: "progress", Type: RunProgress})
				synctest.Wait()
			}
		}
		s := b.Subscribe(SubscribeOptions{After: 10, Buffer: 20})
		for i := 10; i < len(all); {
			e, err := s.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if e.ID == "progress" {
				continue
			}
			if e.ID != all[i] {
				t.Fatalf("%s, want %s", e.ID, all[i])
			}
			i++
		}
		closeBus(t, b)
	})
}

// A log that cannot be read for a moment costs nothing: neither what it has, nor what happens meanwhile.
func TestEventsWhileTheLogCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &shelf{}
		b := NewBus(Options{Log: log})
		all := publish(b, 1, 10)
		synctest.Wait()
		log.read = func() {
			log.read = nil
			all = append(all, publish(b, 11, 13)...)
			synctest.Wait()
			log.fail(errors.New("busy"))
		}
		s := b.Subscribe(SubscribeOptions{After: 4})
		if e, err := s.Next(t.Context()); err == nil {
			t.Fatalf("%s, though the log cannot be read", e.ID)
		}
		log.fail(nil)
		closeBus(t, b)
		if d := cmp.Diff(all[4:], drain(t, s)); d != "" {
			t.Error(d)
		}
	})
}

// Who subscribes while the bus ends is told so, and does not wait for ever.
func TestSubscribingWhileTheBusEnds(t *testing.T) {
	for range 100 {
		b := NewBus(Options{})
		last := make(chan *Subscription)
		go func() {
			for {
				s := b.Subscribe(SubscribeOptions{})
				select {
				case <-b.done:
					last <- s
					return
				default:
				}
			}
		}()
		closeBus(t, b)
		drain(t, <-last)
	}
}

// However fast runs say how far they are, their ends have room.
func TestProgressLeavesRoomForWhatIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBus(Options{Log: &shelf{delay: time.Minute}})
		s := b.Subscribe(SubscribeOptions{Buffer: 2 * queueLength, Want: func(e Event) bool { return e.Type != RunProgress }})
		want := publish(b, 1, 1)
		synctest.Wait() // it is being kept, which takes a while
		for range 2 * queueLength {
			b.Publish(Event{Type: RunProgress})
		}
		want = append(want, publish(b, 2, 100)...)
		closeBus(t, b)
		if d := cmp.Diff(want, drain(t, s)); d != "" || b.Dropped() == 0 {
			t.Errorf("%s, %d were dropped", d, b.Dropped())
		}
	})
}

// Whoever reads the past knows when it has come to its end: Next then waits.
func TestBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &shelf{}
		b := NewBus(Options{Log: log})
		publish(b, 1, 5)
		synctest.Wait()
		log.read = func() {
			log.read = nil
			publish(b, 6, 6) // it is read a second time, and handed on besides
			synctest.Wait()
		}
		s := b.Subscribe(SubscribeOptions{After: FromStart, Buffer: 2, Want: func(e Event) bool { return e.ID != "e6" }})
		for i := 1; s.Behind(); i++ {
			e, err := s.Next(t.Context())
			if want := fmt.Sprintf("e%d", i); err != nil || e.ID != want {
				t.Fatalf("%s, %v, want %s", e.ID, err, want)
			}
			if i == 5 && s.Behind() {
				t.Fatal("behind, though nothing is left that is wanted")
			}
		}
		closeBus(t, b)
	})
}

func TestResumeSaysWhatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &shelf{}
		b := NewBus(Options{Log: log})
		all := publish(b, 1, 100)
		synctest.Wait()
		log.from = 60
		s := b.Subscribe(SubscribeOptions{After: 40})
		closeBus(t, b)
		if d := cmp.Diff(all[60:], drain(t, s)); d != "" || s.Lost() != 20 {
			t.Error(d, s.Lost())
		}
	})
}

func TestPublishNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBus(Options{Log: &shelf{delay: time.Hour}})
		began := time.Now()
		publish(b, 1, queueLength+500)
		if time.Since(began) != 0 || b.Dropped() == 0 {
			t.Errorf("took %v, dropped %d", time.Since(began), b.Dropped())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := b.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: %v", err)
		}
		b.Publish(Event{}) // on a closed bus
	})
}

func TestBrokenLogStillTells(t *testing.T) {
	b := NewBus(Options{Log: &shelf{broken: errors.New("disk full")}})
	s := b.Subscribe(SubscribeOptions{})
	want := publish(b, 1, 3)
	closeBus(t, b)
	if d := cmp.Diff(want, drain(t, s)); d != "" {
		t.Error(d)
	}
	late := b.Subscribe(SubscribeOptions{})
	if _, err := late.Next(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("subscribing to a closed bus: %v", err)
	}
}

func TestClosedSubscriptionAndContext(t *testing.T) {
	b := NewBus(Options{})
	s := b.Subscribe(SubscribeOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s.Close()
	publish(b, 1, 3)
	if got := drain(t, s); got != nil {
		t.Errorf("a closed subscription got %v", got)
	}
	closeBus(t, b)
}
