package hub

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// route is one route of the hub, as the router has it.
type route struct{ method, path string }

// recorder is a router that knows what is registered.
type recorder struct {
	*http.ServeMux
	routes []route
}

func (r *recorder) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	if method, path, ok := strings.Cut(pattern, " "); ok {
		r.routes = append(r.routes, route{method, path})
	}
	r.ServeMux.HandleFunc(pattern, h)
}

// routesOf are the hub's.
func routesOf(s Stores) ([]route, http.Handler) {
	mux := &recorder{ServeMux: http.NewServeMux()}
	config := huma.DefaultConfig("hub", "1")
	config.DocsPath, config.SchemasPath, config.OpenAPIPath, config.CreateHooks, config.RejectUnknownQueryParameters = "", "", "", nil, true
	Register(humago.New(mux, config), s, nil)
	return mux.routes, mux
}

// ask makes a request and wants an answer that is no fault of ours.
func ask(t *testing.T, handler http.Handler, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, req)
	if w.Code >= 500 {
		t.Errorf("%s %q with %.80q: %d %s", method, path, body, w.Code, w.Body)
	}
	if w.Body.Len() > 0 && strings.HasSuffix(w.Header().Get("Content-Type"), "json") && !json.Valid(w.Body.Bytes()) {
		t.Errorf("%s %q: no JSON: %q", method, path, w.Body)
	}
	return w
}

var parameter = regexp.MustCompile(`\{\w+\}`)

// TestHostileRequests tries, on every route that the router has, names and bodies that nobody means.
func TestHostileRequests(t *testing.T) {
	routes, handler := routesOf(open(t))
	if len(routes) < 30 {
		t.Fatalf("only %d routes", len(routes))
	}
	names := []string{"..%2f..%2fetc%2fpasswd", "%00", "a%00b", "%ff%fe", "'; DROP TABLE x; --", "%25", "*", "таблица", strings.Repeat("a", 2000), "-rf", "${HOME}", "%0d%0aX-Evil:1", "%E2%80%AEx"}
	bodies := []string{"", "null", "[]", `"x"`, "{", `{}{}`, `{"unknown":1}`, strings.Repeat("[", 100_000), `{"from":1e400}`, "\xff\xfe", `{"body":"` + strings.Repeat("x", 10<<20) + `"}`}
	for _, r := range routes {
		for _, name := range names {
			path := parameter.ReplaceAllLiteralString(r.path, url.PathEscape(mustUnescape(t, name)))
			w := ask(t, handler, r.method, path, "{}")
			if w.Header().Get("X-Evil") != "" {
				t.Errorf("%s %q forges a header", r.method, path)
			}
		}
		path := parameter.ReplaceAllLiteralString(r.path, "x")
		for _, body := range bodies {
			w := ask(t, handler, r.method, path, body)
			if takesBody(r) && w.Code < 400 {
				t.Errorf("%s %s takes %.40q: %d", r.method, path, body, w.Code)
			}
			if takesBody(r) && len(body) > 1<<20 && w.Code != http.StatusRequestEntityTooLarge {
				t.Errorf("%s %s takes ten megabytes: %d", r.method, path, w.Code)
			}
		}
		for _, query := range []string{"?limit=0", "?limit=-1", "?limit=1001", "?limit=x", "?colour=red"} {
			if w := ask(t, handler, r.method, path+query, "{}"); w.Code < 400 {
				t.Errorf("%s %s%s: %d", r.method, path, query, w.Code)
			}
		}
	}
}

// bodyless are the routes whose path says it all.
var bodyless = []string{"POST /api/v1/mailbox/{agent}/receive", "PUT /api/v1/channels/{channel}/subscriptions/{agent}", "POST /api/v1/tasks/{id}/requeue"}

func takesBody(r route) bool {
	return r.method != http.MethodGet && r.method != http.MethodDelete && !slices.Contains(bodyless, r.method+" "+r.path)
}

func mustUnescape(t *testing.T, s string) string {
	t.Helper()
	plain, err := url.PathUnescape(s)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func FuzzRequests(f *testing.F) {
	for _, seed := range [][3]string{
		{"POST", "/mailbox/bob/messages", `{"from":"alice","body":"hello"}`}, {"POST", "/mailbox/bob/receive?limit=5", ``}, {"POST", "/mailbox/bob/acknowledge", `{"ids":["x"]}`},
		{"POST", "/channels", `{"name":"news","creator":"alice"}`}, {"GET", "/channels/news/posts?limit=1&after=x", ``}, {"PUT", "/channels/news/subscriptions/bob/cursor", `{"id":"\u0000"}`},
		{"POST", "/tasks", `{"queue":"q","payload":"p","max_attempts":-1}`}, {"POST", "/tasks/claim", `{"queue":"q","worker":"w","lease_ms":9223372036854775807}`},
		{"POST", "/threads", `{"id":"x","author":"a","title":"\ud800"}`}, {"GET", "/history?party=bob&after=zz", ``}, {"PUT", "/config/limit", `{"value":"1","author":"a","if_version":-1}`},
		{"GET", "/config-changes?after=-1", ``}, {"DELETE", "/tasks/%00", ``},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	_, handler := routesOf(open(f))
	f.Fuzz(func(t *testing.T, method, path, body string) {
		if u, err := url.ParseRequestURI(Prefix + path); err != nil || u.Host != "" {
			return
		}
		if _, err := http.NewRequestWithContext(t.Context(), method, Prefix+path, nil); err != nil {
			return // no method
		}
		ask(t, handler, method, Prefix+path, body)
	})
}

// TestNothingIsWrittenBesideTheTables looks at the folder after requests that name other places.
func TestNothingIsWrittenBesideTheTables(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	_, handler := routesOf(open(t))
	for i, name := range []string{"../x", "/tmp/x", "x.db", "file:x.db?mode=rwc"} {
		ask(t, handler, http.MethodPost, Prefix+"/mailbox/"+url.PathEscape(name)+"/messages", `{"from":"a","body":"b"}`)
		ask(t, handler, http.MethodPut, Prefix+"/config/"+url.PathEscape(name), fmt.Sprintf(`{"value":"%d","author":"a"}`, i))
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("%v, %v", entries, err)
	}
}
