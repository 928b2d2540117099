package admin

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/goleak"

	"tablekeeper/jobs/history"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// route is one route of the API, as the description lists it.
type route struct{ method, path string }

func (r route) String() string { return r.method + " " + r.path }

// example fills the path's parameters with what exists.
func (r route) example() string {
	return strings.NewReplacer("{table}", "orders", "{id}", "0000000000", "{job}", "compact", "{function}", "compact").Replace(r.path)
}

// open are the routes that ask for no token: whoever signs in has none yet; the others say nothing of anybody's tables.
var open = []string{"POST /api/admin/session", "GET /openapi.json", "GET /healthz", "GET /readyz", "/api/", "/"}

// routesOf takes the routes that ask for a token from the router.
func routesOf(t *testing.T, s *Server) []route {
	t.Helper()
	var all []route
	for _, pattern := range s.router.patterns {
		if slices.Contains(open, pattern) {
			continue
		}
		method, path, ok := strings.Cut(pattern, " ")
		if !ok {
			t.Fatalf("%q answers every method", pattern)
		}
		all = append(all, route{method, path})
	}
	for _, pattern := range open {
		if !slices.Contains(s.router.patterns, pattern) {
			t.Errorf("there is no %s", pattern)
		}
	}
	slices.SortFunc(all, func(a, b route) int { return strings.Compare(a.String(), b.String()) })
	return all
}

// addForeign is another API on the same listener.
func addForeign(o *Options) {
	o.Routes = append(o.Routes, func(api huma.API) {
		huma.Register(api, huma.Operation{Method: http.MethodGet, Path: "/api/v1/things", OperationID: "things"}, nothing)
		huma.Register(api, huma.Operation{Method: http.MethodPost, Path: "/api/v1/things", OperationID: "thing"}, nothing)
	})
}

// TestRoutesRefuse takes the list from the router, so that a new route cannot be forgotten.
func TestRoutesRefuse(t *testing.T) {
	g := newRig(t, addForeign, "orders")
	routes := routesOf(t, g.server)
	if len(routes) < 35 {
		t.Fatalf("only %d routes", len(routes))
	}
	for _, r := range routes {
		t.Run(r.String(), func(t *testing.T) {
			for name, header := range map[string]string{
				"missing": "", "empty": "Bearer ", "wrong": "Bearer tk_" + strings.Repeat("A", 43), "prefix": "Bearer " + g.tokens[Operator][:20],
				"longer": "Bearer " + g.tokens[Operator] + "x", "basic": "Basic " + g.tokens[Operator], "case": "Bearer " + strings.ToUpper(g.tokens[Operator]), "bare": g.tokens[Operator],
			} {
				g.pass(time.Minute) // the wrong ones before are forgiven
				for _, body := range []any{nil, "{}"} {
					req := g.request(r.method, r.example(), body)
					if header != "" {
						req.Header.Set("Authorization", header)
					}
					if got := g.do(req); got.StatusCode != http.StatusUnauthorized || got.Header.Get("WWW-Authenticate") == "" {
						t.Errorf("%s token: %d %s", name, got.StatusCode, got.body)
					}
				}
			}
			g.refusesRoles(t, r)
		})
	}
	page, err := g.history.List(t.Context(), history.Filter{})
	if err != nil || len(page.Runs) > 0 {
		t.Errorf("%d runs, %v", len(page.Runs), err)
	}
	if changes, err := g.keys.changes(t.Context(), 0, 10); err != nil || len(changes) > 0 {
		t.Errorf("changes %v, %v", changes, err)
	}
}

// refusesRoles says anew, apart from the code, who may do what.
func (g *rig) refusesRoles(t *testing.T, r route) {
	changes := r.method != http.MethodGet
	refused := map[Role]bool{Agent: true}
	switch {
	case strings.HasPrefix(r.path, "/api/v1/"):
		refused = map[Role]bool{Viewer: true}
	case r.path == "/api/admin/session":
		refused = nil
	case changes:
		refused[Viewer] = true
	}
	for role := range g.tokens {
		if !refused[role] {
			continue
		}
		g.call(role, r.method, r.example(), "{}").problem(http.StatusForbidden)
	}
}

