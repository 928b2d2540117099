// Package admin is how people and programs see the fleet and steer it over HTTP: the API under /api/admin, its stream of events, sign-in, the record of
// changes, and the dashboard's page.
//
// It translates and decides who may; the work is the runner's (package jobs), what is known of tables is in storage/shelf/health, alerts are
// those of whoever is wired in. It neither listens nor reads configuration: that is cmd's.
package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"tablekeeper/functions/restore"
	"tablekeeper/jobs"
	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
	"tablekeeper/jobs/schedule"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/shelf/health"
)

// Runner is the runner of jobs, as far as it is steered from here.
type Runner interface {
	Invoke(ctx context.Context, inv jobs.Invocation) (history.Run, error)
	WaitRun(ctx context.Context, runID string) (history.Run, error)
	Live(runID string) (history.Run, bool)
	Active() []history.Run
	Cancel(runID string) error
}

// History is the record of runs and events.
type History interface {
	events.Log
	Find(ctx context.Context, id string) (string, error)
	Get(ctx context.Context, id string) (history.Run, error)
	List(ctx context.Context, f history.Filter) (history.Page, error)
	Entries(ctx context.Context, f history.Filter) (history.Records, error)
	Latest(ctx context.Context, function string) (map[string]history.Record, error)
}

// Schedules are the jobs.
type Schedules interface {
	States() []schedule.State
	Upcoming(name string, n int) []time.Time
	Pause(ctx context.Context, name string) error
	Resume(ctx context.Context, name string) error
}

// Shelf knows the tables by name.
type Shelf interface {
	health.Lister
	Get(name string) (shelf.Table, error)
	Place(name string) (shelf.Table, error)
	Problems() []shelf.Problem
}

// Backups lists what the bucket has.
type Backups interface {
	Backups(ctx context.Context, table string) ([]archive.Backup, error)
}

// Planner says what a restore would do, and changes nothing.
type Planner interface {
	Plan(ctx context.Context, event restore.Event) (restore.Plan, error)
}

// House is what the API stands for. All of it is required.
type House struct {
	Runner    Runner
	History   History
	Bus       *events.Bus
	Schedules Schedules
	Shelf     Shelf
	Fleet     *health.Watch
	Keys      *Keys
}

// Options of a Server. Zero fields are the defaults.
type Options struct {
	Backups Backups // nil: no bucket is configured
	Planner Planner // nil: nothing can be restored
	Alerts  Alerts  // nil: no alerts are configured
	// Covers tells whether a job is about a table, where its event alone does not say it.
	Covers func(schedule.Job, shelf.Table) bool
	// Refresh looks for new tables, if that is due; nil: somebody else does.
	Refresh func(context.Context) error
	// Routes are other APIs on the same listener. What is not under Prefix takes the role agent or operator.
	Routes  []func(huma.API)
	Metrics http.Handler // for /metrics, behind a token; nil: they are elsewhere
	Lambda  http.Handler // the Lambda API, under paths that begin with its version; it asks for signatures itself. nil: there is none here
	Assets  fs.FS        // the dashboard, index.html at its root; nil: there is none in this build
	Access  Access       // nil: the house's Keys
	// Without are the parts that whoever is in front does not let through: the page hides them.
	Without []string
	// AnyHost: whoever is in front answers under its own names only, so that none has to be refused here.
	AnyHost bool
	// Hosts are names, besides localhost and addresses, under which it is served.
	Hosts   []string
	Secure  bool // it is reached by HTTPS
	Version string
	Build   string // differs where the page does; default: of the assets
	Timing  Timing
	Now     func() time.Time // default time.Now
	Logger  *slog.Logger     // default: discards
}

