package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tablekeeper/infra/admin"
	"tablekeeper/jobs/history"
)

// loopback tells whether a host is this machine.
func loopback(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}

// Fleet is the whole fleet in one sentence.
func (c *Client) Fleet(ctx context.Context) (f admin.Fleet, err error) {
	err = c.get(ctx, "/fleet", nil, &f)
	return f, err
}

// Tables are all tables, worst first.
func (c *Client) Tables(ctx context.Context) ([]admin.Table, error) {
	var list struct{ Tables []admin.Table }
	err := c.get(ctx, "/tables", nil, &list)
	return list.Tables, err
}

// Backups are a table's, newest first.
func (c *Client) Backups(ctx context.Context, table string) ([]admin.Stored, error) {
	var list struct{ Backups []admin.Stored }
	err := c.get(ctx, "/tables/"+url.PathEscape(table)+"/backups", nil, &list)
	return list.Backups, err
}

// Get is one run; the id may be a part of it.
func (c *Client) Get(ctx context.Context, id string) (run history.Run, err error) {
	err = c.get(ctx, "/runs/"+url.PathEscape(id), nil, &run)
	return run, err
}

// List is a page of runs, newest first.
func (c *Client) List(ctx context.Context, f history.Filter) (page history.Page, err error) {
	query := url.Values{}
	for name, value := range map[string]string{
		"table": f.Table, "status": strings.Join(f.Statuses, ","), "cursor": f.Cursor, "function": f.Function, "job": f.Job, "trigger": f.Trigger,
		"since": stamp(f.Since), "until": stamp(f.Until),
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if f.Limit > 0 {
		query.Set("limit", strconv.Itoa(f.Limit))
	}
	err = c.get(ctx, "/runs", query, &page)
	return page, err
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// Jobs are what is scheduled.
func (c *Client) Jobs(ctx context.Context) ([]admin.Job, error) {
	var list struct{ Jobs []admin.Job }
	err := c.get(ctx, "/jobs", nil, &list)
	return list.Jobs, err
}

// ChangeJob pauses or resumes a job.
func (c *Client) ChangeJob(ctx context.Context, verb, job string) error {
	return c.do(ctx, request{method: http.MethodPost, path: "/jobs/" + url.PathEscape(job) + "/" + verb}, nil)
}

// Channels are how people are told.
func (c *Client) Channels(ctx context.Context) ([]admin.Channel, error) {
	var list struct{ Channels []admin.Channel }
	err := c.get(ctx, "/alerts/channels", nil, &list)
	return list.Channels, err
}

// TestChannel sends a test message and waits for the answer.
func (c *Client) TestChannel(ctx context.Context, channel string) error {
	return c.do(ctx, request{method: http.MethodPost, path: "/alerts/test", body: map[string]string{"channel": channel}}, nil)
}

// Work names what is to be done. For all tables, or those that the event names, Table is "".
type Work struct {
	Function string
	Table    string
	Event    any
	Key      string // of idempotency; default: a new one, so that a request that is sent twice by the network is done once
}

// Start has the server begin, and returns the run's id. Follow it.
func (c *Client) Start(ctx context.Context, w Work) (id string, err error) {
	path := "/" + url.PathEscape(w.Function)
	if w.Table != "" {
		path += "/" + url.PathEscape(w.Table)
	}
	return c.start(ctx, path, w.Event, w.Key)
}

// Invoke has any function begin with an event of the caller's own, and returns the run's id. The server refuses restores.
func (c *Client) Invoke(ctx context.Context, w Work) (id string, err error) {
	return c.start(ctx, "/invoke/"+url.PathEscape(w.Function), w.Event, w.Key)
}

// Check asks whether a function takes an event.
func (c *Client) Check(ctx context.Context, w Work) error {
	return c.do(ctx, request{method: http.MethodPost, path: "/invoke/" + url.PathEscape(w.Function), query: url.Values{"check": {"true"}}, body: w.Event}, nil)
}

func (c *Client) start(ctx context.Context, path string, event any, key string) (string, error) {
	if key == "" {
		key = rand.Text()
	}
	var begun struct {
		RunID string `json:"run_id"`
	}
	// Even if the caller leaves at this moment it must be known which run began, so that it can be ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	err := c.do(ctx, request{method: http.MethodPost, path: path, body: event, header: map[string]string{"Prefer": "respond-async", "Idempotency-Key": key}}, &begun)
	if err == nil && begun.RunID == "" {
		err = c.stranger(ctx, errNoRun)
	}
	return begun.RunID, err
}

// Plan says what a restore over a table would do.
func (c *Client) Plan(ctx context.Context, table, backup, at string) (plan admin.PlannedRestore, err error) {
	body := map[string]any{"dry_run": true, "backup": backup, "at": at}
	err = c.do(ctx, request{method: http.MethodPost, path: "/restore/" + url.PathEscape(table), body: body}, &plan)
	return plan, err
}

// Restore carries a plan out, and returns the run's id. If evenIfChanged, also what was written since is lost.
func (c *Client) Restore(ctx context.Context, plan admin.PlannedRestore, evenIfChanged bool) (id string, err error) {
	return c.start(ctx, "/restore/"+url.PathEscape(plan.Table), map[string]any{"plan": plan.ID, "even_if_changed": evenIfChanged}, "plan "+plan.ID)
}

// Cancel ends a run.
func (c *Client) Cancel(ctx context.Context, id string) error {
	return c.do(ctx, request{method: http.MethodPost, path: "/runs/" + url.PathEscape(id) + "/cancel"}, nil)
}

// Raw is an event that is sent as it is.
func Raw(event json.RawMessage) any {
	if len(event) == 0 {
		return nil
	}
	return event
}
