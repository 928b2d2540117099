package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
	telling  sync.Mutex // two runs may end at once
	failures []Failure
}

func (g *rig) Failed(_ context.Context, f Failure) error {
	g.telling.Lock()
	defer g.telling.Unlock()
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

// outcomes are those of all runs in the history, the newest first, with their reasons.
func (g *rig) outcomes() (all []string) {
	page, err := g.store.List(g.t.Context(), history.Filter{})
	if err != nil {
		g.t.Fatal(err)
	}
	for _, r := range page.Runs {
		all = append(all, string(r.Status)+" "+r.Reason)
	}
	return all
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