// Timing is how long things may take. Zero fields are the defaults.
type Timing struct {
	Head  time.Duration // for a client to send the line and the headers of a request; default 10 s
	Body  time.Duration // for a client to send the body of a request; default 10 s
	Write time.Duration // for a client to take a part of an answer, or an event; default 30 s
	Slow  time.Duration // a client that takes longer for one event loses its stream; default 5 s
	Ping  time.Duration // between signs of life on a stream; default 30 s
	Plan  time.Duration // for which a plan of a restore holds; default 15 min
}

func (t *Timing) fill() {
	t.Head = cmp.Or(t.Head, 10*time.Second)
	t.Body = cmp.Or(t.Body, 10*time.Second)
	t.Write = cmp.Or(t.Write, 30*time.Second)
	t.Slow = cmp.Or(t.Slow, 5*time.Second)
	t.Ping = cmp.Or(t.Ping, 30*time.Second)
	t.Plan = cmp.Or(t.Plan, 15*time.Minute)
}

// Server is the API. Serve it, and Shutdown it.
type Server struct {
	House
	keys         *Keys
	opts         Options
	log          *slog.Logger
	now          func() time.Time
	started      time.Time
	wrongSignIns *failures
	wrongBearers *failures
	plans        *plans
	chronicle    *chronicle
	streams      *streams
	router       *router
	api          huma.API
	handler      http.Handler
	http         *http.Server
}

// New makes the API of a house.
func New(h House, opts Options) (*Server, error) {
	s := &Server{House: h, keys: h.Keys, opts: opts, log: opts.Logger, now: opts.Now, wrongSignIns: newFailures(), wrongBearers: newFailures(),
		chronicle: &chronicle{history: h.History}, streams: newStreams()}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.opts.Timing.fill()
	s.http = newHTTP(s.log, s.opts.Timing)
	if s.opts.Access == nil {
		s.opts.Access = h.Keys
	}
	if s.opts.Refresh == nil {
		s.opts.Refresh = func(context.Context) error { return nil }
	}
	page, err := newPage(opts.Assets)
	if err != nil {
		return nil, err
	}
	s.opts.Build = cmp.Or(s.opts.Build, page.build())
	s.started, s.plans = s.now(), newPlans(s.opts.Timing.Plan)
	mux := &router{ServeMux: http.NewServeMux()}
	s.router = mux
	s.api = humago.New(mux, s.config())
	s.register()
	if err := s.addPlain(mux, page); err != nil {
		return nil, err
	}
	s.handler = s.door(mux)
	return s, nil
}

// Handler serves everything.
func (s *Server) Handler() http.Handler { return s.handler }

// Build names what the page is made of.
func (s *Server) Build() string { return s.opts.Build }

// OpenAPI describes the API.
func (s *Server) OpenAPI() *huma.OpenAPI { return s.api.OpenAPI() }

func (s *Server) config() huma.Config {
	c := huma.DefaultConfig("tablekeeper", cmp.Or(s.opts.Version, "dev"))
	// The library's documentation page loads scripts from elsewhere, and its own copy of the description is made in a race.
	c.DocsPath, c.SchemasPath, c.OpenAPIPath, c.CreateHooks = "", "", "", nil
	c.RejectUnknownQueryParameters = true
	c.Transformers = []huma.Transformer{giveHint}
	c.Info.Description = "Errors are RFC 9457 problems with a hint. Times are RFC 3339 in UTC, sizes bytes, durations milliseconds."
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":   {Type: "http", Scheme: "bearer"},
		"session": {Type: "apiKey", In: "cookie", Name: s.cookieName()},
	}
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	c.Components.Schemas.RegisterTypeAlias(reflect.TypeFor[history.Entry](), reflect.TypeFor[Entry]())
	c.OnAddOperation = []huma.AddOpFunc{describeAccess}
	return c
}

// schemaName keeps types of different packages apart that have one name.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	room := path.Base(t.PkgPath())
	if t.PkgPath() == reflect.TypeFor[Server]().PkgPath() || !strings.HasPrefix(t.PkgPath(), "tablekeeper/") {
		return name
	}
	return strings.ToUpper(room[:1]) + room[1:] + name
}

