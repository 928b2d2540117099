package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
)

// Asking are the headers of a request for work. (The API's library passes over embedded types that are not exported.)
type Asking struct {
	Prefer string `header:"Prefer" doc:"respond-async: do not wait for the end"`
	Key    string `header:"Idempotency-Key" maxLength:"200" doc:"the same key gives the same run, however often it is sent"`
}

func (a Asking) async() bool {
	return slices.ContainsFunc(strings.Split(a.Prefer, ","), func(p string) bool { return strings.EqualFold(strings.TrimSpace(p), "respond-async") })
}

// done answers 200 with how the work ended, or 202 with where to look.
type done[T any] struct {
	Status    int
	Location  string `header:"Location"`
	Preferred string `header:"Preference-Applied"`
	Body      T
}

func doneOf[T any](run history.Run, asked Asking, body T) *done[T] {
	d := &done[T]{Status: http.StatusOK, Body: body}
	if !run.Status.Ended() {
		d.Status, d.Location = http.StatusAccepted, Prefix+"/runs/"+run.ID
	}
	if asked.async() {
		d.Preferred = "respond-async"
	}
	return d
}

// The bodies of requests: One for a single table, All for any number.
type (
	CompactOne struct {
		Force      bool     `json:"force,omitempty" doc:"whatever the share of free pages"`
		DryRun     bool     `json:"dry_run,omitempty"`
		MaxPauseMS int64    `json:"max_pause_ms,omitempty" minimum:"0"`
		Threshold  *float64 `json:"threshold,omitempty" minimum:"0" maximum:"1"`
	}
	compactAll struct {
		Tables []string `json:"tables,omitempty" maxItems:"10000" doc:"names or globs; none: every table"`
		CompactOne
	}
	BackupOne struct {
		Force  bool `json:"force,omitempty" doc:"though nothing has changed"`
		DryRun bool `json:"dry_run,omitempty"`
	}
	backupAll struct {
		Tables []string `json:"tables,omitempty" maxItems:"10000" doc:"names or globs; none: every table"`
		BackupOne
	}
	VerifyOne struct {
		Backup string `json:"backup,omitempty" doc:"latest (the default), all, or a key"`
	}
	verifyAll struct {
		Tables []string `json:"tables,omitempty" maxItems:"10000" doc:"names or globs; none: every table"`
		VerifyOne
	}
	recoverOne struct {
		Reason string `json:"reason,omitempty" maxLength:"1000" doc:"what was seen"`
		Accept bool   `json:"accept,omitempty" doc:"take a degraded table as it is"`
		DryRun bool   `json:"dry_run,omitempty"`
		Force  bool   `json:"force,omitempty" doc:"though it was recovered several times just now"`
		Empty  bool   `json:"empty,omitempty" doc:"where nothing else is left, begin the table anew"`
	}
)

func (s *Server) registerWork(api huma.API) {
	registerAll[compactAll](s, api, "compact", "Compact tables")
	registerAll[backupAll](s, api, "backup", "Back tables up")
	registerAll[verifyAll](s, api, "verify", "Prove that backups restore")
	registerOne[CompactOne](s, api, "compact", "Compact a table", "tables")
	registerOne[BackupOne](s, api, "backup", "Back a table up", "tables")
	registerOne[VerifyOne](s, api, "verify", "Prove that a table's backup restores", "tables")
	registerOne[recoverOne](s, api, "recover", "Recover a table of which corruption is reported, or accept a degraded one", "table")
}

func registerAll[B any](s *Server, api huma.API, function, summary string) {
	huma.Register(api, s.operation(http.MethodPost, "/"+function, function+"-tables", "work", summary),
		func(ctx context.Context, in *struct {
			Asking
			Body *B
		}) (*done[Result], error) {
			event, err := eventOf(in.Body, nil)
			if err != nil {
				return nil, explain(err)
			}
			run, err := s.work(ctx, task{function: function, event: event, Asking: in.Asking})
			if err != nil {
				return nil, explain(err)
			}
			return doneOf(run, in.Asking, resultOf(run)), nil
		})
}

