package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"tablekeeper"
	"tablekeeper/functions"
	"tablekeeper/functions/backup"
	"tablekeeper/functions/compact"
	"tablekeeper/functions/functionstest"
	"tablekeeper/functions/restore"
	"tablekeeper/functions/verify"
	"tablekeeper/jobs"
	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
	"tablekeeper/jobs/template"
	"tablekeeper/storage/shelf/health"
)

// rig is the real API on a real port, with a real runner, real functions and real tables.
type rig struct {
	*functionstest.Fleet
	server  *Server
	keys    *Keys
	history *history.Store
	bus     *events.Bus
	runner  *jobs.Runner
	gate    *gate
	base    string // http://127.0.0.1:port
	client  *http.Client
	tokens  map[Role]string
	alerts  *fakeAlerts
	log     *lines

	mu  sync.Mutex
	now time.Time
}

// lines is a log that a test looks into.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// gate holds up functions at tables.
type gate struct {
	mu     sync.Mutex
	closed map[string]chan struct{} // by function/table
	at     chan string
}

func (g *gate) close(name string) (open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := make(chan struct{})
	g.closed[name] = c
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.closed, name)
		close(c)
	})
}

func (g *gate) pass(ctx context.Context, name string) error {
	g.mu.Lock()
	c := g.closed[name]
	g.mu.Unlock()
	if c == nil {
		return nil
	}
	g.at <- name
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// adapter makes a runner's function of one of ours, as cmd does.
type adapter[E, R any] struct {
	name string
	gate *gate
	work interface {
		Tables(ctx context.Context, event E) ([]string, error)
		Run(ctx context.Context, event E, table string, p functions.Progress) (R, error)
	}
}

func (a adapter[E, R]) Tables(ctx context.Context, event json.RawMessage) ([]string, error) {
	var e E
	if err := functions.Decode(event, &e); err != nil {
		return nil, err
	}
	return a.work.Tables(ctx, e)
}

func (a adapter[E, R]) Run(ctx context.Context, call jobs.Call) (json.RawMessage, error) {
	var e E
	if err := functions.Decode(call.Event, &e); err != nil {
		return nil, err
	}
	if err := a.gate.pass(ctx, a.name+"/"+call.Table); err != nil {
		return nil, err
	}
	report, err := a.work.Run(ctx, e, call.Table, functions.Progress{Phase: call.Phase, Step: call.Progress})
	entry, encodeErr := json.Marshal(report)
	if err == nil {
		err = encodeErr
	}
	return entry, err
}

// assets are a dashboard's files.
var assets = fstest.MapFS{
	"index.html": {Data: []byte("<!doctype html><title>tablekeeper</title><script src=/app.js type=module></script>" + strings.Repeat(" ", 1000))},
	"app.js":     {Data: []byte(strings.Repeat("const a = 1;\n", 200))},
	"sw.js":      {Data: []byte("self")},
}

var _ fs.FS = assets

// newRig starts it. tables are made, each with rows of which none are free.
func newRig(t *testing.T, change func(*Options), tables ...string) *rig {
	t.Helper()
	g := &rig{Fleet: functionstest.New(t), gate: &gate{closed: map[string]chan struct{}{}, at: make(chan string, 100)}, tokens: map[Role]string{}, alerts: &fakeAlerts{},
		now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), log: &lines{}}
	for _, name := range tables {
		g.Make(name, 20)
	}
	g.open()
	opts := Options{Backups: g.Catalogue, Planner: g.restorer(), Alerts: g.alerts, Assets: assets, Version: "v1.2.3", Build: "build-1", Now: g.clock,
		Hosts: []string{"keeper.example"}, Logger: slog.New(slog.NewTextHandler(g.log, nil)), Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") })}
	if change != nil {
		change(&opts)
	}
	g.serve(opts)
	return g
}

func (g *rig) clock() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now
}

func (g *rig) pass(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now = g.now.Add(d)
}

func (g *rig) restorer() *restore.Function {
	return restore.New(restore.Config{Shelf: g.Shelf, Catalogue: g.Catalogue, Bucket: functionstest.BucketName, Now: g.Now})
}

// open opens history, keys, bus and runner.
func (g *rig) open() {
	t, state := g.T, g.T.TempDir()
	var err error
	g.history, err = history.Open(t.Context(), filepath.Join(state, history.File), history.Options{})
	g.Must(err)
	g.keys, err = OpenKeys(t.Context(), state, g.clock)
	g.Must(err)
	g.bus = events.NewBus(events.Options{Log: g.history})
	declared, err := template.Read("template.yaml", tablekeeper.Template, nil)
	g.Must(err)
	g.runner, err = jobs.New(jobs.Config{Template: declared, History: g.history, Bus: g.bus, Backoff: func(int) time.Duration { return time.Millisecond },
		Functions: map[string]jobs.Function{
			"compact": adapter[compact.Event, compact.Entry]{"compact", g.gate, compact.New(compact.Config{Shelf: g.Shelf, Now: g.Now})},
			"backup": adapter[backup.Event, backup.Entry]{"backup", g.gate, backup.New(backup.Config{Shelf: g.Shelf, Catalogue: g.Catalogue, Objects: g.Bucket,
				Bucket: functionstest.BucketName, Now: g.Now})},
			"verify":  adapter[verify.Event, verify.Entry]{"verify", g.gate, verify.New(verify.Config{Shelf: g.Shelf, Catalogue: g.Catalogue, Bucket: functionstest.BucketName, Now: g.Now})},
			"restore": adapter[restore.Event, restore.Entry]{"restore", g.gate, g.restorer()},
		}})
	g.Must(err)
	for _, role := range []Role{Viewer, Operator, Agent} {
		g.tokens[role], err = g.keys.AddToken(t.Context(), "the-"+string(role), role)
		g.Must(err)
	}
	t.Cleanup(func() {
		g.Must(g.bus.Close(context.Background()))
		g.Must(g.keys.Close())
		g.Must(g.history.Close())
	})
}

