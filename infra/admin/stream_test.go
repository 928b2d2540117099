package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"tablekeeper/jobs/events"
)

// listen opens a stream as somebody.
// answered is how a request for a stream was answered; zero if it was not.
type answered struct {
	status int
	header http.Header
}

func (g *rig) listen(as Role, query string, header ...string) (*websocket.Conn, answered, error) {
	h := http.Header{}
	if as != "" {
		h.Set("Authorization", "Bearer "+g.tokens[as])
	}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	conn, resp, err := websocket.Dial(g.T.Context(), "ws"+strings.TrimPrefix(g.base, "http")+"/api/admin/events"+query, &websocket.DialOptions{HTTPClient: g.client, HTTPHeader: h}) //nolint:bodyclose // Dial says that it never has to be
	if err == nil {
		g.T.Cleanup(func() { _ = conn.CloseNow() })
	}
	var a answered
	if resp != nil {
		a = answered{resp.StatusCode, resp.Header}
	}
	return conn, a, err
}

func (g *rig) mustListen(query string) *websocket.Conn {
	g.T.Helper()
	conn, _, err := g.listen(Viewer, query)
	g.Must(err)
	return conn
}

// message is what a test looks at.
type message struct {
	Type     string
	Sequence int64
	Reset    bool
	Lost     int64
	Build    string
	Table    string
	N        int
	Results  []map[string]any
	At       time.Time `json:"timestamp"`
}

func next(t *testing.T, conn *websocket.Conn) message {
	t.Helper()
	_, data, err := conn.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var m message
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	return m
}

func (g *rig) publish(n int) {
	g.bus.Publish(events.Event{Type: events.Prefix + "backup_overdue", Subject: "orders", Data: json.RawMessage(fmt.Sprintf(`{"n":%d,"type":"forged","sequence":-1}`, n))})
}

func TestStreamTellsWhatHappens(t *testing.T) {
	g := newRig(t, nil, "orders")
	conn := g.mustListen("")
	if hello := next(t, conn); hello.Type != "hello" || hello.Build != "build-1" || hello.Reset {
		t.Errorf("%+v", hello)
	}
	g.call(Operator, "POST", "/api/admin/compact", nil).want(http.StatusOK)
	for {
		m := next(t, conn)
		if m.Type == "run_progress" && m.Sequence == 0 {
			continue
		}
		if m.Type != "compaction_complete" || m.Sequence == 0 || m.At.IsZero() || len(m.Results) != 1 || m.Results[0]["table"] != "orders" || m.Results[0]["status"] != "skipped" {
			t.Errorf("%+v", m)
		}
		break
	}
	g.publish(7)
	if m := next(t, conn); m.Type != "backup_overdue" || m.Table != "orders" || m.N != 7 || m.Sequence <= 0 {
		t.Errorf("the event's own data wins over what every message has: %+v", m)
	}
}

// TestResume: whoever comes back with the last sequence number gets what came after it, each once, also while more arrive.
func TestResume(t *testing.T) {
	g := newRig(t, nil)
	first := g.mustListen("")
	next(t, first)
	const all = 600 // more than a subscription holds
	for i := range all / 2 {
		g.publish(i)
	}
	var last int64
	for i := range 10 {
		m := next(t, first)
		if m.N != i {
			t.Fatalf("%+v, want %d", m, i)
		}
		last = m.Sequence
	}
	g.Must(first.CloseNow())
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for i := range all / 2 {
			g.publish(all/2 + i)
		}
	})
	again := g.mustListen(fmt.Sprintf("?after=%d", last))
	if hello := next(t, again); hello.Reset || hello.Sequence < last {
		t.Errorf("%+v", hello)
	}
	for i := 10; i < all; i++ {
		m := next(t, again)
		if m.N != i || m.Sequence <= last {
			t.Fatalf("%+v, want %d", m, i)
		}
		last = m.Sequence
	}
	publishing.Wait()
	// The same as a list.
	var list struct {
		Events      []message
		First, Last int64
		Next        int64
	}
	g.call(Viewer, "GET", "/api/admin/events?after=0&limit=1000", nil).want(http.StatusOK).into(&list)
	if len(list.Events) != all || list.Last != last || list.Next != last || list.First != list.Events[0].Sequence {
		t.Errorf("%d events, %d to %d, next %d", len(list.Events), list.First, list.Last, list.Next)
	}
	everything := g.mustListen("?after=0")
	next(t, everything)
	if m := next(t, everything); m.N != 0 {
		t.Errorf("%+v", m)
	}
	stranger := g.mustListen(fmt.Sprintf("?after=%d", last+1000))
	if hello := next(t, stranger); !hello.Reset {
		t.Errorf("%+v", hello)
	}
	g.publish(-1)
	if m := next(t, stranger); m.N != -1 {
		t.Errorf("after a reset, what is new is not told: %+v", m)
	}
}

func TestStreamRefuses(t *testing.T) {
	g := newRig(t, nil)
	for name, c := range map[string]struct {
		as     Role
		query  string
		header []string
		status int
	}{
		"nobody":         {"", "", nil, http.StatusUnauthorized},
		"an agent":       {Agent, "", nil, http.StatusForbidden},
		"another origin": {Viewer, "", []string{"Origin", "https://evil.example"}, http.StatusForbidden},
		"a null origin":  {Viewer, "", []string{"Origin", "null"}, http.StatusForbidden},
		"no number":      {Viewer, "?after=x", nil, http.StatusUnprocessableEntity},
		"below zero":     {Viewer, "?after=-1", nil, http.StatusUnprocessableEntity},
	} {
		_, a, err := g.listen(c.as, c.query, c.header...)
		if err == nil || a.status != c.status {
			t.Errorf("%s: %v, %v", name, a, err)
		}
	}
	conn, _, err := g.listen(Viewer, "", "Origin", g.base)
	g.Must(err)
	next(t, conn)
	g.Must(conn.Write(t.Context(), websocket.MessageText, []byte("hello?")))
	if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("a client that talks: %v", err)
	}
}