// describeAccess says of a route who may call it.
func describeAccess(_ *huma.OpenAPI, op *huma.Operation) {
	needed := needOf(op.Method, op.Path)
	if op.Extensions == nil {
		op.Extensions = map[string]any{}
	}
	op.Extensions["x-role"] = string(needed)
	if needed != nobody {
		op.Security = []map[string][]string{{"token": {}}, {"session": {}}}
	}
}

func (s *Server) register() {
	s.api.UseMiddleware(s.guard)
	group := huma.NewGroup(s.api, Prefix)
	s.registerSession(group)
	s.registerAudit(group)
	s.registerFleet(group)
	s.registerWork(group)
	s.registerInvoke(group)
	s.registerRestore(group)
	s.registerRuns(group)
	s.registerJobs(group)
	s.registerPast(group)
	s.registerEvents(group)
	s.registerAlerts(group)
	for _, add := range s.opts.Routes {
		add(s.api)
	}
}

// addPlain adds what is no part of the API.
func (s *Server) addPlain(mux *router, page http.Handler) error {
	if e := s.api.OpenAPI().Components.Schemas.Map()["ErrorModel"]; e != nil {
		for name, schema := range huma.SchemaFromType(s.api.OpenAPI().Components.Schemas, typeOf[Problem]()).Properties {
			e.Properties[name] = schema
		}
	}
	described, err := json.Marshal(s.api.OpenAPI())
	if err != nil {
		return fmt.Errorf("describe the API: %w", err)
	}
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(described) // whoever asked may have gone
	})
	mux.HandleFunc("GET /healthz", s.live)
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.Handle("/api/", noSuchRoute(mux))
	mux.Handle("/", page)
	return nil
}

// noSuchRoute answers what no route of the API is for.
func noSuchRoute(mux *router) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			other := r.Clone(r.Context())
			other.Method = method
			if _, pattern := mux.Handler(other); pattern != "" && pattern != "/api/" {
				w.Header().Add("Allow", method)
			}
		}
		status := http.StatusNotFound
		if w.Header().Get("Allow") != "" {
			status = http.StatusMethodNotAllowed
		}
		problem(status, r.Method+" is not for this address", hints[http.StatusNotFound]).write(w)
	})
}

// live says that the process answers.
func (s *Server) live(w http.ResponseWriter, _ *http.Request) {
	s.tell(w, http.StatusOK, map[string]any{"status": "ok", "version": s.opts.Version})
}

// ready says that it can work: the history answers.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if _, _, err := s.History.EventBounds(r.Context()); err != nil {
		s.log.Error("not ready", "error", err)
		s.tell(w, http.StatusServiceUnavailable, map[string]any{"status": "unwell", "error": "the history does not answer"})
		return
	}
	s.tell(w, http.StatusOK, map[string]any{"status": "ok"})
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	if _, err := s.admit(w, r, toView); err != nil {
		s.refuse(w, err)
		return
	}
	if s.opts.Metrics == nil {
		problem(http.StatusNotFound, "metrics are not served here", "see metrics_listen in tablekeeper.yaml").write(w)
		return
	}
	s.opts.Metrics.ServeHTTP(w, r)
}

func (s *Server) tell(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // whoever asked may have gone
}

// answer is the body of a response.
type answer[T any] struct{ Body T }

func reply[T any](body T, err error) (*answer[T], error) {
	if err != nil {
		return nil, explain(err)
	}
	return &answer[T]{body}, nil
}

// operation is one of the admin API. The prefix keeps its name apart from those of other APIs on the listener.
func (s *Server) operation(method, path, id, tag, summary string) huma.Operation {
	return huma.Operation{Method: method, Path: path, OperationID: "admin-" + id, Tags: []string{tag}, Summary: summary, BodyReadTimeout: s.opts.Timing.Body, MaxBodyBytes: MaxBody}
}
