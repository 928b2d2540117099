package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tablekeeper/jobs/history"
)

func TestOneTableAtATime(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		var working, most atomic.Int32
		work := func(context.Context, Call) (string, error) {
			most.Store(max(most.Load(), working.Add(1)))
			time.Sleep(10 * time.Second)
			working.Add(-1)
			return `{"status":"done"}`, nil
		}
		g.compact.run, g.backup.run = work, work
		one := json.RawMessage(`{"tables":["a"]}`)
		first := g.invoke(Invocation{Function: "compact", Event: one, Type: Async})
		time.Sleep(time.Second)
		if owner, ok := g.Holder("a"); !ok || owner.RunID != first.ID || owner.Function != "compact" {
			t.Errorf("holder of a is %+v", owner)
		}
		if live, ok := g.Live(first.ID); !ok || summary(live) != "running a:running#1" {
			t.Errorf("live run is %s", summary(live))
		}
		if r := g.invoke(Invocation{Function: "compact", Event: one, Trigger: TriggerSchedule}); summary(r) != "skipped a:skipped(overlap)#0" || !strings.Contains(string(r.Entries[0].Report), first.ID) {
			t.Errorf("scheduled: %s %s", summary(r), r.Entries[0].Report)
		}
		// By hand, it waits its turn; so does another function.
		if r := g.invoke(Invocation{Function: "compact", Event: one}); r.Status != history.Succeeded {
			t.Errorf("by hand: %s", summary(r))
		}
		if r := g.invoke(Invocation{Function: "backup", Event: one, Trigger: TriggerSchedule}); r.Status != history.Succeeded {
			t.Errorf("another function: %s", summary(r))
		}
		if most.Load() != 1 {
			t.Errorf("%d at a time", most.Load())
		}
	})
}

// other stands for the lock of another process.
type other struct {
	mu    sync.Mutex
	until map[string]time.Time
	held  map[string]bool
	waits bool // Lock waits until ctx ends, instead of answering at once
}

func (o *other) Lock(ctx context.Context, table string, _ Owner) (func(), error) {
	o.mu.Lock()
	until := o.until[table]
	o.mu.Unlock()
	if wait := time.Until(until); wait > 0 {
		if !o.waits {
			return nil, &BusyError{Table: table, Holder: "verify (pid 7)"}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if table == "broken" {
		return nil, errors.New("no such folder")
	}
	o.held[table] = true
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.held, table)
	}, nil
}

func TestTablesThatAnotherProcessHolds(t *testing.T) {
	for _, waits := range []bool{false, true} {
		o := &other{until: map[string]time.Time{}, held: map[string]bool{}, waits: waits}
		inBubble(t, func(c *Config) { c.Locker = o }, func(g *rig) {
			o.until["a"], o.until["b"] = time.Now().Add(5*time.Second), time.Now().Add(time.Hour)
			began := time.Now()
			r := g.invoke(Invocation{Function: "backup", Event: json.RawMessage(`{"tables":["a","b","c","broken"]}`)})
			want := "partial a:compacted#1 b:skipped(locked)#0 c:compacted#1 broken:failed(error)#1"
			if summary(r) != want || !slices.Equal(g.backup.calls, []string{"c#1", "a#1"}) {
				t.Errorf("%s, calls %v", summary(r), g.backup.calls)
			}
			if took := time.Since(began); took > DefaultLockWait+time.Second {
				t.Errorf("waited %v", took)
			}
			if !waits && !strings.Contains(string(r.Entries[1].Report), "verify (pid 7)") {
				t.Errorf("holder is not named: %s", r.Entries[1].Report)
			}
			if len(o.held) != 0 {
				t.Errorf("still locked: %v", o.held)
			}
		})
	}
}

func TestPoolIsBoundedAndFair(t *testing.T) {
	inBubble(t, func(c *Config) { c.Concurrency = 3 }, func(g *rig) {
		var working, most atomic.Int32
		work := func(context.Context, Call) (string, error) {
			most.Store(max(most.Load(), working.Add(1)))
			time.Sleep(time.Second)
			working.Add(-1)
			return `{"status":"done"}`, nil
		}
		g.compact.run, g.backup.run = work, work
		var many []string
		for i := range 300 {
			many = append(many, fmt.Sprintf("t%d", i))
		}
		g.compact.tables = many
		big := g.invoke(Invocation{Function: "compact", Type: Async})
		time.Sleep(time.Second / 2)
		began := time.Now()
		g.invoke(Invocation{Function: "backup", Event: json.RawMessage(`{"tables":["x","y"]}`)})
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("two tables waited %v behind 300", took)
		}
		r, err := g.WaitRun(g.t.Context(), big.ID)
		if err != nil || r.Counts.Done != 300 || most.Load() != 3 {
			t.Errorf("%+v, %d at a time, %v", r.Counts, most.Load(), err)
		}
	})
}

func TestTooManyRuns(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxRuns = 2 }, func(g *rig) {
		g.compact.run = func(ctx context.Context, _ Call) (string, error) { <-ctx.Done(); return "", ctx.Err() }
		for i := range 2 {
			g.invoke(Invocation{Function: "compact", Type: Async, Event: json.RawMessage(fmt.Sprintf(`{"tables":["t%d"]}`, i))})
		}
		if _, err := g.Invoke(g.t.Context(), Invocation{Function: "compact"}); !errors.Is(err, ErrTooMany) {
			t.Errorf("a third run: %v", err)
		}
	})
}
