package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
	"tablekeeper/jobs/template"
)

func TestOutcomes(t *testing.T) {
	ok := `{"status":"compacted"}`
	boom := errors.New("boom")
	fail := func(times int, err error) func(context.Context, Call) (string, error) {
		return func(_ context.Context, c Call) (string, error) {
			if c.Table == "b" && c.Attempt <= times {
				return "", err
			}
			return ok, nil
		}
	}
	for name, c := range map[string]struct {
		run    func(ctx context.Context, c Call) (string, error)
		want   string
		errors string
		hint   string
	}{
		"all well":          {fail(0, nil), "succeeded a:compacted#1 b:compacted#1 c:compacted#1", "", ""},
		"well the 2nd time": {fail(1, boom), "succeeded a:compacted#1 b:compacted#2 c:compacted#1", "", ""},
		"failed for good":   {fail(9, boom), "partial a:compacted#1 b:failed(error)#2 c:compacted#1", "b: boom", ""},
		"permanent":         {fail(9, fmt.Errorf("open: %w", permanentError{})), "partial a:compacted#1 b:failed(error)#1 c:compacted#1", "b: open: not a database", "look at the file"},
		"panic":             {func(context.Context, Call) (string, error) { panic("oh") }, "failed a:failed(panic)#2 b:failed(panic)#2 c:failed(panic)#2", "3 of 3 tables failed; a: panic: oh", "bug"},
		"goexit":            {func(context.Context, Call) (string, error) { runtime.Goexit(); return "", nil }, "failed a:failed(error)#2 b:failed(error)#2 c:failed(error)#2", "goroutine", ""},
		"timeout":           {func(ctx context.Context, _ Call) (string, error) { <-ctx.Done(); return "", ctx.Err() }, "timed_out a:failed(timed_out)#2 b:failed(timed_out)#2 c:failed(timed_out)#2", "timed out after 1m0s", "raise"},
		"just in time":      {func(ctx context.Context, _ Call) (string, error) { <-ctx.Done(); return ok, nil }, "succeeded a:compacted#1 b:compacted#1 c:compacted#1", "", ""},
		"skipped": {func(context.Context, Call) (string, error) {
			return `{"status":"skipped","reason":"below_threshold"}`, nil
		}, "succeeded a:skipped(below_threshold)#1 b:skipped(below_threshold)#1 c:skipped(below_threshold)#1", "", ""},
		"reported failure": {func(context.Context, Call) (string, error) { return `{"status":"failed","reason":"no_space"}`, nil }, "failed a:failed(no_space)#2 b:failed(no_space)#2 c:failed(no_space)#2", "no_space", ""},
		"entry with error": {func(context.Context, Call) (string, error) { return `{"status":"compacted","reason":"half"}`, boom }, "failed a:failed(half)#2 b:failed(half)#2 c:failed(half)#2", "boom", ""},
		"degraded":         {func(context.Context, Call) (string, error) { return `{"status":"degraded","reason":"no_backup"}`, nil }, "failed a:degraded(no_backup)#1 b:degraded(no_backup)#1 c:degraded(no_backup)#1", "no_backup", ""},
		"not an object":    {func(context.Context, Call) (string, error) { return `[1]`, nil }, "failed a:failed(error)#2 b:failed(error)#2 c:failed(error)#2", "not a JSON object", ""},
		"no status":        {func(context.Context, Call) (string, error) { return `{}`, nil }, "failed a:failed(error)#2 b:failed(error)#2 c:failed(error)#2", "no status", ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(g *rig) {
				g.compact.run = c.run
				r := g.invoke(Invocation{Function: "compact"})
				if got := summary(r); got != c.want || !strings.Contains(r.Error, c.errors) || !strings.Contains(r.Hint, c.hint) {
					t.Errorf("%s\nwant %s\nerror %q, hint %q", got, c.want, r.Error, r.Hint)
				}
				kept, err := g.store.Get(g.t.Context(), r.ID)
				if err != nil || summary(kept) != c.want || kept.Counts != r.Counts || kept.Error != r.Error {
					t.Errorf("history has %s, %v", summary(kept), err)
				}
				failed := r.Status != history.Succeeded
				kind, o := g.published()
				if want := EventType("compact", failed); kind != want || o.Status != r.Status || len(o.Results) != 3 {
					t.Errorf("event %s %+v", kind, o)
				}
				if failed != (len(g.failures) == 1) || failed && g.failures[0].Destination != "BackupsTopic" {
					t.Errorf("on-failure destination got %+v", g.failures)
				}
			})
		})
	}
}

