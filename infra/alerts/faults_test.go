package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tablekeeper/jobs"
	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
)

// wire is a channel that remembers what it was given, and refuses while it is down.
type wire struct {
	mu   sync.Mutex
	down bool
	got  []string
}

func (w *wire) send(_ context.Context, d Delivery) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := opened(d)
	if err != nil {
		return err
	}
	if w.down {
		w.got = append(w.got, "refused")
		return errors.New("down")
	}
	w.got = append(w.got, n.Title)
	return nil
}

func (w *wire) set(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
}

// told is what arrived since the last call.
func (w *wire) told() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.got
	w.got = nil
	return got
}

// past is a log in memory that can fail.
type past struct {
	mu     sync.Mutex
	events []events.Event
	broken error
}

func (p *past) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = err
}

func (p *past) AppendEvents(_ context.Context, list []events.Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range list {
		list[i].Sequence = int64(len(p.events) + 1)
		p.events = append(p.events, list[i])
	}
	return nil
}

func (p *past) EventsAfter(_ context.Context, after int64, limit int) ([]events.Event, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rest := p.events[after:]
	return slices.Clone(rest[:min(limit, len(rest))]), p.broken
}

func (p *past) EventBounds(context.Context) (first, last int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return min(1, int64(len(p.events))), int64(len(p.events)), p.broken
}

// alerting is a service in a bubble of its own time, with a channel that is no network.
type alerting struct {
	*Service
	log  *past
	wire *wire
}

// alertingIn runs do with a service that is running; before comes first, for what is to be there when it starts.
func alertingIn(t *testing.T, opts Options, before, do func(t *testing.T, a alerting)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a := alerting{log: &past{}, wire: &wire{}}
		opts.Folder, opts.Bus = t.TempDir(), events.NewBus(events.Options{Log: a.log})
		var err error
		if a.Service, err = New(t.Context(), opts); err != nil {
			t.Fatal(err)
		}
		if err := a.add("wire", a.wire, nil); err != nil {
			t.Fatal(err)
		}
		before(t, a)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		do(t, a)
		cancel()
		if err := errors.Join(<-done, opts.Bus.Close(t.Context())); err != nil {
			t.Error(err)
		}
	})
}

func nothing(*testing.T, alerting) {}

func (a alerting) want(t *testing.T, titles ...string) {
	t.Helper()
	if got := a.wire.told(); !slices.Equal(got, titles) {
		t.Errorf("told %q, want %q", got, titles)
	}
}