func (g *rig) serve(opts Options) {
	t := g.T
	service, err := g.runner.Serve(t.Context(), g.runner.Schedules()[:0])
	g.Must(err)
	g.server, err = New(House{Runner: g.runner, History: g.history, Bus: g.bus, Schedules: service, Shelf: g.Shelf, Fleet: health.NewWatch(g.Shelf, g.clock), Keys: g.keys}, opts)
	g.Must(err)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	g.Must(err)
	g.base = "http://" + l.Addr().String()
	g.client = &http.Client{Transport: &http.Transport{}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	served := make(chan error, 1)
	go func() { served <- g.server.Serve(l) }()
	t.Cleanup(func() {
		g.client.CloseIdleConnections()
		ctx := context.Background()
		g.Must(service.Stop(ctx))
		g.Must(g.server.Shutdown(ctx))
		g.Must(<-served)
	})
}

// call makes a request as somebody; "" is nobody. body is nil, a string or what is encoded as JSON.
func (g *rig) call(as Role, method, path string, body any, header ...string) result {
	g.T.Helper()
	r := g.request(method, path, body, header...)
	if as != "" {
		r.Header.Set("Authorization", "Bearer "+g.tokens[as])
	}
	return g.do(r)
}

func (g *rig) request(method, path string, body any, header ...string) *http.Request {
	g.T.Helper()
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		data, err := json.Marshal(b)
		g.Must(err)
		in = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(g.T.Context(), method, g.base+path, in)
	g.Must(err)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func (g *rig) do(r *http.Request) result {
	g.T.Helper()
	resp, err := g.client.Do(r)
	g.Must(err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	g.Must(err)
	return result{g.T, resp, data}
}

// result is an answer that a test looks at.
type result struct {
	t *testing.T
	*http.Response
	body []byte
}

func (r result) want(status int) result {
	r.t.Helper()
	if r.StatusCode != status {
		r.t.Fatalf("%s %s: status %d, want %d: %s", r.Request.Method, r.Request.URL, r.StatusCode, status, r.body)
	}
	return r
}

// object is the body as a JSON object.
func (r result) object() map[string]any {
	r.t.Helper()
	var v map[string]any
	r.into(&v)
	return v
}

func (r result) into(v any) {
	r.t.Helper()
	if err := json.Unmarshal(r.body, v); err != nil {
		r.t.Fatalf("%s %s: %v in %s", r.Request.Method, r.Request.URL, err, r.body)
	}
}

// problem wants a problem with that status, and a hint.
func (r result) problem(status int) Problem {
	r.t.Helper()
	r.want(status)
	var p Problem
	r.into(&p)
	if kind := r.Header.Get("Content-Type"); kind != "application/problem+json" || p.Status != status || p.Detail == "" || p.Hint == "" {
		r.t.Errorf("%s %s: no full problem (%s): %s", r.Request.Method, r.Request.URL, kind, r.body)
	}
	return p
}

// fakeAlerts remembers what it was asked.
type fakeAlerts struct {
	mu    sync.Mutex
	asked []string
	err   error
}

func (f *fakeAlerts) note(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, what)
	return f.err
}

func (f *fakeAlerts) Open() []Alert {
	return []Alert{{Key: "backup/bucket_unreachable", Severity: "critical", Members: []AlertMember{{Function: "backup", Table: "orders", Reason: "bucket_unreachable"}}, Count: 1}}
}
func (f *fakeAlerts) Channels() []Channel { return []Channel{{Name: "webhook-1", Kind: "webhook"}} }
func (f *fakeAlerts) Deliveries(context.Context, string, int) ([]Delivery, error) {
	return []Delivery{{ID: "d1", Channel: "webhook-1", Status: "failed", Body: json.RawMessage(`{}`)}}, nil
}
func (f *fakeAlerts) Redeliver(_ context.Context, id string) error { return f.note("redeliver " + id) }
func (f *fakeAlerts) Test(_ context.Context, name string) error    { return f.note("test " + name) }
func (f *fakeAlerts) PushKey() (string, error)                     { return "KEY", nil }
func (f *fakeAlerts) Subscribe(_ context.Context, sub PushSubscription) error {
	return f.note("subscribe " + sub.Endpoint)
}
func (f *fakeAlerts) Unsubscribe(_ context.Context, endpoint string) error {
	return f.note("unsubscribe " + endpoint)
}