func TestRolesMayWhatTheyMay(t *testing.T) {
	g := newRig(t, addForeign, "orders")
	for _, r := range routesOf(t, g.server) {
		if r.method == http.MethodGet && strings.HasPrefix(r.path, Prefix) {
			status := g.call(Viewer, r.method, r.example(), nil).StatusCode
			if wanted := strings.Contains(r.path, "{id}"); status != http.StatusOK && (!wanted || status != http.StatusNotFound) {
				t.Errorf("%s as viewer: %d", r, status)
			}
		}
	}
	g.call(Agent, "GET", "/api/v1/things", nil).want(http.StatusNoContent)
	g.call(Agent, "POST", "/api/v1/things", nil).want(http.StatusNoContent)
	g.call(Operator, "GET", "/api/v1/things", nil).want(http.StatusNoContent)
	g.call(Viewer, "GET", "/metrics", nil).want(http.StatusOK)
	if who := g.call(Agent, "GET", "/api/admin/session", nil).want(http.StatusOK).object(); who["role"] != "agent" || who["name"] != "the-agent" {
		t.Errorf("%v", who)
	}
}

func TestNeedIsDecidedByMethodAndPath(t *testing.T) {
	for in, want := range map[string]need{
		"POST /api/admin/session": nobody, "DELETE /api/admin/session": anybody, "GET /api/admin/session": anybody,
		"GET /api/admin/tables": toView, "POST /api/admin/compact": toChange, "PUT /api/admin/new": toChange, "GET /api/administrator": toStore, "GET /other": toStore,
	} {
		method, path, _ := strings.Cut(in, " ")
		if got := needOf(method, path); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	if Role("admin").may(toView) || Role("").may(toStore) || !Operator.may(toChange) || Viewer.may(toChange) {
		t.Error("a role may what it may not")
	}
}

func TestChangesAreRecorded(t *testing.T) {
	g := newRig(t, nil, "orders")
	run := g.call(Operator, "POST", "/api/admin/backup/orders", nil).want(http.StatusOK).object()["run_id"]
	g.call(Operator, "POST", "/api/admin/compact/nothing-like-it", nil).want(http.StatusNotFound)
	g.call(Viewer, "GET", "/api/admin/tables", nil).want(http.StatusOK)
	var page changePage
	g.call(Viewer, "GET", "/api/admin/audit?limit=1", nil).want(http.StatusOK).into(&page)
	if len(page.Entries) != 1 || page.Entries[0].Status != http.StatusNotFound || page.Next == 0 {
		t.Fatalf("%+v", page)
	}
	var rest changePage
	g.call(Viewer, "GET", fmt.Sprintf("/api/admin/audit?before=%d", page.Next), nil).want(http.StatusOK).into(&rest)
	if len(rest.Entries) != 1 || rest.Next != 0 {
		t.Fatalf("%+v", rest)
	}
	c := rest.Entries[0]
	if c.Actor != "the-operator" || c.Role != Operator || c.From != "127.0.0.1" || c.Method != http.MethodPost || c.Path != "/api/admin/backup/orders" || c.Status != 200 || c.RunID != run {
		t.Errorf("%+v", c)
	}
	if log := g.log.String(); !strings.Contains(log, "msg=change actor=the-operator") {
		t.Errorf("not in the log: %s", log)
	}
	// A record that cannot be kept keeps nobody from mending what is broken; the log still says who it was.
	if _, err := g.keys.db.ExecContext(t.Context(), "DROP TABLE audit"); err != nil {
		t.Fatal(err)
	}
	g.call(Operator, "POST", "/api/admin/verify", nil).want(http.StatusOK)
	if log := g.log.String(); !strings.Contains(log, "path=/api/admin/verify") || !strings.Contains(log, "cannot be kept in the record") {
		t.Errorf("not in the log: %s", log)
	}
	for _, token := range g.tokens {
		if strings.Contains(g.log.String(), token) {
			t.Error("a token is in the log")
		}
	}
}