func (a alerting) sql(t *testing.T, statement string) {
	t.Helper()
	if _, err := a.box.db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func (a alerting) backup(t *testing.T, table, status, reason string) {
	t.Helper()
	a.bus.Publish(ended(t, time.Now(), "backup", [3]string{table, status, reason}))
}

// What failed and is well again by the end of the past is not told, nor is what nobody knows of over.
func TestThePastIsReadToItsEndFirst(t *testing.T) {
	alertingIn(t, Options{}, func(t *testing.T, a alerting) {
		for range 300 { // more than is read at once
			a.bus.Publish(ended(t, time.Now().Add(-2*time.Hour), "backup", [3]string{"a", "failed", "no_space"}))
			a.bus.Publish(ended(t, time.Now().Add(-time.Hour), "backup", [3]string{"a", "backed_up", ""}))
			synctest.Wait()
		}
		a.bus.Publish(ended(t, time.Now().Add(-time.Hour), "backup", [3]string{"b", "failed", "no_space"}))
	}, func(t *testing.T, a alerting) {
		time.Sleep(time.Minute)
		a.want(t, "backup fails: no space (b)")
	})
}

// A history that cannot be read for a while does not silence the alerts.
func TestTheLogCannotBeReadForAWhile(t *testing.T) {
	alertingIn(t, Options{}, func(t *testing.T, a alerting) {
		a.backup(t, "a", "failed", "no_space")
		a.log.fail(errors.New("busy"))
	}, func(t *testing.T, a alerting) {
		time.Sleep(time.Minute)
		a.log.fail(nil)
		time.Sleep(time.Minute)
		a.want(t, "backup fails: no space (a)")
		a.backup(t, "a", "backed_up", "")
		time.Sleep(time.Minute)
		a.want(t, "resolved: backup fails: no space")
	})
}

// The disk is full when an alert is due. It is told when there is room again, and not hours later.
func TestAFullDiskWhenAnAlertIsDue(t *testing.T) {
	alertingIn(t, Options{}, nothing, func(t *testing.T, a alerting) {
		a.sql(t, "CREATE TRIGGER full BEFORE INSERT ON deliveries BEGIN SELECT RAISE(FAIL, 'full'); END")
		a.backup(t, "a", "failed", "no_space")
		time.Sleep(time.Minute)
		a.backup(t, "a", "failed", "no_space") // nothing new
		time.Sleep(time.Minute)
		a.want(t)
		a.sql(t, "DROP TRIGGER full")
		time.Sleep(time.Minute)
		a.want(t, "backup fails: no space (a)")
		time.Sleep(time.Hour)
		a.want(t)
	})
}

// The disk is full when a delivery has ended: the receiver does not hear it over and over.
func TestAFullDiskWhenADeliveryHasEnded(t *testing.T) {
	for name, down := range map[string]bool{"refused": true, "backup fails: no space (a)": false} {
		alertingIn(t, Options{}, nothing, func(t *testing.T, a alerting) {
			a.wire.set(down)
			a.sql(t, "CREATE TRIGGER full BEFORE UPDATE ON deliveries BEGIN SELECT RAISE(FAIL, 'full'); END")
			a.backup(t, "a", "failed", "no_space")
			time.Sleep(5 * time.Minute)
			a.want(t, name)
			a.wire.set(false)
			a.sql(t, "DROP TRIGGER full")
			time.Sleep(time.Hour)
			if got := a.wire.told(); down != (len(got) == 1) {
				t.Errorf("%s: then told %q", name, got)
			}
		})
	}
}

// While the receiver is away an alert begins and ends, and another begins. When it is back it hears of each in this order, and does not
// have to wait for the end of the longest pause.
func TestWhatBeganIsToldBeforeItIsOver(t *testing.T) {
	alertingIn(t, Options{}, nothing, func(t *testing.T, a alerting) {
		a.wire.set(true)
		a.backup(t, "a", "failed", "no_space")
		time.Sleep(30 * time.Minute) // the next attempt is in about half an hour
		a.wire.set(false)
		a.wire.told()
		a.backup(t, "a", "backed_up", "")
		time.Sleep(time.Minute)
		a.want(t, "backup fails: no space (a)", "resolved: backup fails: no space")
	})
}

// A clock that was far ahead, and is right again, holds nothing back.
func TestTheClockIsSetBack(t *testing.T) {
	alertingIn(t, Options{Now: func() time.Time { return time.Now() }}, nothing, func(t *testing.T, a alerting) {
		wrong := time.Now().AddDate(1, 0, 0)
		a.bus.Publish(ended(t, wrong, "backup", [3]string{"a", "failed", "no_space"}))
		time.Sleep(time.Minute)
		a.want(t, "backup fails: no space (a)")
		early, err := a.deliveries(Notice{Key: "k", Title: "early"}, a.Channels())
		if err != nil {
			t.Fatal(err)
		}
		early[0].Next = wrong
		if err := a.box.save(t.Context(), state{}, early); err != nil {
			t.Fatal(err)
		}
		for _, w := range a.channels {
			w.ring()
		}
		time.Sleep(time.Minute)
		a.want(t, "early")
	})
}

// The event at the end of a run over many tables has no room for all of them.
func TestATableForWhichTheEventHadNoRoom(t *testing.T) {
	entries := func(status, reason string) (all []history.Entry) {
		for i := range 1000 {
			all = append(all, history.Entry{Table: fmt.Sprintf("t%03d", i), Status: status, Reason: reason})
		}
		return all
	}
	bad, good := entries("failed", "bucket_unreachable"), entries("backed_up", "")
	kept := map[string][]history.Entry{"bad": bad, "good": good, "unrecorded": entries(history.EntryPending, "")}
	opts := Options{Entries: func(_ context.Context, run string) ([]history.Entry, error) { return kept[run], nil }}
	alertingIn(t, opts, nothing, func(t *testing.T, a alerting) {
		for _, run := range []struct {
			id   string
			some []history.Entry
		}{{"bad", bad[:500]}, {"good", good[:500]}, {"unrecorded", bad[:500]}} {
			data, err := json.Marshal(jobs.Outcome{RunID: run.id, Function: "backup", Results: run.some, Truncated: true})
			if err != nil {
				t.Fatal(err)
			}
			a.bus.Publish(events.Event{Type: jobs.EventType("backup", run.id != "good"), Data: data})
			time.Sleep(time.Minute)
		}
		a.want(t, "the bucket is unreachable (t000 and 999 more)", "resolved: the bucket is unreachable", "the bucket is unreachable (t000 and 499 more)")
	})
}

// Old deliveries are forgotten while the service runs, too.
func TestOldDeliveriesAreForgotten(t *testing.T) {
	alertingIn(t, Options{}, nothing, func(t *testing.T, a alerting) {
		a.backup(t, "a", "failed", "no_space")
		time.Sleep(time.Minute)
		a.backup(t, "a", "backed_up", "")
		time.Sleep(time.Minute)
		a.sql(t, "UPDATE deliveries SET ended = 1")
		time.Sleep(25 * time.Hour)
		if kept, err := a.Deliveries(t.Context(), "", 10); err != nil || len(kept) != 0 {
			t.Errorf("%d are kept, %v", len(kept), err)
		}
	})
}
