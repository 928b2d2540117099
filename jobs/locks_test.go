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

// urgent is a script for which the function compact stands aside, unless its event names the table "patient".
type urgent struct{ *script }

func (u urgent) Over(event json.RawMessage) []string {
	if strings.Contains(string(event), "patient") {
		return nil
	}
	return []string{"compact"}
}

// untilEnded works for a minute, or until its context ends.
func untilEnded(ctx context.Context, _ Call) (string, error) {
	select {
	case <-ctx.Done():
		return "", fmt.Errorf("copy: %w", ctx.Err())
	case <-time.After(50 * time.Second):
		return `{"status":"done"}`, nil
	}
}

func TestOthersStandAsideForWhatIsUrgent(t *testing.T) {
	one := json.RawMessage(`{"tables":["a"]}`)
	for name, c := range map[string]struct {
		event    json.RawMessage
		compact  func(ctx context.Context, c Call) (string, error)
		takes    time.Duration // the urgent run
		urgent   string
		standing string
		calls    string
	}{
		"it is ended, and done anew": {one, untilEnded, 10 * time.Second, "succeeded a:repaired#1", "succeeded a:done#1 b:done#1", "[a#1 b#1 a#1]"},
		"it waits for a while": {one, func(ctx context.Context, c Call) (string, error) {
			if c.Table == "b" {
				return `{"status":"done"}`, nil
			}
			return untilEnded(ctx, c)
		}, 50 * time.Second, "succeeded a:repaired#1", "succeeded a:skipped(locked)#0 b:done#1", "[a#1 b#1]"},
		"what is not urgent waits": {json.RawMessage(`{"tables":["a","patient"]}`), untilEnded, 10 * time.Second, "succeeded a:skipped(locked)#0 patient:repaired#1", "succeeded a:done#1 b:done#1", "[a#1 b#1]"},
		"what it found is kept": {one, func(ctx context.Context, c Call) (string, error) {
			if c.Attempt == 1 && c.Table == "a" {
				<-ctx.Done()
				return "", errors.New("page 7 is damaged")
			}
			return untilEnded(ctx, c)
		}, 10 * time.Second, "succeeded a:repaired#1", "succeeded a:done#2 b:done#1", "[a#1 b#1 a#2]"},
		"what ends well is kept": {one, func(ctx context.Context, c Call) (string, error) {
			if c.Table == "a" {
				<-ctx.Done()
				return `{"status":"done"}`, nil
			}
			return untilEnded(ctx, c)
		}, 10 * time.Second, "succeeded a:repaired#1", "succeeded a:done#1 b:done#1", "[a#1 b#1]"},
	} {
		t.Run(name, func(t *testing.T) {
			var u urgent
			inBubble(t, func(cfg *Config) {
				u = urgent{cfg.Functions["backup"].(*script)}
				cfg.Functions["backup"] = u
			}, func(g *rig) {
				g.compact.run, u.run = c.compact, func(context.Context, Call) (string, error) {
					time.Sleep(c.takes)
					return `{"status":"repaired"}`, nil
				}
				first := g.invoke(Invocation{Function: "compact", Event: json.RawMessage(`{"tables":["a","b"]}`), Type: Async})
				time.Sleep(time.Second)
				if r := g.invoke(Invocation{Function: "backup", Event: c.event}); summary(r) != c.urgent {
					t.Errorf("urgent run: %s, want %s", summary(r), c.urgent)
				}
				g.Wait()
				r, err := g.store.Get(g.t.Context(), first.ID)
				slices.Sort(g.compact.calls[:2])
				if err != nil || summary(r) != c.standing || fmt.Sprint(g.compact.calls) != c.calls {
					t.Errorf("the run that stood aside: %s, want %s; calls %v, want %s; %v", summary(r), c.standing, g.compact.calls, c.calls, err)
				}
			})
		})
	}
}

// All slots are taken by a function that nobody can end, and the tables that wait for one hold their locks.
func TestWhatIsUrgentDoesNotWaitForASlot(t *testing.T) {
	var u urgent
	inBubble(t, func(cfg *Config) {
		u = urgent{cfg.Functions["backup"].(*script)}
		cfg.Functions["backup"], cfg.Concurrency = u, 2
	}, func(g *rig) {
		g.compact.run = untilEnded
		big := g.invoke(Invocation{Function: "compact", Event: json.RawMessage(`{"tables":["a","b"]}`), Type: Async})
		time.Sleep(time.Second)
		waiting := g.invoke(Invocation{Function: "compact", Event: json.RawMessage(`{"tables":["c","d"]}`), Type: Async})
		time.Sleep(time.Second)
		began := time.Now()
		for _, table := range []string{"x", "c"} {
			r := g.invoke(Invocation{Function: "backup", Event: json.RawMessage(`{"tables":["` + table + `"]}`)})
			if took := time.Since(began); r.Status != history.Succeeded || took > 0 {
				t.Errorf("%s: %s after %v", table, summary(r), took)
			}
		}
		for _, id := range []string{big.ID, waiting.ID} {
			if r, err := g.WaitRun(g.t.Context(), id); err != nil || r.Counts.Done != 2 {
				t.Errorf("%s, %v", summary(r), err)
			}
		}
	})
}
