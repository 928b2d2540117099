package tablekeeper_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tablekeeper/jobs"
	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
)

// behaviour is how a function is treated: what AWS would do with it, and what the runner on one machine does.
type behaviour struct {
	Every    time.Duration // between the firings of its schedule; 0: it has none
	Event    string        // that the schedule gives it
	Timeout  time.Duration // of an attempt
	Attempts int           // at a run that always fails
}

// declaredBehaviour reads the template as YAML, without the package that the runner reads it with.
func declaredBehaviour(t *testing.T) map[string]behaviour {
	t.Helper()
	all := map[string]behaviour{}
	parameters := rawParameters(t)
	for id, r := range raw(t) {
		if r.Type != "AWS::Serverless::Function" || r.Condition != "" {
			continue
		}
		seconds := r.Properties["Timeout"].(uint64)
		b := behaviour{Timeout: time.Duration(seconds) * time.Second, Attempts: 1}
		b.Attempts += int(r.Properties["EventInvokeConfig"].(map[string]any)["MaximumRetryAttempts"].(uint64))
		if events, ok := r.Properties["Events"].(map[string]any); ok {
			for _, event := range events {
				schedule := event.(map[string]any)["Properties"].(map[string]any)
				b.Every, b.Event = every(t, parameters[schedule["ScheduleExpression"].(string)]), schedule["Input"].(string)
			}
		}
		all[strings.ToLower(strings.TrimSuffix(id, "Function"))] = b
	}
	return all
}

// every is what rate(n unit) means.
func every(t *testing.T, rate string) time.Duration {
	t.Helper()
	number, unit, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(rate, "rate("), ")"), " ")
	n, err := strconv.Atoi(number)
	length := map[string]time.Duration{"minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}[strings.TrimSuffix(unit, "s")]
	if err != nil || length == 0 {
		t.Fatalf("%q is no rate", rate)
	}
	return time.Duration(n) * length
}

// hanging is a function that never ends by itself, and notes what the runner does about it.
type hanging struct {
	mu       sync.Mutex
	fired    []time.Time
	event    string
	took     time.Duration
	attempts int
}

func (h *hanging) Tables(context.Context, json.RawMessage) ([]string, error) { return nil, nil }

func (h *hanging) Run(ctx context.Context, c jobs.Call) (json.RawMessage, error) {
	begun := time.Now()
	<-ctx.Done()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attempts = max(h.attempts, c.Attempt)
	if c.Attempt == 1 {
		h.fired, h.event, h.took = append(h.fired, begun), string(c.Event), time.Since(begun)
	}
	return nil, errors.New("it was stopped")
}

// TestTheRunnerDoesWhatTheTemplateSays lets the runner fire for three days by a clock of its own, with functions that hang, and compares when it fired,
// after how long it stopped them and how often it tried with the template.
func TestTheRunnerDoesWhatTheTemplateSays(t *testing.T) {
	want := declaredBehaviour(t)
	if len(want) != 6 {
		t.Fatalf("%d functions", len(want))
	}
	tpl := read(t, nil)
	path := filepath.Join(t.TempDir(), history.File)
	got := map[string]behaviour{}
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		store, err := history.Open(ctx, path, history.Options{})
		if err != nil {
			t.Fatal(err)
		}
		work, all := map[string]jobs.Function{}, map[string]*hanging{}
		for name := range want {
			all[name] = &hanging{}
			work[name] = all[name]
		}
		bus := events.NewBus(events.Options{Log: store})
		runner, err := jobs.New(jobs.Config{Template: tpl, History: store, Functions: work, Bus: bus, Concurrency: len(want)})
		if err != nil {
			t.Fatal(err)
		}
		service, err := runner.Serve(ctx, runner.Schedules())
		if err != nil {
			t.Fatal(err)
		}
		for name, b := range want {
			if b.Every > 0 {
				continue
			}
			if _, err := runner.Invoke(ctx, jobs.Invocation{Function: name, Type: jobs.Async}); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(73 * time.Hour)
		if err := errors.Join(service.Stop(ctx), bus.Close(ctx), store.Close()); err != nil {
			t.Error(err)
		}
		for name, h := range all {
			b := behaviour{Event: h.event, Timeout: h.took, Attempts: h.attempts}
			for i := 1; i < len(h.fired); i++ {
				gap := h.fired[i].Sub(h.fired[i-1]).Round(time.Minute)
				if b.Every != 0 && b.Every != gap {
					t.Errorf("%s fired after %v, and before after %v", name, gap, b.Every)
				}
				b.Every = gap
			}
			if want[name].Event == "" {
				b.Event = ""
			}
			got[name] = b
		}
	})
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
