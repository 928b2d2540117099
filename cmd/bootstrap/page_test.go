package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"tablekeeper/infra/admin"
	"tablekeeper/storage/bucket/buckettest"
	"tablekeeper/storage/needtest"
)

const domain = "x.execute-api.eu-central-1.amazonaws.com"

// visitWith is a request of a browser, with the cookies as the gateway hands them over.
func visitWith(method, path, body string, headers map[string]string, cookies ...string) events.APIGatewayV2HTTPRequest {
	r := events.APIGatewayV2HTTPRequest{Version: "2.0", RawPath: path, Body: body, Cookies: cookies, Headers: map[string]string{"host": domain, "content-type": "application/json"}}
	for name, value := range headers {
		r.Headers[name] = value
	}
	r.RequestContext.HTTP.Method, r.RequestContext.HTTP.SourceIP, r.RequestContext.DomainName = method, "2001:db8::7", domain
	return r
}

func (h *lambdaHost) answers(status int, r events.APIGatewayV2HTTPRequest) events.APIGatewayV2HTTPResponse {
	h.t.Helper()
	out := h.sends(r)
	if out.StatusCode != status {
		h.t.Fatalf("%s %s: %d %.500s, want %d", r.RequestContext.HTTP.Method, r.RawPath, out.StatusCode, out.Body, status)
	}
	return out
}

func adminOf(w *world) *lambdaHost {
	w.keep(tokenARN, adminToken)
	return w.function("admin", "TABLEKEEPER_TOKEN_SECRET", tokenARN, "TABLEKEEPER_COMPACT_QUEUE", ownQueue, "TABLEKEEPER_BACKUP_QUEUE", ownQueue+"/backup",
		"TABLEKEEPER_VERIFY_QUEUE", ownQueue+"/verify")
}