func TestEntryHasTheCommonFields(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		g.compact.run = func(_ context.Context, c Call) (string, error) {
			if c.Attempt == 1 {
				return "", errors.New("busy")
			}
			return `{"status":"compacted","retried":false,"duration_ms":7,"bytes_before":10,"table":"x"}`, nil
		}
		r := g.invoke(Invocation{Function: "CompactFunction", Event: json.RawMessage(` {"tables": ["a"]} `)})
		want := `{"table":"a","status":"compacted","duration_ms":7,"retried":true,"bytes_before":10,"attempts":2}`
		if got := string(r.Entries[0].Report); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if string(r.Event) != `{"tables":["a"]}` {
			t.Errorf("event %s", r.Event)
		}
	})
}

func TestRecordHasPhasesAndABoundedLog(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		g.compact.run = func(_ context.Context, c Call) (string, error) {
			end := c.Phase("vacuum")
			time.Sleep(3 * time.Second)
			c.Progress(1, 2, "half")
			end(4096)
			end(4096) // only once
			log := c.Log.With("k", "v").WithGroup("g")
			log.Info("said", "pages", 3, slog.Group("in", "x", "a b"))
			log.Debug("not kept")
			for range 1500 {
				c.Log.Info("noise")
			}
			c.Log.Error("kept all the same", "blob", strings.Repeat("x", 100_000))
			return `{"status":"compacted"}`, nil
		}
		r := g.invoke(Invocation{Function: "compact", Event: json.RawMessage(`{"tables":["a"]}`)})
		kept, err := g.store.Get(g.t.Context(), r.ID)
		if err != nil {
			t.Fatal(err)
		}
		if len(kept.Phases) != 1 || kept.Phases[0].DurationMS != 3000 || kept.Phases[0].Bytes != 4096 || kept.Phases[0].Attempt != 1 {
			t.Errorf("phases %+v", kept.Phases)
		}
		first, last := kept.Log[0], kept.Log[len(kept.Log)-1]
		if first.Message != "said" || first.Attrs != `k=v g.pages=3 g.in.x="a b"` || first.Table != "a" {
			t.Errorf("line %+v", first)
		}
		if len(kept.Log) != maxLines+1 || kept.LogDropped != 501 || last.Level != "ERROR" || len(last.Attrs) > maxLineBytes+10 {
			t.Errorf("%d lines, %d dropped, last %s", len(kept.Log), kept.LogDropped, last.Message)
		}
	})
}

func TestRefusals(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		var unknown *UnknownFunctionError
		if _, err := g.Invoke(g.t.Context(), Invocation{Function: "compcat"}); !errors.As(err, &unknown) || unknown.Hint() != "did you mean compact?" {
			t.Errorf("unknown function: %v", err)
		}
		var bad *EventError
		for _, event := range []string{`[]`, `"x"`, `{`, `{} {}`, `null`} {
			if _, err := g.Invoke(g.t.Context(), Invocation{Function: "compact", Event: json.RawMessage(event)}); !errors.As(err, &bad) {
				t.Errorf("event %s: %v", event, err)
			}
		}
		if _, err := g.Invoke(g.t.Context(), Invocation{Function: "compact", Type: DryRun, Event: json.RawMessage(`{"tabels":[]}`)}); !errors.As(err, &bad) {
			t.Errorf("dry run with an unknown field: %v", err)
		}
		r := g.invoke(Invocation{Function: "compact", Event: json.RawMessage(`{"tabels":[]}`)})
		if r.Status != history.Failed || !strings.Contains(r.Error, "tabels") {
			t.Errorf("run with an unknown field: %+v", r)
		}
		ctx, cancel := context.WithCancel(g.t.Context())
		cancel()
		if _, err := g.Invoke(ctx, Invocation{Function: "compact"}); !errors.Is(err, context.Canceled) {
			t.Errorf("with an ended context: %v", err)
		}
	})
	tpl, err := template.Read("t", []byte(testTemplate), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Template: tpl, Functions: map[string]Function{"compress": &script{}}}); err == nil {
		t.Error("a function that the template does not know is accepted")
	}
}

func TestDryRunLeavesNoTrace(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		r := g.invoke(Invocation{Function: "compact", Type: DryRun})
		if summary(r) != " a:pending#0 b:pending#0 c:pending#0" || r.ID != "" {
			t.Errorf("dry run %s %s", r.ID, summary(r))
		}
		page, err := g.store.List(g.t.Context(), history.Filter{})
		if err != nil || len(page.Runs) != 0 || len(g.compact.calls) != 0 {
			t.Errorf("%d runs, calls %v, %v", len(page.Runs), g.compact.calls, err)
		}
	})
}

func TestAsyncAnswersAtOnce(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		g.compact.run = func(context.Context, Call) (string, error) {
			time.Sleep(10 * time.Second)
			return `{"status":"compacted"}`, nil
		}
		began := time.Now()
		r := g.invoke(Invocation{Function: "compact", Type: Async})
		if time.Since(began) != 0 || r.Status.Ended() || len(g.Active()) != 1 {
			t.Errorf("after %v: %s", time.Since(began), r.Status)
		}
		end, err := g.WaitRun(g.t.Context(), r.ID)
		if err != nil || end.Status != history.Succeeded {
			t.Errorf("%s, %v", summary(end), err)
		}
		g.Wait()
		if _, err := g.WaitRun(g.t.Context(), r.ID); !errors.Is(err, ErrNotActive) {
			t.Errorf("waiting for what is over: %v", err)
		}
	})
}

