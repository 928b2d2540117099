package admin

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"tablekeeper/jobs"
)

// registerInvoke adds the route for any function of the template with an event of the caller's own.
func (s *Server) registerInvoke(api huma.API) {
	op := s.operation(http.MethodPost, "/invoke/{function}", "invoke-function", "work", "Invoke a function with an event; none is an empty one")
	op.SkipValidateBody = true // the function knows what it takes
	op.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"application/json": {Schema: object("The event. Each function has its own.", nil)}}}
	huma.Register(api, op,
		func(ctx context.Context, in *struct {
			Function string `path:"function" maxLength:"200"`
			Check    bool   `query:"check" doc:"only say whether the function takes the event"`
			Asking
			RawBody []byte
		}) (*done[Result], error) {
			checked, err := s.checkInvoked(ctx, in.Function, in.RawBody)
			if err != nil {
				return nil, explain(err)
			}
			if in.Check {
				return &done[Result]{Status: http.StatusOK, Body: checked}, nil
			}
			run, err := s.work(ctx, task{function: checked.Function, event: in.RawBody, Asking: in.Asking})
			if err != nil {
				return nil, explain(err)
			}
			return doneOf(run, in.Asking, resultOf(run)), nil
		})
}

// checkInvoked says whether the function takes the event. A restore is refused: by this way it would need no plan, and could write any file.
func (s *Server) checkInvoked(ctx context.Context, function string, event json.RawMessage) (Result, error) {
	if len(event) > 0 && !json.Valid(event) {
		return Result{}, problem(http.StatusBadRequest, "the event is not JSON", hints[http.StatusBadRequest])
	}
	run, err := s.Runner.Invoke(ctx, jobs.Invocation{Function: function, Event: event, Type: jobs.DryRun, Trigger: jobs.TriggerAPI, Actor: visitOf(ctx).Name})
	if err != nil {
		return Result{}, err
	}
	if run.Function == "restore" {
		return Result{}, problem(http.StatusConflict, "a restore takes a plan", "POST "+Prefix+"/restore/{table}").coded("plan_required")
	}
	return resultOf(run), nil
}