func TestPageOnLambda(t *testing.T) {
	w, g := onStore(t, buckettest.StartMinIO(t), "s3")
	w.Make("app", 50)
	w.upload("app")
	api := adminOf(w)

	t.Run("the page is for everybody, and asks nobody", func(t *testing.T) {
		for path, kind := range map[string]string{"/": "text/html", "/runs": "text/html", "/tables/app": "text/html", "/app.js": "text/javascript", "/app.css": "text/css", "/manifest.webmanifest": "application/manifest+json"} {
			out := api.answers(http.StatusOK, visitWith("GET", path, "", nil))
			policy := out.Headers["Content-Security-Policy"]
			if !strings.HasPrefix(out.Headers["Content-Type"], kind) || !strings.Contains(policy, "default-src 'none'; script-src 'self'") || !strings.Contains(policy, "require-trusted-types-for 'script'") ||
				out.Headers["Strict-Transport-Security"] == "" || out.Headers["X-Frame-Options"] != "DENY" || out.Body == "" {
				t.Errorf("%s: %v", path, out.Headers)
			}
		}
		packed := api.answers(http.StatusOK, visitWith("GET", "/app.js", "", map[string]string{"accept-encoding": "gzip"}))
		body, err := base64.StdEncoding.DecodeString(packed.Body)
		if err != nil || !packed.IsBase64Encoded || packed.Headers["Content-Encoding"] != "gzip" || !strings.HasPrefix(string(body), "\x1f\x8b") {
			t.Errorf("%v, %v", packed.Headers, err)
		}
		api.answers(http.StatusNotModified, visitWith("GET", "/app.js", "", map[string]string{"accept-encoding": "gzip", "if-none-match": packed.Headers["Etag"]}))
		if head := api.answers(http.StatusOK, visitWith("HEAD", "/", "", nil)); head.Body != "" {
			t.Errorf("%q", head.Body)
		}
		if len(g.seen) != 0 {
			t.Errorf("the store was asked %d times", len(g.seen))
		}
	})

	signIn := func(token string) events.APIGatewayV2HTTPResponse {
		body, _ := json.Marshal(map[string]string{"token": token})
		return api.sends(visitWith("POST", "/api/admin/session", string(body), map[string]string{"origin": "https://" + domain, "sec-fetch-site": "same-origin"}))
	}
	t.Run("a wrong token", func(t *testing.T) {
		for range 5 {
			if out := signIn(strings.Repeat("x", 64)); out.StatusCode != http.StatusUnauthorized || len(out.Cookies) != 0 {
				t.Errorf("%+v", out)
			}
		}
		// A failure is forgiven after a few seconds: on a busy machine there have to be more.
		out := signIn(adminToken)
		for turn := 0; out.StatusCode == http.StatusOK && turn < 20; turn++ {
			for range 5 {
				signIn(strings.Repeat("x", 64))
			}
			out = signIn(adminToken)
		}
		if out.StatusCode != http.StatusTooManyRequests || out.Headers["Retry-After"] == "" || len(out.Cookies) != 0 {
			t.Errorf("%+v", out)
		}
	})
	api = adminOf(w) // another sandbox, which counts anew

	out := signIn(adminToken)
	if out.StatusCode != http.StatusOK || len(out.Cookies) != 1 {
		t.Fatalf("%+v", out)
	}
	set, err := http.ParseSetCookie(out.Cookies[0])
	w.Must(err)
	if set.Name != "__Host-tablekeeper_session" || !set.HttpOnly || !set.Secure || set.SameSite != http.SameSiteStrictMode || set.Path != "/" || set.Domain != "" ||
		set.MaxAge < 43000 || set.MaxAge > 43200 || strings.Contains(set.Value, adminToken[:8]) {
		t.Errorf("%s", out.Cookies[0])
	}
	mine := set.Name + "=" + set.Value
	k, err := knownOf(adminToken)
	w.Must(err)
	sealed := func(k known, until time.Time) string { return set.Name + "=" + k.seal(until) }

	t.Run("a session", func(t *testing.T) {
		var who struct {
			Role    string
			Expires time.Time `json:"expires_at"`
			Without []string
		}
		for _, of := range []*lambdaHost{api, adminOf(w)} { // every sandbox knows it
			answer := of.answers(http.StatusOK, visitWith("GET", "/api/admin/session", "", nil, "other=1", mine))
			w.Must(json.Unmarshal([]byte(answer.Body), &who))
			if who.Role != "operator" || time.Until(who.Expires) < 11*time.Hour || len(who.Without) != len(without) {
				t.Errorf("%+v", who)
			}
			of.answers(http.StatusOK, visitWith("GET", "/api/admin/tables", "", nil, mine))
		}
		begun := api.answers(http.StatusAccepted, visitWith("POST", "/api/admin/backup/app", "{}", map[string]string{"origin": "https://" + domain}, mine))
		api.answers(http.StatusOK, visitWith("GET", begun.Headers["Location"], "", nil, mine))
	})
	t.Run("no session", func(t *testing.T) {
		other, err := knownOf(strings.Repeat("another token ", 4))
		w.Must(err)
		flipped := []byte(set.Value)
		flipped[3] ^= 1
		later := k.seal(time.Now().Add(24 * time.Hour))
		for name, cookie := range map[string]string{
			"expired": sealed(k, time.Now().Add(-time.Second)), "of another token": sealed(other, time.Now().Add(time.Hour)), "tampered": set.Name + "=" + string(flipped),
			"prolonged": set.Name + "=" + later[:10] + set.Value[10:], "cut": mine[:len(mine)-2], "longer": mine + "AAAA", "empty": set.Name + "=", "the token": set.Name + "=" + adminToken, "another name": "tablekeeper_session=" + set.Value,
		} {
			for _, path := range []string{"/api/admin/session", "/api/admin/tables"} {
				if out := api.sends(visitWith("GET", path, "", nil, cookie)); out.StatusCode != http.StatusUnauthorized {
					t.Errorf("%s, %s: %+v", name, path, out)
				}
			}
		}
		api.answers(http.StatusOK, visitWith("GET", "/api/admin/session", "", nil, sealed(k, time.Now().Add(time.Minute)))) // they were refused for what they are
	})
	t.Run("another site", func(t *testing.T) {
		for _, headers := range []map[string]string{{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}} {
			api.answers(http.StatusForbidden, visitWith("POST", "/api/admin/compact/app", "{}", headers, mine))
			api.answers(http.StatusForbidden, visitWith("POST", "/api/admin/session", `{"token":"`+adminToken+`"}`, headers))
		}
	})
	t.Run("signing out", func(t *testing.T) {
		out := api.answers(http.StatusNoContent, visitWith("DELETE", "/api/admin/session", "", nil, mine))
		gone, err := http.ParseSetCookie(strings.Join(out.Cookies, ""))
		if err != nil || gone.MaxAge >= 0 || gone.Value != "" || gone.Name != set.Name || !gone.Secure {
			t.Errorf("%q, %v", out.Cookies, err)
		}
	})
	t.Run("another token ends all sessions", func(t *testing.T) {
		w.keep(tokenARN, strings.Repeat("new token ", 5))
		fresh := w.function("admin", "TABLEKEEPER_TOKEN_SECRET", tokenARN, "TABLEKEEPER_COMPACT_QUEUE", ownQueue, "TABLEKEEPER_BACKUP_QUEUE", ownQueue, "TABLEKEEPER_VERIFY_QUEUE", ownQueue)
		fresh.answers(http.StatusUnauthorized, visitWith("GET", "/api/admin/session", "", nil, mine))
	})
	if strings.Contains(api.stderr.String(), set.Value) || strings.Contains(api.stderr.String(), adminToken[:20]) {
		t.Error("the log has the token or the session")
	}
}

