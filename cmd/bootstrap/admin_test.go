package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"tablekeeper/jobs/history"
	"tablekeeper/storage/bucket/buckettest"
)

const (
	tokenARN   = "arn:aws:secretsmanager:eu-central-1:000000000000:secret:admin"
	adminToken = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01"
)

// httpRequest is one of an HTTP API as Lambda hands it over.
func httpRequest(method, path, body string, headers map[string]string) string {
	r := events.APIGatewayV2HTTPRequest{Version: "2.0", RawPath: path, Body: body, Headers: headers}
	r.RequestContext.HTTP.Method, r.RequestContext.HTTP.SourceIP, r.RequestContext.DomainName = method, "203.0.113.7", "x.execute-api.eu-central-1.amazonaws.com"
	text, _ := json.Marshal(r)
	return string(text)
}

// asks sends a request with the token, and reads the answer into into.
func (h *lambdaHost) asks(method, path, body string, headers map[string]string, status int, into any) events.APIGatewayV2HTTPResponse {
	h.t.Helper()
	all := map[string]string{"authorization": "Bearer " + adminToken, "content-type": "application/json"}
	for name, value := range headers {
		all[name] = value
	}
	a, ok := h.invoke("request", httpRequest(method, path, body, all), patience)
	var out events.APIGatewayV2HTTPResponse
	if err := json.Unmarshal([]byte(a.Body), &out); !ok || a.Type != "" || err != nil || out.StatusCode != status {
		h.t.Fatalf("%s %s: %+v, want %d", method, path, a, status)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(out.Body), into); err != nil {
			h.t.Fatalf("%v: %s", err, out.Body)
		}
	}
	return out
}

// queries is asks for a list.
func (h *lambdaHost) queries(path, query string, status int, into any) {
	h.t.Helper()
	r := events.APIGatewayV2HTTPRequest{RawPath: path, RawQueryString: query, Headers: map[string]string{"authorization": "Bearer " + adminToken}}
	r.RequestContext.HTTP.Method, r.RequestContext.HTTP.SourceIP = "GET", "203.0.113.7"
	out := h.sends(r)
	if out.StatusCode != status {
		h.t.Fatalf("%s?%s: %+v, want %d", path, query, out, status)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(out.Body), into); err != nil {
			h.t.Fatalf("%v: %s", err, out.Body)
		}
	}
}

func (h *lambdaHost) sends(r events.APIGatewayV2HTTPRequest) (out events.APIGatewayV2HTTPResponse) {
	h.t.Helper()
	text, _ := json.Marshal(r)
	a, ok := h.invoke("request", string(text), patience)
	if err := json.Unmarshal([]byte(a.Body), &out); !ok || a.Type != "" || err != nil {
		h.t.Fatalf("%s: %+v", text, a)
	}
	return out
}

// said is a line a run.
func said(runs []history.Run) (lines []string) {
	for _, r := range runs {
		lines = append(lines, fmt.Sprint(r.Function, " ", r.Status, " ", r.Counts.Tables))
	}
	return lines
}

type seenTable struct {
	Table       string
	Health      string
	Bytes       int64
	FreePages   int64 `json:"free_pages"`
	PageCount   int64 `json:"page_count"`
	Missing     bool
	JournalMode string `json:"journal_mode"`
}

