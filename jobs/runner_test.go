package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
	"tablekeeper/jobs/template"
)

const testTemplate = `
Resources:
  CompactFunction:
    Type: AWS::Serverless::Function
    Properties:
      Timeout: 60
      Events:
        CompactSchedule: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(6 hours), Input: '{"tables":["a"]}'}}
      EventInvokeConfig:
        MaximumRetryAttempts: 1
        MaximumEventAgeInSeconds: 3600
        DestinationConfig: {OnFailure: {Type: SNS, Destination: BackupsTopic}}
  BackupFunction:
    Type: AWS::Serverless::Function
    Properties:
      Timeout: 60
      EventInvokeConfig: {MaximumRetryAttempts: 0}
  SweepFunction: {Type: AWS::Serverless::Function}
`

// script is a function that does what the test says.
type script struct {
	tables []string
	run    func(ctx context.Context, c Call) (string, error)

	mu    sync.Mutex
	calls []string
}

func (s *script) Tables(_ context.Context, event json.RawMessage) ([]string, error) {
	var e struct{ Tables []string }
	d := json.NewDecoder(strings.NewReader(string(event)))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return nil, err
	}
	if e.Tables != nil {
		return e.Tables, nil
	}
	return s.tables, nil
}

func (s *script) Run(ctx context.Context, c Call) (json.RawMessage, error) {
	s.mu.Lock()
	s.calls = append(s.calls, fmt.Sprintf("%s#%d", c.Table, c.Attempt))
	s.mu.Unlock()
	if s.run == nil {
		return json.RawMessage(`{"status":"compacted","bytes_before":10}`), nil
	}
	report, err := s.run(ctx, c)
	if report == "" {
		return nil, err
	}
	return json.RawMessage(report), err
}

// rig is a runner with a history of its own.
type rig struct {
	*Runner
	t        *testing.T
	store    *history.Store
	bus      *events.Bus
	sub      *events.Subscription
	compact  *script
	backup   *script
	failures []Failure
}

func (g *rig) Failed(_ context.Context, f Failure) error {
	g.failures = append(g.failures, f)
	return nil
}

func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	tpl, err := template.Read("template.yaml", []byte(testTemplate), nil)
	if err != nil {
		t.Fatal(err)
	}
	store, err := history.Open(t.Context(), filepath.Join(t.TempDir(), history.File), history.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{t: t, store: store, compact: &script{tables: []string{"a", "b", "c"}}, backup: &script{tables: []string{"a", "b", "c"}}}
	g.bus = events.NewBus(events.Options{Log: store})
	g.sub = g.bus.Subscribe(events.SubscribeOptions{Want: func(e events.Event) bool { return e.Type != events.RunProgress }})
	cfg := Config{Template: tpl, History: store, Bus: g.bus, OnFailure: g, Functions: map[string]Function{"compact": g.compact, "backup": g.backup, "sweep": &script{}}}
	if change != nil {
		change(&cfg)
	}
	if g.Runner, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *rig) close() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	if err := errors.Join(g.Shutdown(ctx), g.bus.Close(ctx), g.store.Close()); err != nil {
		g.t.Error(err)
	}
}

func (g *rig) invoke(inv Invocation) history.Run {
	g.t.Helper()
	r, err := g.Invoke(g.t.Context(), inv)
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

// published is the type of the next event.
func (g *rig) published() (string, Outcome) {
	g.t.Helper()
	e, err := g.sub.Next(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	var o Outcome
	if err := json.Unmarshal(e.Data, &o); err != nil {
		g.t.Fatal(err)
	}
	return e.Type, o
}

// inBubble runs f with a rig on fake time.
func inBubble(t *testing.T, change func(*Config), f func(g *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, change)
		defer g.close()
		f(g)
	})
}

func summary(r history.Run) string {
	var b strings.Builder
	fmt.Fprint(&b, r.Status)
	for _, e := range r.Entries {
		fmt.Fprintf(&b, " %s:%s", e.Table, e.Status)
		if e.Reason != "" {
			fmt.Fprintf(&b, "(%s)", e.Reason)
		}
		fmt.Fprintf(&b, "#%d", e.Attempts)
	}
	return b.String()
}

type permanentError struct{}

func (permanentError) Error() string   { return "not a database" }
func (permanentError) Permanent() bool { return true }
func (permanentError) Hint() string    { return "look at the file" }

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