// A sandbox that lives on reads the secret again: a new token holds, and the sessions of the old one have ended.
func TestTokenIsReadAgain(t *testing.T) {
	c := newCloud(t)
	c.keep(tokenARN, adminToken)
	now := time.Unix(1_800_000_000, 0)
	e := &entrance{secrets: keptSecrets{c}, arn: tokenARN, now: func() time.Time { return now }}
	secret, who, err := e.SignIn(t.Context(), adminToken)
	if err != nil || !who.Expires.Equal(now.Add(sessionHolds)) {
		t.Fatal(who, err)
	}
	replaced := strings.Repeat("new token ", 5)
	c.keep(tokenARN, replaced)
	now = now.Add(tokenHolds - time.Second)
	if _, _, err := e.Session(t.Context(), secret); err != nil {
		t.Error(err)
	}
	now = now.Add(time.Second)
	if _, _, err := e.Session(t.Context(), secret); !errors.Is(err, admin.ErrUnknownToken) {
		t.Error(err)
	}
	if _, err := e.Bearer(t.Context(), adminToken); !errors.Is(err, admin.ErrUnknownToken) {
		t.Error(err)
	}
	if _, err := e.Bearer(t.Context(), strings.TrimSpace(replaced)); err != nil {
		t.Error(err)
	}
	// Nobody comes in while it cannot be read.
	now = now.Add(tokenHolds)
	c.mu.Lock()
	delete(c.secrets, tokenARN)
	c.mu.Unlock()
	if _, err := e.Bearer(t.Context(), strings.TrimSpace(replaced)); err == nil || errors.Is(err, admin.ErrUnknownToken) {
		t.Error(err)
	}
}

// keptSecrets are the secrets of a cloud, without the SDK, which a clock of our own would confuse.
type keptSecrets struct{ *cloud }

func (k keptSecrets) secret(_ context.Context, arn string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if text, ok := k.secrets[arn]; ok {
		return text, nil
	}
	return "", fs.ErrNotExist
}

// gateway is API Gateway in front of the function, as a browser sees it.
func gateway(t *testing.T, api *lambdaHost) *httptest.Server {
	t.Helper()
	var one sync.Mutex // a sandbox has one request at a time
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		in := events.APIGatewayV2HTTPRequest{Version: "2.0", RawPath: r.URL.Path, RawQueryString: r.URL.RawQuery, Body: base64.StdEncoding.EncodeToString(body), IsBase64Encoded: true, Headers: map[string]string{}}
		for name, values := range r.Header {
			in.Headers[strings.ToLower(name)] = strings.Join(values, ",")
		}
		delete(in.Headers, "cookie")
		for _, c := range r.Cookies() {
			in.Cookies = append(in.Cookies, c.Name+"="+c.Value)
		}
		in.RequestContext.HTTP.Method, in.RequestContext.HTTP.SourceIP, in.RequestContext.DomainName = r.Method, "203.0.113.7", r.Host
		one.Lock()
		defer one.Unlock()
		text, _ := json.Marshal(in)
		a, ok := api.invoke("request", string(text), patience)
		var out events.APIGatewayV2HTTPResponse
		if err := json.Unmarshal([]byte(a.Body), &out); !ok || err != nil {
			t.Errorf("%s: %+v, %v", text, a, err)
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		for name, value := range out.Headers {
			w.Header().Set(name, value)
		}
		for _, c := range out.Cookies {
			w.Header().Add("Set-Cookie", c)
		}
		w.WriteHeader(out.StatusCode)
		answer := []byte(out.Body)
		if out.IsBase64Encoded {
			answer, _ = base64.StdEncoding.DecodeString(out.Body)
		}
		_, _ = w.Write(answer) // the browser may have gone
	}))
	t.Cleanup(s.Close)
	return s
}

// The page in a real browser: infra/admin/web/tests/aws.mjs. With TABLEKEEPER_SCREENSHOTS=FOLDER it leaves there how the pages look.
func TestPageInABrowser(t *testing.T) {
	web := "../../infra/admin/web"
	_, noNode := exec.LookPath("node")
	_, noBrowser := exec.LookPath("chromium")
	_, noModules := os.Stat(filepath.Join(web, "node_modules"))
	if err := errors.Join(noNode, noBrowser, noModules); err != nil {
		needtest.Missing(t, err)
	}
	w := newWorld(t)
	w.sparse("app", 300)
	w.Make("other", 50)
	w.upload("other")
	w.function("backup").must("1", `{"tables":["app","other"]}`)
	// The worker of backups, for what the page has sent to its queue.
	worker := w.function("backup")
	work := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if a, ok := worker.invoke("2", records(w.messages(ownQueue+"/backup"), 1), patience); !ok || a.Type != "" {
			t.Errorf("%+v", a)
		}
	}))
	defer work.Close()
	shots := os.Getenv("TABLEKEEPER_SCREENSHOTS")
	if shots != "" {
		var err error
		shots, err = filepath.Abs(shots)
		w.Must(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "tests/aws.mjs", gateway(t, adminOf(w)).URL, adminToken, work.URL, shots)
	cmd.Dir = web
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("the operator: %v", err)
	}
}
