package alerts

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// nameServer answers questions for IPv4 addresses with the given ones in turn, and again and again with the last one. It is
// what the program's resolver asks until the test ends.
func nameServer(t *testing.T, answers ...netip.Addr) (asked *atomic.Int64) {
	t.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked = new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return // closed
			}
			var m dnsmessage.Message
			if err := m.Unpack(buffer[:n]); err != nil || len(m.Questions) != 1 {
				t.Errorf("a question that is none: %v", err)
				continue
			}
			reply, err := answer(m, asked, answers)
			if err != nil {
				t.Error(err)
				continue
			}
			if _, err := conn.WriteTo(reply, from); err != nil {
				t.Error(err)
			}
		}
	}()
	usual := net.DefaultResolver
	dialer := new(net.Dialer)
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = usual
		_ = conn.Close() // ends the goroutine
		<-done
	})
	return asked
}

func answer(m dnsmessage.Message, asked *atomic.Int64, answers []netip.Addr) ([]byte, error) {
	m.Response, m.Additionals = true, nil
	if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
		turn := min(asked.Add(1), int64(len(answers)))
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
			Body:   &dnsmessage.AResource{A: answers[turn-1].As4()},
		}}
	}
	return m.Pack()
}

// A name that leads to the public internet for whoever looks first, and to this machine when it is dialled.
func TestANameThatChangesItsMindIsRefused(t *testing.T) {
	var reached atomic.Bool
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer target.Close()
	_, port, err := net.SplitHostPort(target.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	asked := nameServer(t, netip.MustParseAddr("1.1.1.1"), netip.MustParseAddr("127.0.0.1"))
	const name = "hooks.example."
	first, err := net.DefaultResolver.LookupNetIP(t.Context(), "ip4", name)
	if err != nil || len(first) != 1 || !public(first[0]) {
		t.Fatalf("the first look gives %v, %v", first, err)
	}
	hook := webhook{client: guardedClient(false, time.Minute), url: "http://" + name + ":" + port, now: time.Now}
	if err := hook.post(t.Context(), "1", nil); !errors.Is(err, ErrPrivateAddress) {
		t.Errorf("%v", err)
	}
	if asked.Load() < 2 || reached.Load() {
		t.Errorf("the name was asked for %d times, the target reached: %v", asked.Load(), reached.Load())
	}
	// What refuses is the guard, and not that the name leads nowhere.
	hook.client = guardedClient(true, time.Minute)
	if err := hook.post(t.Context(), "2", nil); err != nil || !reached.Load() {
		t.Errorf("allowed: %v, the target reached: %v", err, reached.Load())
	}
}
