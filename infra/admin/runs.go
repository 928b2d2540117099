package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
)

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// Span are the filters that lists of the past have in common.
type Span struct {
	Table  string    `query:"table"`
	Status []string  `query:"status" doc:"with commas between"`
	Since  time.Time `query:"since"`
	Until  time.Time `query:"until"`
	Limit  int       `query:"limit" default:"50" minimum:"1" maximum:"1000"`
	Cursor string    `query:"cursor" maxLength:"100" doc:"the next of the page before"`
}

func (q Span) filter() history.Filter {
	return history.Filter{Table: q.Table, Statuses: q.Status, Since: q.Since, Until: q.Until, Limit: q.Limit, Cursor: q.Cursor}
}

type cancelling struct {
	RunID  string `json:"run_id"`
	Status string `json:"status"`
}

func (s *Server) registerRuns(api huma.API) {
	huma.Register(api, s.operation(http.MethodGet, "/runs", "list-runs", "runs", "Runs, newest first"),
		func(ctx context.Context, in *struct {
			Span
			Function string `query:"function"`
			Job      string `query:"job"`
			Trigger  string `query:"trigger"`
		}) (*answer[history.Page], error) {
			f := in.filter()
			f.Function, f.Job, f.Trigger = in.Function, in.Job, in.Trigger
			for _, status := range f.Statuses {
				if !slices.Contains(history.Statuses(), history.Status(status)) {
					return nil, problem(http.StatusUnprocessableEntity, fmt.Sprintf("%.40q is no status of a run", status), fmt.Sprint("use one of ", history.Statuses()))
				}
			}
			return reply(s.History.List(ctx, f))
		})
	huma.Register(api, s.operation(http.MethodGet, "/runs/{id}", "get-run", "runs", "One run with its entries, phases and log; while it goes on, as it is now"),
		func(ctx context.Context, in *struct {
			ID string `path:"id" maxLength:"64" doc:"or at least 4 characters of its beginning or end"`
		}) (*answer[history.Run], error) {
			return reply(s.runNow(ctx, in.ID))
		})
	cancel := s.operation(http.MethodPost, "/runs/{id}/cancel", "cancel-run", "runs", "End a run that is under way")
	cancel.DefaultStatus = http.StatusAccepted
	huma.Register(api, cancel, func(ctx context.Context, in *struct {
		ID string `path:"id" maxLength:"64"`
	}) (*answer[cancelling], error) {
		run, err := s.runNow(ctx, in.ID)
		if err != nil {
			return nil, explain(err)
		}
		visitOf(ctx).runID = run.ID
		if run.Status.Ended() || s.Runner.Cancel(run.ID) != nil {
			return nil, ended(run)
		}
		return reply(cancelling{run.ID, "cancelling"}, nil)
	})
	huma.Register(api, s.operation(http.MethodPost, "/runs/{id}/retry", "retry-run", "runs", "Try again what failed in a run"),
		func(ctx context.Context, in *struct {
			ID string `path:"id" maxLength:"64"`
			Asking
		}) (*done[Result], error) {
			run, err := s.retry(ctx, in.ID, in.Asking)
			if err != nil {
				return nil, explain(err)
			}
			return doneOf(run, in.Asking, resultOf(run)), nil
		})
}

func ended(run history.Run) error {
	p := problem(http.StatusConflict, fmt.Sprintf("run %s is not under way here: %s", run.ID, run.Status), "retry it, if it failed: POST "+Prefix+"/runs/"+run.ID+"/retry").coded("not_active")
	p.RunID = run.ID
	return p
}

// runNow is a run, as it is now if it is under way in this process.
func (s *Server) runNow(ctx context.Context, id string) (history.Run, error) {
	if run, ok := s.Runner.Live(id); ok {
		return run, nil
	}
	full, err := s.History.Find(ctx, id)
	if err != nil {
		return history.Run{}, err
	}
	if run, ok := s.Runner.Live(full); ok {
		return run, nil
	}
	return s.History.Get(ctx, full)
}

func (s *Server) retry(ctx context.Context, id string, asked Asking) (history.Run, error) {
	run, err := s.runNow(ctx, id)
	switch {
	case err != nil:
		return run, err
	case !run.Status.Ended():
		return run, conflict(run, "it has not ended")
	case run.Function == "restore":
		return run, problem(http.StatusConflict, "a restore replaces what is there now, which is not what was there then", "plan it again: POST "+Prefix+"/restore/{table}").coded("plan_required")
	}
	event, table, err := again(run)
	if err != nil {
		return run, err
	}
	return s.work(ctx, task{function: run.Function, event: event, table: table, trigger: jobs.TriggerRetry, retryOf: run.ID, Asking: asked})
}

// again is a run's event, narrowed to the tables that failed if only some did. table is set if it is about a single one.
func again(run history.Run) (event json.RawMessage, table string, err error) {
	var failed []string
	for _, e := range run.Entries {
		if e.Status == history.EntryFailed || e.Status == history.EntryLost || underWay(e) {
			failed = append(failed, e.Table)
		}
	}
	if len(failed) == 1 {
		table = failed[0]
	}
	fields := map[string]any{}
	if len(run.Event) > 0 {
		if err := decodeInto(run.Event, fields); err != nil {
			return nil, "", fmt.Errorf("read the event of run %s: %w", run.ID, err)
		}
	}
	if _, ok := fields["table"]; ok || len(failed) == 0 || failed[0] == "" {
		return run.Event, table, nil
	}
	delete(fields, "schedule") // of a job for some tables: they are named now
	fields["tables"] = failed
	event, err = json.Marshal(fields)
	return event, table, err
}
