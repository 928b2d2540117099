package admin

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tablekeeper"
	"tablekeeper/functions/compact"
	"tablekeeper/jobs"
	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
	"tablekeeper/jobs/schedule"
	"tablekeeper/jobs/template"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/shelf/health"
)

// untouched fails the test if anything was done.
func (g *rig) untouched() {
	g.T.Helper()
	page, err := g.history.List(g.T.Context(), history.Filter{})
	if err != nil || len(page.Runs) > 0 {
		g.T.Errorf("%d runs, %v", len(page.Runs), err)
	}
}

func TestForeignHostsAndOrigins(t *testing.T) {
	g := newRig(t, nil, "orders")
	for _, host := range []string{"evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.nip.io", "keeper.example.evil", "[::1].evil.example", "-"} {
		for _, path := range []string{"/", "/api/admin/tables", "/healthz", "/openapi.json"} {
			if p := g.call(Operator, "GET", path, nil, "Host", host).problem(http.StatusMisdirectedRequest); p.Code != "unknown_host" {
				t.Errorf("%+v", p)
			}
		}
		g.call(Operator, "POST", "/api/admin/compact", "{}", "Host", host).problem(http.StatusMisdirectedRequest)
	}
	for _, host := range []string{"localhost", "LOCALHOST:8420", "127.0.0.1", "[::1]:8420", "192.0.2.7", "keeper.example", "Keeper.Example.:443", "table.localhost"} {
		g.call(Operator, "GET", "/api/admin/session", nil, "Host", host).want(http.StatusOK)
	}
	for name, header := range map[string][]string{
		"another site": {"Sec-Fetch-Site", "cross-site"}, "a sibling": {"Sec-Fetch-Site", "same-site"}, "its origin": {"Origin", "https://evil.example"},
		"no origin": {"Origin", "null"}, "another port": {"Origin", "http://127.0.0.1:1"},
	} {
		c := g.signIn(Operator)
		for _, r := range routesOf(t, g.server) {
			if r.method == http.MethodGet {
				continue
			}
			if got := g.withCookie(c, r.method, r.example(), header...); got.StatusCode != http.StatusForbidden {
				t.Errorf("%s, %s: %d", name, r, got.StatusCode)
			}
		}
	}
	g.untouched()
	g.call(Operator, "POST", "/api/admin/compact", "{}", "Origin", g.base).want(http.StatusOK)
}

// names that are no table's.
var hostileNames = []string{
	"..", "../orders", "..%2forders", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "orders%00", "orders.db", "ORDERS", " orders", "orders/", "orders%2f..%2forders", "*", "ord*", "[a-z]*", "?",
	"%ff%fe", "таблица", "orders%0d%0aX-Evil:1", strings.Repeat("a", 300), "-rf", "'; DROP TABLE runs; --", "${HOME}", "con", "orders%3Bx", "%E2%80%AEsredro", "~root", "orders%5c..",
}

var parameter = regexp.MustCompile(`\{\w+\}`)

func TestHostileNames(t *testing.T) {
	g := newRig(t, nil, "orders")
	for _, name := range hostileNames {
		for _, r := range routesOf(t, g.server) {
			if !strings.Contains(r.path, "{") {
				continue
			}
			path := parameter.ReplaceAllLiteralString(r.path, name)
			if strings.HasSuffix(r.path, "/redeliver") {
				continue // the id goes to the alerts, which know theirs
			}
			got, err := g.raw(r.method, path)
			if err != nil {
				t.Errorf("%s %q: %v", r.method, path, err)
			} else if got < 300 || got >= 500 {
				t.Errorf("%s %q: %d", r.method, path, got)
			}
		}
	}
	for _, path := range []string{"/api/admin/tables/../../../etc/passwd", "/..%2f..%2fetc/passwd.txt", "/%2e%2e/secret.txt", "/./x.js", "//evil.example/x.js", "/api/admin//tables", "/api/admin/tables/%", "/api/admin/tables/%zz"} {
		if got, err := g.raw("GET", path); err != nil || got == http.StatusOK || got >= 500 {
			t.Errorf("%s: %d, %v", path, got, err)
		}
	}
	g.untouched()
	if strings.Contains(g.log.String(), "\nX-Evil") {
		t.Error("a line of the log can be forged")
	}
}

// raw sends a path as it is written, and gives the status of the answer.
func (g *rig) raw(method, path string) (int, error) { return g.announce(method, path, 2, "{}") }

// announce sends the headers of a request with a body of so many bytes, and what there is of it.
func (g *rig) announce(method, path string, length int, body string) (int, error) {
	conn, err := new(net.Dialer).DialContext(g.T.Context(), "tcp", strings.TrimPrefix(g.base, "http://"))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		method, strings.ReplaceAll(path, " ", "%20"), g.tokens[Operator], length, body); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

