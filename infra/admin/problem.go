package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tablekeeper/functions"
	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
	"tablekeeper/jobs/schedule"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/shelf"
)

// Problem is an error as RFC 9457 has it, with the next step.
type Problem struct { //nolint:errname // it is named as RFC 9457 names it
	Type   string              `json:"type,omitempty"`
	Title  string              `json:"title,omitempty"`
	Status int                 `json:"status"`
	Detail string              `json:"detail,omitempty"`
	Hint   string              `json:"hint,omitempty" doc:"what to do about it"`
	Code   string              `json:"code,omitempty" doc:"one word for programs, where the status says too little"`
	RunID  string              `json:"run_id,omitempty" doc:"the run that is in the way"`
	Errors []*huma.ErrorDetail `json:"errors,omitempty"`
}

func problem(status int, detail, hint string) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: detail, Hint: hint}
}

func (p *Problem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// write answers with the problem where no API does it.
func (p *Problem) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", p.ContentType(""))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // whoever asked may have gone
}

func (p *Problem) coded(code string) *Problem {
	p.Code = code
	return p
}

// hints are the next steps after errors that the API's library finds.
var hints = map[int]string{
	http.StatusUnprocessableEntity:   "compare the request with /openapi.json; errors names each wrong field",
	http.StatusBadRequest:            "send one JSON object; /openapi.json describes it",
	http.StatusRequestEntityTooLarge: "send at most 1 MiB",
	http.StatusUnsupportedMediaType:  "send application/json",
	http.StatusRequestTimeout:        "send the whole body at once",
	http.StatusNotFound:              "compare the address with /openapi.json",
	http.StatusServiceUnavailable:    "try again in a moment",
	http.StatusInternalServerError:   "look at the log of the service",
}

// giveHint makes problems of the library's own errors, and of those of the other APIs on this listener.
func giveHint(_ huma.Context, _ string, v any) (any, error) {
	e, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	for _, detail := range e.Errors {
		detail.Value = nil // what was sent may be long, or a secret
	}
	return &Problem{Type: e.Type, Title: e.Title, Status: e.Status, Detail: e.Detail, Hint: hints[e.Status], Errors: e.Errors}, nil
}

// retryAfter is how long a client is told to wait where nothing better is known.
const retryAfter = 5 * time.Second

func waiting(p *Problem, d time.Duration) error {
	seconds := max(1, int((d+time.Second-1)/time.Second))
	return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {strconv.Itoa(seconds)}})
}

// explain gives an error its status and the next step, once.
func explain(err error) error {
	var ready *Problem
	var reused *jobs.KeyReusedError
	var ambiguous *history.AmbiguousError
	var job *schedule.UnknownJobError
	var function *jobs.UnknownFunctionError
	var event *jobs.EventError
	var mistake *functions.EventError
	hint := hintIn(err)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ready):
		return err
	case errors.Is(err, shelf.ErrUnknown):
		return unknownTable(err)
	case errors.As(err, &function):
		return problem(http.StatusNotFound, err.Error(), hint).coded("no_function")
	case errors.As(err, &job), errors.As(err, &ambiguous):
		return problem(http.StatusNotFound, err.Error(), cmp.Or(hint, "ask for the list: what is not in it is not there"))
	case errors.As(err, &reused):
		return &Problem{Title: http.StatusText(http.StatusConflict), Status: http.StatusConflict, Detail: err.Error(), Hint: hint, Code: "key_reused", RunID: reused.RunID}
	case errors.Is(err, jobs.ErrTooMany), errors.Is(err, jobs.ErrShuttingDown):
		return waiting(problem(http.StatusServiceUnavailable, err.Error(), "try again in a moment"), retryAfter)
	case errors.As(err, &event), errors.As(err, &mistake):
		return problem(http.StatusUnprocessableEntity, err.Error(), cmp.Or(hint, hints[http.StatusUnprocessableEntity]))
	}
	return explainStore(err, hint)
}

// explainStore is for errors of the history and of the bucket.
func explainStore(err error, hint string) error {
	switch {
	case errors.Is(err, history.ErrCursor):
		return problem(http.StatusUnprocessableEntity, err.Error(), "use the cursor as the last page gave it as next")
	case errors.Is(err, bucket.ErrUnreachable):
		return waiting(problem(http.StatusServiceUnavailable, err.Error(), "the bucket does not answer: tablekeeper check").coded("bucket_unreachable"), retryAfter)
	case errors.Is(err, bucket.ErrDenied), errors.Is(err, bucket.ErrNoBucket):
		return problem(http.StatusBadGateway, err.Error(), "see what the bucket answers: tablekeeper check").coded("bucket_refused")
	case errors.Is(err, fs.ErrNotExist):
		return problem(http.StatusNotFound, err.Error(), cmp.Or(hint, "ask for the list: what is not in it is not there"))
	case errors.Is(err, fs.ErrInvalid):
		return problem(http.StatusUnprocessableEntity, err.Error(), cmp.Or(hint, hints[http.StatusUnprocessableEntity]))
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return waiting(problem(http.StatusServiceUnavailable, "the request ended before there was an answer", "ask again"), retryAfter)
	}
	return problem(http.StatusInternalServerError, err.Error(), cmp.Or(hint, hints[http.StatusInternalServerError]))
}

func unknownTable(err error) *Problem {
	hint := "GET /api/admin/tables lists the tables"
	var unknown *shelf.UnknownError
	if errors.As(err, &unknown) {
		switch {
		case unknown.Near != "":
			hint = "did you mean " + unknown.Near + "?"
		case unknown.Problem != nil && unknown.Problem.Hint != "":
			hint = unknown.Problem.Hint
		}
	}
	return problem(http.StatusNotFound, err.Error(), hint).coded("unknown_table")
}

func hintIn(err error) string {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		return hinted.Hint()
	}
	return ""
}

func joined(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