func TestStreamOfASlowClientEnds(t *testing.T) {
	t.Run("slow", func(t *testing.T) {
		g := newRig(t, func(o *Options) { o.Timing.Slow = time.Nanosecond })
		conn := g.mustListen("")
		next(t, conn)
		_, _, err := conn.Read(t.Context())
		var closed websocket.CloseError
		if websocket.CloseStatus(err) != websocket.StatusTryAgainLater || !errors.As(err, &closed) || !strings.Contains(closed.Reason, "resume after") {
			t.Errorf("%v", err)
		}
	})
	t.Run("stuck", func(t *testing.T) {
		g := newRig(t, func(o *Options) { o.Timing.Write = 300 * time.Millisecond })
		g.mustListen("") // and never reads
		big := json.RawMessage(`{"note":"` + strings.Repeat("x", 1<<20) + `"}`)
		for range 64 { // more than the buffers of a connection hold
			g.bus.Publish(events.Event{Type: events.RunProgress, Data: big})
		}
		for g.listeners() > 0 {
			runtime.Gosched()
		}
	})
}

func (g *rig) listeners() int {
	g.server.streams.mu.Lock()
	defer g.server.streams.mu.Unlock()
	return len(g.server.streams.ends)
}

func TestStreamEndsWithItsSession(t *testing.T) {
	g := newRig(t, func(o *Options) { o.Timing.Ping = time.Millisecond })
	conn := g.mustListen("")
	next(t, conn)
	g.Must(g.keys.RevokeToken(t.Context(), "the-viewer"))
	if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("%v", err)
	}
}

func TestStreamsEndWithTheService(t *testing.T) {
	g := newRig(t, nil)
	conn := g.mustListen("")
	next(t, conn)
	ended := make(chan error, 1)
	go func() {
		_, _, err := conn.Read(context.WithoutCancel(t.Context()))
		ended <- err
	}()
	g.server.streams.close()
	if err := <-ended; websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("%v", err)
	}
	if _, a, err := g.listen(Viewer, ""); err == nil || a.status != http.StatusServiceUnavailable {
		t.Errorf("%v", err)
	}
}

// TestStuckClientsHoldNobodyUp: clients that never read cost a bounded amount of memory, others miss nothing because of them, and when all have
// gone nothing of them is left.
func TestStuckClientsHoldNobodyUp(t *testing.T) {
	// Nobody is cut off for being slow, not the first client either, which reads nothing until all is published.
	g := newRig(t, func(o *Options) { o.Timing = Timing{Slow: time.Hour, Write: time.Hour} })
	const stuck, published, size = 8, 4000, 20_000 // 80 MB of progress
	conns := []*websocket.Conn{g.mustListen("")}
	next(t, conns[0])
	for range stuck {
		conns = append(conns, g.mustListen("")) // and never reads
	}
	over := g.bus.Subscribe(events.SubscribeOptions{Want: func(e events.Event) bool { return e.Type == events.Prefix+"backup_overdue" }})
	defer over.Close()
	before := heap()
	for i := range published {
		g.bus.Publish(events.Event{Type: events.RunProgress, Data: json.RawMessage(fmt.Sprintf(`{"note":"%d%s"}`, i, strings.Repeat("x", size)))})
		if i%1000 == 999 {
			g.publish(i)
			if _, err := over.Next(t.Context()); err != nil { // the bus has handed on what was before
				t.Fatal(err)
			}
		}
	}
	if grown := heap() - before; grown > 40<<20 {
		t.Errorf("%d bytes more are held after %d were published", grown, published*size)
	}
	if d := g.bus.Dropped(); d > 0 {
		t.Errorf("the bus dropped %d", d)
	}
	for kept := 0; kept < published/1000; {
		if m := next(t, conns[0]); m.Type == "backup_overdue" {
			kept++
			if m.N != kept*1000-1 {
				t.Fatalf("%+v", m)
			}
		}
	}
	for _, conn := range conns {
		g.Must(conn.CloseNow())
	}
	for g.listeners() > 0 || strings.Contains(stacks(), "admin.(*listener)") {
		runtime.Gosched()
	}
}

// heap is how much is reachable.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// stacks are those of all goroutines.
func stacks() string {
	b := make([]byte, 16<<20)
	return string(b[:runtime.Stack(b, true)])
}

// TestFiftyStreams: each gets every event in order; one too many is turned away.
func TestFiftyStreams(t *testing.T) {
	g := newRig(t, nil)
	const clients, messages = 50, 20
	conns := make([]*websocket.Conn, clients)
	for i := range conns {
		conns[i] = g.mustListen("")
		next(t, conns[i])
	}
	for i := range messages {
		g.publish(i)
	}
	for _, conn := range conns {
		for i := range messages {
			if m := next(t, conn); m.N != i {
				t.Fatalf("%+v, want %d", m, i)
			}
		}
	}
	for g.listeners() < maxStreams {
		next(t, g.mustListen(""))
	}
	if _, a, err := g.listen(Viewer, ""); err == nil || a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("%v", err)
	}
}