// registerOne adds the route for a single table; field is where the function's event has its name.
func registerOne[B any](s *Server, api huma.API, function, summary, field string) {
	huma.Register(api, s.operation(http.MethodPost, "/"+function+"/{table}", function+"-table", "work", summary),
		func(ctx context.Context, in *struct {
			Table string `path:"table"`
			Asking
			Body *B
		}) (*done[TableResult], error) {
			t, err := s.Shelf.Get(in.Table)
			if err != nil {
				return nil, explain(err)
			}
			var name any = t.Name
			if field == "tables" {
				name = []string{t.Name}
			}
			event, err := eventOf(in.Body, map[string]any{field: name})
			if err != nil {
				return nil, explain(err)
			}
			run, err := s.work(ctx, task{function: function, event: event, table: t.Name, Asking: in.Asking})
			if err != nil {
				return nil, explain(err)
			}
			return doneOf(run, in.Asking, TableResult{t.Name, run}), nil
		})
}

// eventOf makes the function's event of a request's body, which may be nil, and of what the path says.
func eventOf[B any](body *B, more map[string]any) (json.RawMessage, error) {
	fields := map[string]any{}
	if body != nil {
		data, err := json.Marshal(body)
		if err == nil {
			err = decodeInto(data, fields)
		}
		if err != nil {
			return nil, fmt.Errorf("make the event: %w", err)
		}
	}
	for name, value := range more {
		fields[name] = value
	}
	return json.Marshal(fields)
}

// task is what a request wants done.
type task struct {
	function string
	event    json.RawMessage
	table    string // "": not about a single one
	trigger  string // "": by the API
	retryOf  string
	Asking
}

// work has the runner do a task. It waits for the end, unless the client does not want to; that the client goes away does not end the work.
func (s *Server) work(ctx context.Context, t task) (history.Run, error) {
	v := visitOf(ctx)
	inv := jobs.Invocation{Function: t.function, Event: t.event, Type: jobs.DryRun, Trigger: cmp.Or(t.trigger, jobs.TriggerAPI), Actor: v.Name, RetryOf: t.retryOf}
	// First whether the function takes the event: a wrong one is an error of the request, and not a run that failed.
	if _, err := s.Runner.Invoke(ctx, inv); err != nil {
		return history.Run{}, err
	}
	if err := s.inTheWay(t); err != nil && !s.repeated(ctx, t) {
		return history.Run{}, err
	}
	inv.Type, inv.IdempotencyKey = jobs.Async, t.Key
	run, err := s.Runner.Invoke(context.WithoutCancel(ctx), inv)
	if err != nil {
		return run, err
	}
	v.runID = run.ID
	if t.async() {
		return run, nil
	}
	return s.await(ctx, run.ID)
}

// await waits for the end of a run.
func (s *Server) await(ctx context.Context, id string) (history.Run, error) {
	run, err := s.Runner.WaitRun(ctx, id)
	if errors.Is(err, jobs.ErrNotActive) {
		return s.History.Get(ctx, id)
	}
	return run, err
}

// inTheWay says which run keeps a task from being begun: one at work on the same table, or one of the same function on many tables.
func (s *Server) inTheWay(t task) error {
	for _, head := range s.Runner.Active() {
		if t.Key != "" && head.IdempotencyKey == t.Key {
			return nil // it is this very task
		}
	}
	for _, head := range s.Runner.Active() {
		if t.table == "" {
			if head.Function == t.function && head.Counts.Tables > 1 && !head.Status.Ended() { // its end is told before it leaves
				return conflict(head, "the same is under way")
			}
			continue
		}
		if run, ok := s.Runner.Live(head.ID); ok && slices.ContainsFunc(run.Entries, func(e history.Entry) bool { return e.Table == t.table && underWay(e) }) {
			return conflict(head, t.table+" is being worked on")
		}
	}
	return nil
}

// repeated tells whether an earlier run has the task's key: then nothing is done, and nothing is in the way.
func (s *Server) repeated(ctx context.Context, t task) bool {
	past, ok := s.History.(interface {
		Keyed(ctx context.Context, key string) (id string, err error)
	})
	if !ok || t.Key == "" {
		return false
	}
	_, err := past.Keyed(ctx, t.Key)
	return err == nil
}

func underWay(e history.Entry) bool {
	return e.Status == history.EntryPending || e.Status == history.EntryRunning
}

func conflict(run history.Run, what string) error {
	p := problem(http.StatusConflict, fmt.Sprintf("%s: %s, run %s", what, run.Function, run.ID), "wait for it, or cancel it: POST "+Prefix+"/runs/"+run.ID+"/cancel").coded("under_way")
	p.RunID = run.ID
	return p
}