func TestBodies(t *testing.T) {
	g := newRig(t, nil, "orders")
	deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"ten megabytes":     {`{"tables":["` + strings.Repeat("a", 10<<20) + `"]}`, http.StatusRequestEntityTooLarge},
		"just too large":    {`{"tables":["` + strings.Repeat("a", MaxBody) + `"]}`, http.StatusRequestEntityTooLarge},
		"unknown field":     {`{"fource":true}`, http.StatusUnprocessableEntity},
		"wrong type":        {`{"force":"yes"}`, http.StatusUnprocessableEntity},
		"not an object":     {`["*"]`, http.StatusUnprocessableEntity},
		"two objects":       {`{}{}`, http.StatusBadRequest},
		"cut":               {`{"force":tr`, http.StatusBadRequest},
		"not UTF-8":         {"{\"tables\":[\"\xff\xfe\"]}", http.StatusNotFound},
		"deep":              {`{"tables":` + deep + `}`, http.StatusBadRequest},
		"out of range":      {`{"threshold":1.5}`, http.StatusUnprocessableEntity},
		"negative":          {`{"max_pause_ms":-1}`, http.StatusUnprocessableEntity},
		"large number":      {`{"max_pause_ms":1e400}`, http.StatusBadRequest},
		"an own dispatch":   {`{"schedule":"rate(1 hour)"}`, http.StatusUnprocessableEntity},
		"a table of no one": {`{"tables":["../orders"]}`, http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			got := g.call(Operator, "POST", "/api/admin/compact", c.body)
			if p := got.problem(c.status); len(got.body) > 4096 || strings.Contains(p.Detail, "aaaaaaaaaa") {
				t.Errorf("the answer repeats the question: %.200s", got.body)
			}
		})
	}
	for _, kind := range []string{"text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data"} {
		g.call(Operator, "POST", "/api/admin/compact", `{}`, "Content-Type", kind).problem(http.StatusUnsupportedMediaType)
	}
	for _, r := range routesOf(t, g.server) {
		if r.method != http.MethodGet {
			if got, err := g.announce(r.method, r.example(), 10<<20, ""); err != nil || got != http.StatusRequestEntityTooLarge {
				t.Errorf("%s with ten megabytes: %d, %v", r, got, err)
			}
		}
	}
	g.untouched()
	// Nobody has to send a body that says nothing.
	r := g.request("POST", "/api/admin/compact", nil)
	r.Header.Set("Authorization", "Bearer "+g.tokens[Operator])
	g.do(r).want(http.StatusOK)
}

func TestLargeHeadersAndManyParameters(t *testing.T) {
	g := newRig(t, nil)
	large := g.request("GET", "/api/admin/tables", nil, "X-Large", strings.Repeat("a", 64<<10))
	if resp, err := g.client.Do(large); err == nil { // the service may hang up before it has read it all
		g.Must(resp.Body.Close())
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
	q := url.Values{}
	for i := range 1000 {
		q.Add("x", fmt.Sprint(i))
	}
	g.call(Operator, "GET", "/api/admin/tables?"+q.Encode(), nil).problem(http.StatusUnprocessableEntity)
}

// TestSlowClients: a request that never ends, and an answer that nobody takes, end. Only what is tried has little time: on a busy machine
// the rest may take longer.
func TestSlowClients(t *testing.T) {
	for name, c := range map[string]struct {
		timing Timing
		try    func(g *rig)
	}{
		"headers": {Timing{Head: 20 * time.Millisecond}, (*rig).neverEndsItsHeaders},
		"body":    {Timing{Body: 20 * time.Millisecond}, (*rig).neverEndsItsBody},
		"answer":  {Timing{Write: 20 * time.Millisecond}, (*rig).neverReads},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, func(o *Options) { o.Timing = c.timing }, "orders")
			c.try(g)
			g.untouched()
		})
	}
}

// neverEndsItsBody announces more than it sends: the service answers.
func (g *rig) neverEndsItsBody() {
	g.T.Helper()
	if status, err := g.announce("POST", "/api/admin/compact", 100, "{"); err != nil || status != http.StatusRequestTimeout {
		g.T.Errorf("%d, %v", status, err)
	}
}