func TestAdminOnLambda(t *testing.T) {
	w, g := onStore(t, buckettest.StartMinIO(t), "s3")
	w.sparse("app", 300)
	w.Make("other", 50)
	w.upload("other")
	w.function("backup").must("1", `{"tables":["app","other"]}`)
	w.keep(tokenARN, adminToken+"\n")
	api := w.function("admin", "TABLEKEEPER_TOKEN_SECRET", tokenARN, "TABLEKEEPER_COMPACT_QUEUE", ownQueue, "TABLEKEEPER_BACKUP_QUEUE", ownQueue+"/backup",
		"TABLEKEEPER_VERIFY_QUEUE", ownQueue+"/verify", "TABLEKEEPER_COMPACT_THRESHOLD", "0.1")

	t.Run("nobody without the token", func(t *testing.T) {
		before := len(g.seen)
		for name, headers := range map[string]map[string]string{"none": {"authorization": ""}, "wrong": {"authorization": "Bearer " + strings.Repeat("x", 64)},
			"basic": {"authorization": "Basic " + adminToken}, "a part": {"authorization": "Bearer " + adminToken[:63]}, "cookie": {"authorization": "", "cookie": "tablekeeper_session=" + adminToken}} {
			out := api.asks("GET", "/api/admin/tables", "", headers, http.StatusUnauthorized, nil)
			if out.Headers["WWW-Authenticate"] == "" || out.Headers["Content-Type"] != "application/problem+json" {
				t.Errorf("%s: %+v", name, out)
			}
			api.asks("POST", "/api/admin/compact/app", `{}`, headers, http.StatusUnauthorized, nil)
		}
		if len(g.seen) != before || len(w.messages(ownQueue)) != 0 {
			t.Error("a stranger made it work")
		}
	})
	t.Run("tables and backups", func(t *testing.T) {
		var list struct{ Tables []seenTable }
		out := api.asks("GET", "/api/admin/tables", "", nil, http.StatusOK, &list)
		if len(list.Tables) != 2 || !strings.HasPrefix(out.Headers["Content-Security-Policy"], "default-src 'none'") {
			t.Fatalf("%+v, %v", list, out.Headers)
		}
		var app seenTable
		api.asks("GET", "/api/admin/tables/app", "", nil, http.StatusOK, &app)
		info, err := w.tables.Head(t.Context(), "app.db")
		if err != nil || app.Bytes != info.Size || app.FreePages == 0 || app.PageCount == 0 || app.Health != "unproved" || app.Missing {
			t.Errorf("%+v, %d, %v", app, info.Size, err)
		}
		var stored struct{ Backups []struct{ Backup string } }
		api.asks("GET", "/api/admin/tables/app/backups", "", nil, http.StatusOK, &stored)
		if len(stored.Backups) != 1 || stored.Backups[0].Backup != w.stored("app")[0].Key.String() {
			t.Errorf("%+v", stored)
		}
		api.asks("GET", "/api/admin/tables/ap", "", nil, http.StatusNotFound, nil)
	})
	t.Run("work goes to the workers", func(t *testing.T) {
		var begun struct {
			RunID string `json:"run_id"`
		}
		headers := map[string]string{"prefer": "respond-async", "idempotency-key": "one"}
		out := api.asks("POST", "/api/admin/compact/app", `{"force":true}`, headers, http.StatusAccepted, &begun)
		again := api.asks("POST", "/api/admin/compact/app", `{"force":true}`, headers, http.StatusAccepted, nil)
		where := out.Headers["Location"]
		if where == "" || again.Headers["Location"] != where {
			t.Fatalf("%+v, %+v", out, again)
		}
		var run history.Run
		api.asks("GET", where, "", nil, http.StatusOK, &run)
		if run.Status != history.Queued || run.Function != "compact" || run.Actor != "operator" || len(run.Entries) != 1 {
			t.Errorf("%+v", run)
		}
		sent := w.messages(ownQueue)
		if len(sent) != 1 || sent[0].Group != "app" {
			t.Fatalf("%+v", sent)
		}
		w.function("compact").invoke("2", records(sent, 1), patience)
		api.asks("GET", where, "", nil, http.StatusOK, &run)
		if run.Status != history.Succeeded || run.Counts.Done != 1 || run.Entries[0].Status != "compacted" {
			t.Errorf("%+v", run)
		}
		// Many tables, and not waited for whatever the client prefers.
		out = api.asks("POST", "/api/admin/backup", `{}`, nil, http.StatusAccepted, nil)
		api.asks("GET", out.Headers["Location"], "", nil, http.StatusOK, &run)
		if sent := w.messages(ownQueue + "/backup"); len(sent) != 2 || run.Counts.Tables != 2 {
			t.Errorf("%+v, %+v", sent, run)
		}
	})
	t.Run("a failure is told", func(t *testing.T) {
		w.Damage(w.Path("other"), 4096, strings.Repeat("garbage ", 512))
		w.upload("other")
		out := api.asks("POST", "/api/admin/backup/other", `{"force":true}`, nil, http.StatusAccepted, nil)
		w.function("backup").invoke("3", records(w.messages(ownQueue+"/backup"), 1), patience)
		var run history.Run
		api.asks("GET", out.Headers["Location"], "", nil, http.StatusOK, &run)
		if run.Status != history.Failed || run.Entries[0].Reason != "corrupt" {
			t.Errorf("%+v", run)
		}
	})
	t.Run("runs, newest first, by pages", func(t *testing.T) {
		var all, page, other history.Page
		api.asks("GET", "/api/admin/runs", "", nil, http.StatusOK, &all)
		// Compact, backup of all and the backup that failed; the second request with the same key is no run of its own.
		if got := said(all.Runs); !slices.Equal(got, []string{"backup failed 1", "backup queued 2", "compact succeeded 1"}) || all.Next != "" {
			t.Fatalf("%q, %q", got, all.Next)
		}
		if last := all.Runs[2]; last.Ended.IsZero() || last.Trigger != "api" || last.Actor != "operator" || last.Entries != nil {
			t.Errorf("%+v", last)
		}
		query := "limit=1"
		for i, want := range all.Runs {
			page = history.Page{}
			api.queries("/api/admin/runs", query, http.StatusOK, &page)
			if len(page.Runs) != 1 || page.Runs[0].ID != want.ID || (page.Next == "") != (i == 2) {
				t.Fatalf("%d: %+v, want %s", i, page, want.ID)
			}
			query = "limit=1&cursor=" + page.Next
		}
		for query, want := range map[string]int{"function=backup": 2, "function=verify": 0, "table=app": 2, "status=failed": 1, "status=failed,queued": 2,
			"since=2020-01-01T00:00:00Z": 3, "since=2100-01-01T00:00:00Z": 0, "until=2020-01-01T00:00:00Z": 0, "trigger=schedule": 0, "function=backup&limit=1": 1} {
			other = history.Page{}
			api.queries("/api/admin/runs", query, http.StatusOK, &other)
			if len(other.Runs) != want {
				t.Errorf("%s: %q, want %d", query, said(other.Runs), want)
			}
		}
		for _, cursor := range []string{"x", "../../tables/app.db", all.Runs[0].ID} {
			api.queries("/api/admin/runs", "cursor="+url.QueryEscape(cursor), http.StatusUnprocessableEntity, nil)
		}
		// A run that is over for good is known without its marks.
		w.Must(w.state.Delete(t.Context(), eventPrefix+"compact/"+all.Runs[2].ID+"/app"))
		api.queries("/api/admin/runs", "function=compact", http.StatusOK, &other)
		if got := said(other.Runs); !slices.Equal(got, []string{"compact succeeded 1"}) {
			t.Errorf("%q", got)
		}
	})
	t.Run("a run is tried again", func(t *testing.T) {
		var all history.Page
		api.queries("/api/admin/runs", "status=failed", http.StatusOK, &all)
		w.messages(ownQueue + "/backup") // are gone
		out := api.asks("POST", "/api/admin/runs/"+all.Runs[0].ID+"/retry", "", nil, http.StatusAccepted, nil)
		var run history.Run
		api.asks("GET", out.Headers["Location"], "", nil, http.StatusOK, &run)
		if run.RetryOf != all.Runs[0].ID || len(run.Entries) != 1 || run.Entries[0].Table != "other" || len(w.messages(ownQueue+"/backup")) != 1 {
			t.Errorf("%+v", run)
		}
	})
	t.Run("what is not served", func(t *testing.T) {
		for _, r := range []string{"GET /app.mjs", "POST /", "GET /metrics", "GET /readyz", "GET /api/admin/jobs", "GET /api/admin/compactions", "GET /api/admin/recoveries", "GET /api/admin/alerts", "POST /api/admin/runs/x/cancel", "POST /api/admin/restore/app", "GET /api/admin/events", "DELETE /api/admin/tables/app", "GET /openapi.json", "POST /api/admin/compact/app/x", "GET /api/v1/inbox"} {
			method, path, _ := strings.Cut(r, " ")
			api.asks(method, path, "", nil, http.StatusNotFound, nil)
		}
		api.asks("GET", "/api/admin/runs/../../x", "", nil, http.StatusNotFound, nil)
		api.asks("GET", "/api/admin/runs/0193", "", nil, http.StatusNotFound, nil)
		api.asks("POST", "/api/admin/compact/app", `{"forse":true}`, nil, http.StatusUnprocessableEntity, nil)
		if a, ok := api.invoke("x", `{"tables":["*"]}`, patience); !ok || a.Type != "" || !strings.Contains(a.Body, "no request of an HTTP API") {
			t.Errorf("%+v", a)
		}
	})
	if strings.Contains(api.stderr.String()+api.stdout.String(), adminToken[:20]) {
		t.Error("the log has the token")
	}
}

func TestAdminTokenTooShort(t *testing.T) {
	w := newWorld(t)
	w.keep(tokenARN, "1234")
	api := w.function("admin", "TABLEKEEPER_TOKEN_SECRET", tokenARN, "TABLEKEEPER_COMPACT_QUEUE", ownQueue, "TABLEKEEPER_BACKUP_QUEUE", ownQueue, "TABLEKEEPER_VERIFY_QUEUE", ownQueue)
	api.asks("GET", "/api/admin/tables", "", map[string]string{"authorization": "Bearer 1234"}, http.StatusServiceUnavailable, nil)
}
