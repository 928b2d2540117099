package admin

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// signIn begins a session and gives its cookie.
func (g *rig) signIn(as Role) *http.Cookie {
	g.T.Helper()
	got := g.do(g.request("POST", "/api/admin/session", map[string]string{"token": g.tokens[as]})).want(http.StatusOK)
	return got.Cookies()[0]
}

func (g *rig) withCookie(c *http.Cookie, method, path string, header ...string) result {
	g.T.Helper()
	r := g.request(method, path, nil, header...)
	r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
	return g.do(r)
}

func TestSession(t *testing.T) {
	g := newRig(t, nil, "orders")
	c := g.signIn(Viewer)
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Secure || c.MaxAge <= 0 || strings.Contains(c.Value, g.tokens[Viewer]) {
		t.Errorf("cookie %+v", c)
	}
	who := g.withCookie(c, "GET", "/api/admin/session").want(http.StatusOK).object()
	if who["role"] != "viewer" || who["build"] != "build-1" || who["expires_at"] == nil {
		t.Errorf("%v", who)
	}
	g.withCookie(c, "POST", "/api/admin/compact").problem(http.StatusForbidden)
	g.withCookie(c, "GET", "/api/admin/tables").want(http.StatusOK)
	t.Run("rotation", func(t *testing.T) {
		g.pass(sessionRotate + time.Minute)
		got := g.withCookie(c, "GET", "/api/admin/tables").want(http.StatusOK)
		fresh := got.Cookies()[0]
		if fresh.Value == c.Value {
			t.Fatal("the secret stays the same")
		}
		if again := g.withCookie(c, "GET", "/api/admin/tables").want(http.StatusOK); len(again.Cookies()) > 0 {
			t.Error("a request that was on its way rotates again")
		}
		g.pass(sessionGrace + time.Second)
		g.withCookie(c, "GET", "/api/admin/tables").problem(http.StatusUnauthorized)
		g.withCookie(fresh, "GET", "/api/admin/tables").want(http.StatusOK)
		c = fresh
	})
	t.Run("logout", func(t *testing.T) {
		gone := g.withCookie(c, "DELETE", "/api/admin/session").want(http.StatusNoContent)
		if gone.Cookies()[0].MaxAge >= 0 || gone.Cookies()[0].Value != "" {
			t.Errorf("cookie %+v", gone.Cookies()[0])
		}
		g.withCookie(c, "GET", "/api/admin/tables").problem(http.StatusUnauthorized)
	})
}

func TestSessionEnds(t *testing.T) {
	g := newRig(t, nil)
	idle, busy, revoked := g.signIn(Viewer), g.signIn(Operator), g.signIn(Operator)
	g.Must(g.keys.RevokeToken(t.Context(), "the-viewer"))
	g.withCookie(idle, "GET", "/api/admin/session").problem(http.StatusUnauthorized)
	for range int(sessionWhole / sessionIdle * 2) {
		g.pass(sessionIdle / 2)
		got := g.withCookie(busy, "GET", "/api/admin/session")
		if got.StatusCode != http.StatusOK {
			if g.clock().Sub(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)) < sessionWhole {
				t.Fatalf("a session in use ended: %s", got.body)
			}
			break
		}
		if fresh := got.Cookies(); len(fresh) > 0 {
			busy = fresh[0]
		}
	}
	g.withCookie(busy, "GET", "/api/admin/session").problem(http.StatusUnauthorized)
	g.withCookie(revoked, "GET", "/api/admin/session").problem(http.StatusUnauthorized)
}

func TestSecureCookie(t *testing.T) {
	g := newRig(t, func(o *Options) { o.Secure = true })
	c := g.signIn(Operator)
	if c.Name != "__Host-tablekeeper_session" || !c.Secure || c.Path != "/" || c.Domain != "" {
		t.Errorf("cookie %+v", c)
	}
	g.withCookie(c, "GET", "/api/admin/session").want(http.StatusOK)
	g.withCookie(&http.Cookie{Name: "tablekeeper_session", Value: c.Value}, "GET", "/api/admin/session").problem(http.StatusUnauthorized)
	g.withCookie(c, "DELETE", "/api/admin/session").want(http.StatusNoContent)
	g.withCookie(c, "GET", "/api/admin/session").problem(http.StatusUnauthorized)
}

// TestSignInLimit: nothing that a client writes into its request makes the limit forget it.
func TestSignInLimit(t *testing.T) {
	g := newRig(t, nil)
	headers := []string{"X-Forwarded-For", "Forwarded", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP", "User-Agent", "Via"}
	try := func(token string, i int) result {
		r := g.request("POST", "/api/admin/session", map[string]string{"token": token}, headers[i%len(headers)], "203.0.113."+string(rune('0'+i%10)))
		r.AddCookie(&http.Cookie{Name: "tablekeeper_session", Value: string(rune('a' + i%26))})
		return g.do(r)
	}
	for i := range freeFailures {
		try("tk_wrong", i).problem(http.StatusUnauthorized)
	}
	for i := range 20 {
		got := try("tk_wrong", i)
		got.problem(http.StatusTooManyRequests)
		if got.Header.Get("Retry-After") == "" {
			t.Error("it does not say when to try again")
		}
	}
	try(g.tokens[Operator], 0).problem(http.StatusTooManyRequests)
	// A program with a right token is not kept out by it, and being turned away costs no further time.
	g.call(Operator, "GET", "/api/admin/session", nil).want(http.StatusOK)
	g.pass(2 * freeFailures * failureCost)
	try(g.tokens[Operator], 0).want(http.StatusOK)
}

func TestFailures(t *testing.T) {
	f, now := newFailures(), time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	a, b, c := peerOf("192.0.2.1:1000"), peerOf("[2001:db8::1]:1"), peerOf("[2001:db8::2]:2")
	if b != c || a == b || peerOf("[::ffff:192.0.2.1]:9") != a || peerOf("@") != peerOf("") {
		t.Error("peers are not told apart as they should")
	}
	for range freeFailures {
		if f.wait(a, now) > 0 {
			t.Fatal("made to wait too early")
		}
		f.add(a, now)
	}
	if f.wait(a, now) <= 0 || f.wait(b, now) > 0 {
		t.Error("the wrong one waits")
	}
	for range 1000 {
		f.add(a, now)
	}
	if wait := f.wait(a, now); wait > time.Minute {
		t.Errorf("waits %v", wait)
	}
	for i := range 2 * maxPeers {
		f.add(peerOf(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255)), now)
	}
	if len(f.peers) > maxPeers {
		t.Errorf("%d peers are remembered", len(f.peers))
	}
}
