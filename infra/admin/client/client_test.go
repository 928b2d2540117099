package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"tablekeeper/jobs/history"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

func TestAddresses(t *testing.T) {
	for address, ok := range map[string]bool{
		"https://keeper.example": true, "https://keeper.example:8420/": true, "http://127.0.0.1:8420": true, "http://[::1]:8420": true, "http://localhost": true,
		"http://keeper.example": false, "http://10.0.0.1": false, "http://127.0.0.1.nip.example": false, "http://localhost.example": false, "ftp://keeper.example": false,
		"keeper.example": false, "https://me:secret@keeper.example": false, "https://keeper.example/admin": false, "https://keeper.example/#token=secret": false,
		"https://keeper.example/?token=secret": false, "": false, "http://": false,
	} {
		_, err := New(Options{URL: address, Token: "t"})
		var wrong *AddressError
		if (err == nil) != ok || !ok && (!errors.As(err, &wrong) || wrong.Hint() == "" || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := New(Options{URL: "http://keeper.example", Token: "t", Insecure: true}); err != nil {
		t.Error(err)
	}
}

// serverOf is a server that answers as it is told, and a client of it.
func serverOf(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c, err := New(Options{URL: server.URL, Token: "right", Version: "v2"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", map[bool]string{true: "application/problem+json", false: "application/json"}[status >= 400])
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

// A server that cannot answer for a moment does not end the waiting.
func TestFollowWaitsForABusyServer(t *testing.T) {
	var asked atomic.Int64
	client := serverOf(t, func(w http.ResponseWriter, _ *http.Request) {
		switch asked.Add(1) {
		case 1:
			answer(w, http.StatusOK, `{"id":"1","status":"running"}`)
		case 2:
			answer(w, http.StatusServiceUnavailable, `{"status":503,"detail":"the service is shutting down"}`)
		default:
			answer(w, http.StatusOK, `{"id":"1","status":"succeeded"}`)
		}
	})
	if run, err := client.Follow(t.Context(), "1"); err != nil || run.Status != history.Succeeded {
		t.Errorf("%+v, %v", run, err)
	}
}

func TestWhoAnswersSo(t *testing.T) {
	for name, c := range map[string]struct {
		health, answer string
		status         int
		want           string
	}{
		"another version lacks the route":   {`{"status":"ok","version":"v1"}`, `{"status":404,"detail":"GET is not for this address"}`, 404, "is tablekeeper v1, this is v2"},
		"another version says other things": {`{"status":"ok","version":"v1"}`, `{"jobs":7}`, 200, "is tablekeeper v1, this is v2"},
		"the same version":                  {`{"status":"ok","version":"v2"}`, `{"status":404,"detail":"GET is not for this address"}`, 404, "the server refuses: GET"},
		"no tablekeeper":                    {`<html>`, `<html>`, 200, "does not answer as a tablekeeper does"},
		"a sign-in page":                    {``, ``, 302, "does not answer as a tablekeeper does: it answers 302"},
		"a proxy with nobody behind":        {``, `<html>`, 502, "something before it answers 502"},
	} {
		t.Run(name, func(t *testing.T) {
			client := serverOf(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/healthz":
					answer(w, 200, c.health)
				case c.status == 302:
					http.Redirect(w, r, "/login", c.status)
				case c.status == 502:
					w.WriteHeader(c.status)
				default:
					answer(w, c.status, c.answer)
				}
			})
			_, err := client.Jobs(t.Context())
			var hinted interface{ Hint() string }
			if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, &hinted) {
				t.Errorf("%v", err)
			}
		})
	}
}

// The token goes to the server that was named, and to nobody whom it names.
func TestTheTokenDoesNotTravel(t *testing.T) {
	var reached atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer other.Close()
	c := serverOf(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" && r.Header.Get("Authorization") != "Bearer right" {
			t.Errorf("%s: %q", r.URL, r.Header.Get("Authorization"))
		}
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	if _, err := c.Jobs(t.Context()); err == nil || reached.Load() {
		t.Errorf("%v, reached: %t", err, reached.Load())
	}
}

// A server that is restarted while a run is followed is waited for; the run is there again afterwards.
func TestFollowWaitsForAServerThatRestarts(t *testing.T) {
	var asked atomic.Int64
	c := serverOf(t, func(w http.ResponseWriter, _ *http.Request) {
		switch n := asked.Add(1); {
		case n == 1:
			answer(w, 200, `{"id":"r","status":"running","event":{}}`)
		case n < 4:
			w.WriteHeader(http.StatusBadGateway)
		default:
			answer(w, 200, `{"id":"r","status":"succeeded","event":{},"entries":[{"table":"a","status":"compacted"}]}`)
		}
	})
	run, err := c.Follow(t.Context(), "r")
	if err != nil || run.Status != history.Succeeded || len(run.Entries) != 1 || run.Entries[0].Status != "compacted" {
		t.Errorf("%+v, %v", run, err)
	}
}

// Whoever leaves ends the run that was begun for him.
func TestLeavingEndsTheRun(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	var ended atomic.Bool
	c := serverOf(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "POST /api/admin/compact":
			if r.Header.Get("Idempotency-Key") == "" || r.Header.Get("Prefer") != "respond-async" {
				t.Errorf("%v", r.Header)
			}
			leave() // while the server begins
			answer(w, 202, `{"run_id":"r"}`)
		case "POST /api/admin/runs/r/cancel":
			ended.Store(true)
			answer(w, 202, `{}`)
		default:
			answer(w, 200, `{"id":"r","status":"running","event":{}}`)
		}
	})
	id, err := c.Start(ctx, Work{Function: "compact"})
	if err != nil || id != "r" {
		t.Fatalf("%q, %v", id, err)
	}
	if _, err := c.Follow(ctx, id); !errors.Is(err, context.Canceled) || !ended.Load() {
		t.Errorf("%v, ended: %t", err, ended.Load())
	}
}

func TestNobodyListens(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	c, err := New(Options{URL: server.URL, Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	var away *UnreachableError
	if _, err := c.Tables(t.Context()); !errors.As(err, &away) || away.Hint() == "" {
		t.Errorf("%v", err)
	}
	encrypted := httptest.NewTLSServer(http.NotFoundHandler())
	defer encrypted.Close()
	if c, err = New(Options{URL: encrypted.URL, Token: "t"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Tables(t.Context()); !errors.As(err, &away) || !strings.Contains(away.Hint(), "SSL_CERT_FILE") {
		t.Errorf("%v", err)
	}
}

func TestWorkWithoutARunIsNoAnswer(t *testing.T) {
	c := serverOf(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, `{}`) })
	var strange *StrangerError
	if _, err := c.Invoke(t.Context(), Work{Function: "sweep", Event: Raw(json.RawMessage(`{}`))}); !errors.As(err, &strange) {
		t.Errorf("%v", err)
	}
}