// neverEndsItsHeaders begins a request, and says no more: the service hangs up.
func (g *rig) neverEndsItsHeaders() {
	conn, err := new(net.Dialer).DialContext(g.T.Context(), "tcp", strings.TrimPrefix(g.base, "http://"))
	g.Must(err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-More:")
	g.Must(err)
	if answer, err := io.ReadAll(conn); err == nil && strings.HasPrefix(string(answer), "HTTP/1.1 2") {
		g.T.Errorf("%s", answer)
	}
}

// neverReads asks again and again on one connection, and takes no answer: at some time the service cuts it.
func (g *rig) neverReads() {
	conn, err := new(net.Dialer).DialContext(g.T.Context(), "tcp", strings.TrimPrefix(g.base, "http://"))
	g.Must(err)
	defer conn.Close()
	g.Must(conn.(*net.TCPConn).SetReadBuffer(4096))
	request := "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
	for err == nil {
		_, err = io.WriteString(conn, request)
	}
	if isTimeout := net.Error(nil); errors.As(err, &isTimeout) && isTimeout.Timeout() {
		g.T.Errorf("%v", err)
	}
}

func FuzzRequests(f *testing.F) {
	for _, seed := range [][3]string{
		{"POST", "/api/admin/compact", `{"tables":["*"],"force":true}`}, {"POST", "/api/admin/compact/orders", `{"threshold":0.5}`}, {"POST", "/api/admin/restore/orders", `{"dry_run":true}`},
		{"POST", "/api/admin/restore/orders", `{"plan":"x"}`}, {"GET", "/api/admin/runs?limit=1&status=failed", ``}, {"POST", "/api/admin/session", `{"token":"tk_"}`},
		{"GET", "/api/admin/events?after=-1", ``}, {"DELETE", "/api/admin/session", `null`}, {"POST", "/api/admin/alerts/test", `{"channel":"\u0000"}`}, {"GET", "/api/admin/compactions?format=csv&since=0001-01-01T00:00:00Z", ``},
		{"PUT", "/api/admin/tables", `{}`}, {"POST", "/api/admin/jobs/x/pause", `{}`}, {"GET", "/%2e%2e/x", ``}, {"POST", "/api/admin/verify", `{"backup":"orders/20260101T000000.000Z-00000000.db.zst"}`},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	server, token := fuzzed(f)
	f.Fuzz(func(t *testing.T, method, path, body string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || u.Host != "" || !strings.HasPrefix(path, "/") {
			return
		}
		req, err := http.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		if err != nil {
			return // no method
		}
		req.Host, req.RemoteAddr = "localhost", "127.0.0.1:1"
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		server.Handler().ServeHTTP(w, req)
		if w.Code >= 500 {
			t.Errorf("%s %q %q: %d %s", method, path, body, w.Code, w.Body)
		}
		if strings.HasSuffix(w.Header().Get("Content-Type"), "json") && !json.Valid(w.Body.Bytes()) {
			t.Errorf("no JSON: %q", w.Body)
		}
	})
}

// fuzzed is an API that stays for all inputs: one table, one function, no bucket.
func fuzzed(f *testing.F) (server *Server, token string) {
	f.Helper()
	must := func(err error) {
		if err != nil {
			f.Fatal(err)
		}
	}
	dir := f.TempDir()
	db, err := sql.Open("sqlite", filepath.Join(dir, "orders.db"))
	must(err)
	_, err = db.ExecContext(f.Context(), "CREATE TABLE items (id INTEGER PRIMARY KEY)")
	must(errors.Join(err, db.Close()))
	tables, err := shelf.Open([]shelf.Source{{Path: dir}}, shelf.Options{})
	must(err)
	_, err = tables.Refresh(f.Context())
	must(err)
	past, err := history.Open(f.Context(), filepath.Join(f.TempDir(), history.File), history.Options{})
	must(err)
	keys, err := OpenKeys(f.Context(), f.TempDir(), nil)
	must(err)
	token, err = keys.AddToken(f.Context(), "fuzz", Operator)
	must(err)
	declared, err := template.Read("template.yaml", tablekeeper.Template, nil)
	must(err)
	bus := events.NewBus(events.Options{Log: past})
	runner, err := jobs.New(jobs.Config{Template: declared, History: past, Bus: bus, Functions: map[string]jobs.Function{
		"compact": adapter[compact.Event, compact.Entry]{"compact", &gate{}, compact.New(compact.Config{Shelf: tables})},
	}})
	must(err)
	scheduler, err := schedule.New(f.Context(), nil, nil, past, schedule.Options{})
	must(err)
	server, err = New(House{Runner: runner, History: past, Bus: bus, Schedules: scheduler, Shelf: tables, Fleet: health.NewWatch(tables, time.Now), Keys: keys}, Options{Assets: assets, Alerts: &fakeAlerts{}})
	must(err)
	f.Cleanup(func() {
		ctx := context.Background()
		must(errors.Join(runner.Shutdown(ctx), bus.Close(ctx), keys.Close(), past.Close()))
	})
	return server, token
}
