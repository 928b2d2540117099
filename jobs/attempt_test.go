package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tablekeeper/jobs/history"
)

func TestCancel(t *testing.T) {
	for name, stop := range map[string]func(g *rig, cancel context.CancelFunc, id string){
		"cancelled":   func(g *rig, _ context.CancelFunc, id string) { _ = g.Cancel(id) },
		"caller_left": func(_ *rig, cancel context.CancelFunc, _ string) { cancel() },
		"shutdown":    func(g *rig, _ context.CancelFunc, _ string) { go func() { _ = g.Shutdown(context.Background()) }() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(c *Config) { c.Concurrency = 2 }, func(g *rig) {
				g.compact.run = func(ctx context.Context, c Call) (string, error) {
					if c.Table == "a" {
						return `{"status":"compacted"}`, nil
					}
					<-ctx.Done()
					return "", ctx.Err()
				}
				g.compact.tables = []string{"a", "b", "c", "d", "e"}
				ctx, cancel := context.WithCancel(g.t.Context())
				defer cancel()
				go func() {
					time.Sleep(10 * time.Second)
					stop(g, cancel, g.Active()[0].ID)
				}()
				r, err := g.Invoke(ctx, Invocation{Function: "compact"})
				want := fmt.Sprintf("cancelled a:compacted#1 b:failed(cancelled)#1 c:failed(cancelled)#1 d:skipped(%s)#0 e:skipped(%s)#0", name, name)
				if err != nil || summary(r) != want || r.Reason != name {
					t.Errorf("%s (%s), %v", summary(r), r.Reason, err)
				}
				if kept, err := g.store.Get(context.Background(), r.ID); err != nil || summary(kept) != want {
					t.Errorf("history has %s, %v", summary(kept), err)
				}
				if err := g.Cancel(r.ID); !errors.Is(err, ErrNotActive) {
					t.Errorf("cancelling twice: %v", err)
				}
			})
		})
	}
}

func TestShutdownOfWhatDoesNotStop(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		release := make(chan struct{})
		g.compact.run = func(_ context.Context, c Call) (string, error) {
			if c.Table == "a" {
				<-release
				c.Log.Info("too late")
			}
			return `{"status":"compacted"}`, nil
		}
		r := g.invoke(Invocation{Function: "compact", Type: Async})
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(g.t.Context(), 5*time.Second)
		defer cancel()
		if err := g.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown: %v", err)
		}
		kept, err := g.store.Get(g.t.Context(), r.ID)
		if want := "lost a:lost(lost)#1 b:compacted#1 c:compacted#1"; err != nil || summary(kept) != want {
			t.Errorf("history has %s, %v", summary(kept), err)
		}
		if _, err := g.Invoke(g.t.Context(), Invocation{Function: "compact"}); !errors.Is(err, ErrShuttingDown) {
			t.Errorf("invoking while shutting down: %v", err)
		}
		close(release)
		g.Wait()
	})
}

func TestFunctionThatIgnoresItsTimeout(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		release := make(chan struct{})
		g.compact.run = func(_ context.Context, c Call) (string, error) {
			<-release
			return `{"status":"compacted"}`, nil
		}
		one := json.RawMessage(`{"tables":["a"]}`)
		r := g.invoke(Invocation{Function: "compact", Event: one})
		if summary(r) != "timed_out a:failed(timed_out)#1" || !strings.Contains(r.Error, "does not stop") {
			t.Errorf("%s: %s", summary(r), r.Error)
		}
		b := g.invoke(Invocation{Function: "backup", Event: one})
		if summary(b) != "skipped a:skipped(locked)#0" {
			t.Errorf("its table was given away: %s", summary(b))
		}
		close(release)
		synctest.Wait()
		if b := g.invoke(Invocation{Function: "backup", Event: one}); b.Status != history.Succeeded {
			t.Errorf("its table stays locked: %s", summary(b))
		}
	})
}

func TestRetriesStopWhenTheEventIsTooOld(t *testing.T) {
	inBubble(t, func(c *Config) { c.Backoff = func(int) time.Duration { return 2 * time.Hour } }, func(g *rig) {
		g.compact.run = func(context.Context, Call) (string, error) { return "", errors.New("boom") }
		g.invoke(Invocation{Function: "compact"})
		if len(g.compact.calls) != 3 || len(g.failures) != 1 || g.failures[0].Condition != "EventAgeExceeded" {
			t.Errorf("calls %v, failures %+v", g.compact.calls, g.failures)
		}
	})
}
