package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"tablekeeper/infra/alerts"
	"tablekeeper/infra/hub"
	"tablekeeper/infra/lambdaapi"
	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
	"tablekeeper/jobs/schedule"
)

// control is what the service does for the other commands, on its socket: the Lambda Invoke API, its health, its jobs.
type control struct {
	house   *house
	service *jobs.Service
	started time.Time
	stores  hub.Stores      // the six stores, if the service has them
	alerts  *alerts.Service // nil: none are configured
}

func (c *control) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", c.health)
	mux.HandleFunc("GET /jobs", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, http.StatusOK, c.jobs()) })
	mux.HandleFunc("POST /jobs/{name}/pause", c.change(c.service.Pause))
	mux.HandleFunc("POST /jobs/{name}/resume", c.change(c.service.Resume))
	mux.HandleFunc("POST /runs/{name}/cancel", c.change(func(_ context.Context, id string) error { return c.house.runner.Cancel(id) }))
	mux.HandleFunc("GET /alerts/channels", c.channels)
	mux.HandleFunc("POST /alerts/channels/{name}/test", c.testChannel)
	mux.Handle("/", lambdaapi.NewHandler(invoker{c.house}))
	return mux
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// Whoever asked may have gone; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(v)
}

func (c *control) alive(ctx context.Context) error {
	_, err := c.house.history.List(ctx, history.Filter{Limit: 1})
	return err
}

func (c *control) health(w http.ResponseWriter, r *http.Request) {
	report := map[string]any{
		"status": "ok", "pid": os.Getpid(), "version": toolVersion(), "started_at": c.started.UTC(),
		"tables": len(c.house.shelf.Tables()), "active_runs": len(c.house.runner.Active()),
	}
	status := http.StatusOK
	if err := c.alive(r.Context()); err != nil {
		report["status"], report["error"] = "unwell", err.Error()
		status = http.StatusServiceUnavailable
	}
	answerJSON(w, status, report)
}

// change is a handler that does something to what the path names.
func (c *control) change(do func(context.Context, string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := do(r.Context(), r.PathValue("name"))
		var unknown *schedule.UnknownJobError
		switch {
		case err == nil:
			w.WriteHeader(http.StatusNoContent)
		case errors.As(err, &unknown) || errors.Is(err, jobs.ErrNotActive):
			answerJSON(w, http.StatusNotFound, map[string]string{"error": err.Error()})
		default:
			answerJSON(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
		}
	}
}

func (c *control) jobs() []jobReport { return jobReports(c.service.Scheduler) }

// invoker lets the Lambda API reach the runner.
type invoker struct{ house *house }

// Invoke implements lambdaapi.Invoker. What the command line asks for ends when the one who asked goes away; what others ask for does not, as
// on AWS.
func (i invoker) Invoke(ctx context.Context, req lambdaapi.Request) (lambdaapi.Response, error) {
	inv := jobs.Invocation{
		Function: req.Function, Event: req.Payload, Type: typeOf(req.Kind), Trigger: jobs.TriggerAPI,
		Actor: req.Custom["actor"], IdempotencyKey: req.Custom["idempotency_key"],
	}
	byCLI := req.Caller == "" && req.Custom["trigger"] == jobs.TriggerCLI
	if req.Caller != "" {
		inv.Actor = "key " + req.Caller // who signed, whatever the request says of itself
	}
	if byCLI {
		inv.Trigger = jobs.TriggerCLI
	} else {
		ctx = context.WithoutCancel(ctx)
	}
	run, err := i.house.runner.Invoke(ctx, inv)
	if err != nil {
		return lambdaapi.Response{}, refusalOf(req.Function, err)
	}
	payload, err := json.Marshal(run)
	if err != nil {
		return lambdaapi.Response{}, fmt.Errorf("encode run %s: %w", run.ID, err)
	}
	resp := lambdaapi.Response{Payload: payload, ID: run.ID, Log: logText(run.Log)}
	if failed := run.Status == history.Failed || run.Status == history.TimedOut || run.Status == history.Lost; failed && !byCLI {
		resp.Failure = &lambdaapi.FunctionError{Message: run.Error, Type: string(run.Status)}
	}
	return resp, nil
}

func typeOf(k lambdaapi.Kind) jobs.Type {
	switch k {
	case lambdaapi.Event:
		return jobs.Async
	case lambdaapi.DryRun:
		return jobs.DryRun
	case lambdaapi.RequestResponse:
	}
	return jobs.Sync
}

// refusalOf is the Lambda API's word for why nothing was run.
func refusalOf(function string, err error) error {
	var unknown *jobs.UnknownFunctionError
	var event *jobs.EventError
	var refusal *lambdaapi.Error
	switch {
	case errors.As(err, &unknown):
		refusal = lambdaapi.NotFound(function)
	case errors.As(err, &event):
		refusal = lambdaapi.InvalidContent(err)
	case errors.Is(err, jobs.ErrTooMany), errors.Is(err, jobs.ErrShuttingDown):
		refusal = lambdaapi.Throttled(err.Error())
	default:
		return err
	}
	refusal.Hint = hintIn(err)
	return refusal
}

func logText(lines []history.LogLine) []byte {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%s %s %s %s %s\n", l.Time.UTC().Format(time.RFC3339), l.Level, l.Table, l.Message, l.Attrs)
	}
	return []byte(b.String())
}
