package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tablekeeper/functions"
	"tablekeeper/functions/restore"
	"tablekeeper/jobs/history"
	"tablekeeper/storage/shelf"
)

// PlannedRestore is what a restore would do. Its id is what carrying it out takes.
type PlannedRestore struct {
	ID      string    `json:"plan"`
	Expires time.Time `json:"expires_at"`
	restore.Plan
}

type restoreBody struct {
	Backup        string `json:"backup,omitempty" doc:"latest (the default), or a key"`
	At            string `json:"at,omitempty" doc:"instead: the newest backup not after this time"`
	DryRun        bool   `json:"dry_run,omitempty" doc:"only plan"`
	Plan          string `json:"plan,omitempty" doc:"id of the plan to carry out"`
	EvenIfChanged bool   `json:"even_if_changed,omitempty" doc:"carry it out though the table was written to since it was planned"`
}

// restoreAnswer is a plan or a result.
type restoreAnswer struct {
	planned *PlannedRestore
	result  *TableResult
}

// MarshalJSON gives what there is.
func (a restoreAnswer) MarshalJSON() ([]byte, error) {
	if a.planned != nil {
		return json.Marshal(a.planned)
	}
	return json.Marshal(a.result)
}

// Schema implements huma.SchemaProvider.
func (restoreAnswer) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{Description: "a plan (dry_run), or how the restore ended", OneOf: []*huma.Schema{
		huma.SchemaFromType(r, typeOf[PlannedRestore]()), TableResult{}.Schema(r),
	}}
}

func (s *Server) registerRestore(api huma.API) {
	huma.Register(api, s.operation(http.MethodPost, "/restore/{table}", "restore-table", "work", "Plan a restore, or carry one out"),
		func(ctx context.Context, in *struct {
			Table string `path:"table"`
			Asking
			Body *restoreBody
		}) (*done[restoreAnswer], error) {
			body := restoreBody{}
			if in.Body != nil {
				body = *in.Body
			}
			t, _, err := s.known(ctx, in.Table)
			if err != nil {
				return nil, explain(err)
			}
			if body.DryRun {
				return s.planRestore(ctx, t, body)
			}
			run, err := s.restore(ctx, t, body, in.Asking)
			if err != nil {
				return nil, explainRestore(err)
			}
			return doneOf(run, in.Asking, restoreAnswer{result: &TableResult{t.Name, run}}), nil
		})
}

func (s *Server) planRestore(ctx context.Context, t shelf.Table, body restoreBody) (*done[restoreAnswer], error) {
	if s.opts.Planner == nil {
		return nil, problem(http.StatusNotFound, "no bucket is configured, so nothing can be restored", "set bucket: in tablekeeper.yaml").coded("no_bucket")
	}
	state := stateOf(t) // before: what changes meanwhile was not planned
	what, err := s.opts.Planner.Plan(ctx, restore.Event{Table: t.Name, Backup: body.Backup, At: body.At, InPlace: true, DryRun: true})
	if err != nil {
		return nil, explainRestore(err)
	}
	made := s.plans.add(what, state, s.now())
	return &done[restoreAnswer]{Status: http.StatusOK, Body: restoreAnswer{planned: &PlannedRestore{made.id, made.expires.UTC(), what}}}, nil
}

// explainRestore knows the failures of the function, too.
func explainRestore(err error) error {
	var failure *functions.Failure
	if errors.As(err, &failure) && (failure.Reason == "no_backup" || failure.Reason == "no_good_backup") {
		return problem(http.StatusNotFound, failure.Error(), failure.Hint()).coded(failure.Reason)
	}
	return explain(err)
}

// restore carries a plan out. Only where there is nothing to be replaced may it be without one.
func (s *Server) restore(ctx context.Context, t shelf.Table, body restoreBody, asked Asking) (history.Run, error) {
	event := restore.Event{Table: t.Name, Backup: body.Backup, At: body.At, InPlace: true}
	if body.Plan == "" {
		if !t.Missing {
			return history.Run{}, problem(http.StatusConflict, "restoring "+t.Name+" replaces what is there, so it takes a plan",
				`send {"dry_run":true}, look at what it says, then send {"plan":"..."} with its id`).coded("plan_required")
		}
		return s.startRestore(ctx, event, asked)
	}
	if body.Backup != "" || body.At != "" {
		return history.Run{}, problem(http.StatusUnprocessableEntity, "a plan says which backup", "leave backup and at out")
	}
	p, ok := s.plans.get(body.Plan, t.Name, s.now())
	if !ok {
		return history.Run{}, problem(http.StatusConflict, "there is no such plan for "+t.Name+" any more", "plan again: it may have expired, or the service was restarted").coded("plan_expired")
	}
	if p.runID != "" {
		visitOf(ctx).runID = p.runID
		if asked.async() {
			return s.runNow(ctx, p.runID)
		}
		return s.await(ctx, p.runID)
	}
	if stateOf(t) != p.state && !body.EvenIfChanged {
		return history.Run{}, problem(http.StatusConflict, t.Name+" has changed since it was planned",
			`plan again, or send even_if_changed: what was written since is lost, too`).coded("plan_changed")
	}
	event.Backup = p.backup
	// The plan is its own idempotency key, unless the client has one.
	asked.Key = cmp.Or(asked.Key, "plan "+p.id)
	run, err := s.startRestore(ctx, event, asked)
	if err == nil {
		s.plans.used(p.id, run.ID)
	}
	return run, err
}

func (s *Server) startRestore(ctx context.Context, event restore.Event, asked Asking) (history.Run, error) {
	encoded, err := json.Marshal(event)
	if err != nil {
		return history.Run{}, err
	}
	return s.work(ctx, task{function: "restore", event: encoded, table: event.Table, Asking: asked})
}
