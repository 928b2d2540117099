package admin

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestPage(t *testing.T) {
	g := newRig(t, nil)
	for _, path := range []string{"/", "/tables/orders", "/runs/0198", "/index.html"} {
		got := g.call("", "GET", path, nil, "Accept-Encoding", "identity").want(http.StatusOK)
		if string(got.body) != string(assets["index.html"].Data) || !strings.HasPrefix(got.Header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: %s", path, got.body)
		}
	}
	got := g.call("", "GET", "/app.js", nil, "Accept-Encoding", "gzip").want(http.StatusOK)
	z, err := gzip.NewReader(bytes.NewReader(got.body))
	g.Must(err)
	if plain, err := io.ReadAll(z); err != nil || string(plain) != string(assets["app.js"].Data) || got.Header.Get("Content-Encoding") != "gzip" || !strings.HasPrefix(got.Header.Get("Content-Type"), "text/javascript") {
		t.Errorf("%v %v", got.Header, err)
	}
	tag := got.Header.Get("ETag")
	if again := g.call("", "GET", "/app.js", nil, "Accept-Encoding", "gzip", "If-None-Match", tag).want(http.StatusNotModified); len(again.body) > 0 {
		t.Errorf("%s", again.body)
	}
	g.call("", "GET", "/missing.js", nil).problem(http.StatusNotFound)
	g.call("", "POST", "/", "{}").problem(http.StatusMethodNotAllowed)
	if head := g.call("", "HEAD", "/", nil).want(http.StatusOK); len(head.body) > 0 {
		t.Error("HEAD has a body")
	}
}

func TestHeaders(t *testing.T) {
	g := newRig(t, nil)
	for _, path := range []string{"/", "/api/admin/tables", "/healthz", "/api/nothing", "/metrics"} {
		h := g.call("", "GET", path, nil).Header
		if h.Get("Content-Security-Policy") != policy || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %v", path, h)
		}
		if path != "/" && h.Get("Cache-Control") != "no-store" && path != "/metrics" {
			t.Errorf("%s may be kept: %v", path, h)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Error("the policy is not strict")
	}
	if strict := newRig(t, func(o *Options) { o.Secure = true }).call("", "GET", "/", nil).Header.Get("Strict-Transport-Security"); strict == "" {
		t.Error("a browser may come back without TLS")
	}
}

func TestPlainRoutes(t *testing.T) {
	g := newRig(t, nil)
	if got := g.call("", "GET", "/healthz", nil).want(http.StatusOK).object(); got["status"] != "ok" {
		t.Errorf("%v", got)
	}
	g.call("", "GET", "/readyz", nil).want(http.StatusOK)
	described := g.call("", "GET", "/openapi.json", nil).want(http.StatusOK).object()
	if described["openapi"] != "3.1.0" || described["paths"].(map[string]any)["/api/admin/restore/{table}"] == nil {
		t.Errorf("%.300v", described)
	}
	schemas := described["components"].(map[string]any)["schemas"].(map[string]any)
	if _, ok := schemas["ErrorModel"].(map[string]any)["properties"].(map[string]any)["hint"]; !ok {
		t.Error("the hint of a problem is not described")
	}
	if p := g.call(Operator, "PUT", "/api/admin/tables", "{}"); p.problem(http.StatusMethodNotAllowed).Status != 405 || p.Header.Get("Allow") != "GET" {
		t.Errorf("%v", p.Header)
	}
	g.call(Operator, "GET", "/api/admin/nothing", nil).problem(http.StatusNotFound)
	g.call(Operator, "POST", "/api/", "{}").problem(http.StatusNotFound)
}

func TestPanicsAreContained(t *testing.T) {
	g := newRig(t, func(o *Options) {
		o.Metrics = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oh") })
	})
	g.call(Operator, "GET", "/metrics", nil).problem(http.StatusInternalServerError)
	g.call("", "GET", "/healthz", nil).want(http.StatusOK)
	if !strings.Contains(g.log.String(), "request panicked") {
		t.Error("nobody is told")
	}
}