func TestIdempotencyKey(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		g.compact.run = func(context.Context, Call) (string, error) {
			time.Sleep(10 * time.Second)
			return `{"status":"compacted"}`, nil
		}
		inv := Invocation{Function: "compact", IdempotencyKey: "k", Event: json.RawMessage(`{"tables":["a"]}`)}
		var ids sync.Map
		var workers sync.WaitGroup
		for range 5 {
			workers.Go(func() { ids.Store(g.invoke(inv).ID, true) })
		}
		workers.Wait()
		late := g.invoke(inv)
		ids.Store(late.ID, true)
		n := 0
		ids.Range(func(any, any) bool { n++; return true })
		if n != 1 || len(g.compact.calls) != 1 || summary(late) != "succeeded a:compacted#1" {
			t.Errorf("%d runs, calls %v, late %s", n, g.compact.calls, summary(late))
		}
		var reused *KeyReusedError
		if _, err := g.Invoke(g.t.Context(), Invocation{Function: "backup", IdempotencyKey: "k"}); !errors.As(err, &reused) {
			t.Errorf("key of another function: %v", err)
		}
	})
}

// Whoever asks again, and goes away at that moment, does not have the work done twice.
func TestTheCallerLeavesWhileTheKeyIsLookedUp(t *testing.T) {
	var leave context.CancelFunc
	inBubble(t, func(c *Config) {
		c.Now = func() time.Time { // the run is being made
			if leave != nil {
				leave()
			}
			return time.Now()
		}
	}, func(g *rig) {
		inv := Invocation{Function: "compact", IdempotencyKey: "k", Type: Async, Event: json.RawMessage(`{"tables":["a"]}`)}
		g.invoke(inv)
		g.Wait()
		var ctx context.Context
		ctx, leave = context.WithCancel(g.t.Context())
		_, err := g.Invoke(ctx, inv)
		g.Wait()
		if len(g.compact.calls) != 1 {
			t.Errorf("calls %v, %v", g.compact.calls, err)
		}
	})
}

// Two ask at once with a key that an earlier run of another function has: both are told.
func TestTwoAskWithTheKeyOfAnotherFunction(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		g.invoke(Invocation{Function: "backup", IdempotencyKey: "k"})
		inv := Invocation{Function: "compact", Type: Async, IdempotencyKey: "k", Event: json.RawMessage(`{}`)}
		spec, fn, err := g.function("compact")
		if err != nil {
			t.Fatal(err)
		}
		first := newRun(g.Runner, spec, fn, inv, "first")
		if known, err := g.admit(first); known != nil || err != nil {
			t.Fatal(known, err)
		}
		answers := make(chan error)
		go func() {
			_, err := g.Invoke(g.t.Context(), inv)
			answers <- err
		}()
		synctest.Wait() // it waits for the first to be accepted
		earlier, begun, err := g.store.Begin(g.t.Context(), first.head())
		if begun || err != nil {
			t.Fatal(begun, err)
		}
		err = first.become(g.t.Context(), earlier)
		close(first.accepted)
		for _, err := range []error{err, <-answers} {
			var reused *KeyReusedError
			if !errors.As(err, &reused) {
				t.Errorf("the answer is %v", err)
			}
		}
	})
}

func TestProgressReachesTheBus(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		all := g.bus.Subscribe(events.SubscribeOptions{})
		g.compact.run = func(_ context.Context, c Call) (string, error) {
			for i := range 100 {
				c.Progress(int64(i), 100, "copy")
				time.Sleep(10 * time.Millisecond)
			}
			return `{"status":"compacted"}`, nil
		}
		g.invoke(Invocation{Function: "compact", Event: json.RawMessage(`{"tables":["a"]}`)})
		n := 0
		for {
			e, err := all.Next(g.t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if e.Type != events.RunProgress {
				break
			}
			if n++; e.Subject != "a" || e.Sequence != 0 {
				t.Errorf("event %+v", e)
			}
		}
		if n < 4 || n > 8 {
			t.Errorf("%d progress events for a second", n)
		}
	})
}

func TestUnitWithoutATable(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		r := g.invoke(Invocation{Function: "sweep"})
		if summary(r) != "succeeded :compacted#1" || len(r.Tables()) != 0 {
			t.Errorf("%s, tables %v", summary(r), r.Tables())
		}
		if d := cmp.Diff(`{"status":"compacted","duration_ms":0,"bytes_before":10,"retried":false,"attempts":1}`, string(r.Entries[0].Report)); d != "" {
			t.Error(d)
		}
	})
}
