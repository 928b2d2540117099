package alerts

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
)

// receiver is a webhook's other end. It refuses until it is up.
type receiver struct {
	*httptest.Server
	mu   sync.Mutex
	up   bool
	got  map[string]Notice // by id
	seen chan string
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{got: map[string]Notice{}, seen: make(chan string, 100)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.up {
			w.WriteHeader(http.StatusServiceUnavailable)
			r.seen <- "refused"
			return
		}
		body, err := io.ReadAll(request.Body)
		if err != nil {
			t.Error(err)
		}
		n, err := opened(Delivery{Body: body})
		if err != nil {
			t.Error(err)
		}
		r.got[request.Header.Get("Webhook-Id")] = n
		r.seen <- n.Title
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) set(up bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.up = up
}

// wait returns what the receiver saw next.
func (r *receiver) wait(t *testing.T) string {
	t.Helper()
	select {
	case title := <-r.seen:
		return title
	case <-time.After(time.Minute):
		t.Fatal("nothing came")
		return ""
	}
}

// running starts a service; stop ends it as a stop of the program would.
func running(t *testing.T, opts Options) (s *Service, stop func()) {
	t.Helper()
	s, err := New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

func newBus(t *testing.T) *events.Bus {
	t.Helper()
	log, err := history.Open(t.Context(), filepath.Join(t.TempDir(), "history.db"), history.Options{})
	if err != nil {
		t.Fatal(err)
	}
	bus := events.NewBus(events.Options{Log: log}) // what is published before anybody listens is kept
	t.Cleanup(func() {
		if err := errors.Join(bus.Close(context.Background()), log.Close()); err != nil {
			t.Error(err)
		}
	})
	return bus
}

// The receiver is down when the alert is told; the program stops meanwhile; afterwards the message arrives, once.
func TestWhatCouldNotBeDeliveredIsDeliveredAfterARestart(t *testing.T) {
	receiver, bus, folder, at := newReceiver(t), newBus(t), t.TempDir(), &steppedClock{at: start}
	opts := Options{Folder: folder, Bus: bus, Now: at.now, Timing: Timing{Gather: time.Millisecond},
		Webhooks: []Webhook{{Name: "hook", URL: receiver.URL, AllowPrivate: true}}}
	_, stop := running(t, opts)
	at.step(time.Second)
	bus.Publish(ended(t, start, "backup", [3]string{"a", "failed", "corrupt"}))
	if got := receiver.wait(t); got != "refused" {
		t.Fatalf("got %q", got)
	}
	stop()
	receiver.set(true)
	at.step(time.Hour)
	s, stop := running(t, opts)
	if got := receiver.wait(t); got != "backup fails: corrupt (a)" {
		t.Fatalf("got %q", got)
	}
	bus.Publish(ended(t, at.now(), "backup", [3]string{"a", "backed_up", ""}))
	at.step(time.Second)
	bus.Publish(events.Event{Type: tableAccepted}) // wakes the book: its clock is the test's
	if got := receiver.wait(t); got != "resolved: backup fails: corrupt" {
		t.Fatalf("got %q", got)
	}
	stop()
	if len(receiver.got) != 2 {
		t.Errorf("%d messages arrived, want 2: %+v", len(receiver.got), receiver.got)
	}
	if open := s.Open(); len(open) != 0 {
		t.Errorf("still open: %+v", open)
	}
}

// Several alerts are told while the receiver is down. When it is back each arrives, once.
func TestAllThatTheReceiverMissedArrivesOnce(t *testing.T) {
	receiver, bus, at := newReceiver(t), newBus(t), &steppedClock{at: start}
	opts := Options{Folder: t.TempDir(), Bus: bus, Now: at.now, Timing: Timing{Gather: time.Millisecond},
		Webhooks: []Webhook{{Name: "hook", URL: receiver.URL, AllowPrivate: true}}}
	_, stop := running(t, opts)
	want := map[string]bool{}
	for _, reason := range []string{"corrupt", "cancelled", "unreachable", "locked", "timeout"} {
		happened := at.now()
		at.step(100 * time.Millisecond) // too short for a second attempt
		bus.Publish(ended(t, happened, "backup", [3]string{"table-" + reason, "failed", reason}))
		if got := receiver.wait(t); got != "refused" {
			t.Fatalf("got %q", got)
		}
		want["backup fails: "+reason+" (table-"+reason+")"] = true
	}
	stop()
	receiver.set(true)
	at.step(time.Hour)
	_, stop = running(t, opts)
	for range want {
		receiver.wait(t)
	}
	stop()
	for id, n := range receiver.got {
		if !want[n.Title] {
			t.Errorf("%s: %q was not told, or twice", id, n.Title)
		}
		delete(want, n.Title)
	}
	if len(want) > 0 || len(receiver.seen) > 0 {
		t.Errorf("did not arrive: %v; arrived besides: %d", want, len(receiver.seen))
	}
}

// steppedClock moves when told to.
type steppedClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *steppedClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *steppedClock) step(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(by)
}

func TestATestMessageAndTheChannels(t *testing.T) {
	receiver := newReceiver(t)
	receiver.set(true)
	s, _ := running(t, Options{Folder: t.TempDir(), Bus: newBus(t), Webhooks: []Webhook{{URL: receiver.URL, AllowPrivate: true}}})
	if err := s.Test(t.Context(), "webhook-1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Test(t.Context(), "pager"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestBadChannelsAreRefusedAtTheStart(t *testing.T) {
	for name, opts := range map[string]Options{
		"scheme":    {Webhooks: []Webhook{{URL: "file:///etc/passwd"}}},
		"secret":    {Webhooks: []Webhook{{URL: "https://example.org", Secret: "hello"}}},
		"same name": {Webhooks: []Webhook{{Name: "a", URL: "https://example.org"}, {Name: "a", URL: "https://example.org"}}},
		"arn":       {Topics: []SNS{{TopicARN: "backups"}}},
		"heartbeat": {Heartbeats: []Heartbeat{{URL: "example.org"}}},
	} {
		opts.Folder = t.TempDir()
		if _, err := New(t.Context(), opts); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTheOutboxIsPrivate(t *testing.T) {
	folder := t.TempDir()
	_, stop := running(t, Options{Folder: folder, Bus: newBus(t), Contact: "mailto:ops@example.org"})
	info, err := os.Stat(filepath.Join(folder, "alerts.db"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	stop()
}

// A push service that decrypts as a browser would, and one whose subscription has ended.
func TestPushIsReadByTheBrowserAndForgottenWhenItIsGone(t *testing.T) {
	browser, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	auth := make([]byte, 16)
	if _, err := rand.Read(auth); err != nil {
		t.Fatal(err)
	}
	messages := make(chan pushMessage, 1)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/gone" {
			w.WriteHeader(http.StatusGone)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		var m pushMessage
		if err := json.Unmarshal(unseal(t, browser, auth, body), &m); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusCreated)
		messages <- m
	}))
	defer service.Close()

	s, _ := running(t, Options{Folder: t.TempDir(), Bus: newBus(t), Contact: "mailto:ops@example.org", PushURL: "https://keeper/", PushToPrivate: true})
	for _, path := range []string{"/here", "/gone"} {
		sub := Subscription{Endpoint: service.URL + path}
		sub.Keys.P256dh, sub.Keys.Auth = encode(browser.PublicKey().Bytes()), encode(auth)
		if err := s.Subscribe(t.Context(), sub); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Test(t.Context(), PushChannel); err != nil {
		t.Fatal(err)
	}
	if m := <-messages; m.Title != "test message" || m.URL != "https://keeper/" {
		t.Errorf("%+v", m)
	}
	left, err := s.box.subscriptions(t.Context())
	if err != nil || len(left) != 1 || left[0].Endpoint != service.URL+"/here" {
		t.Errorf("%+v %v", left, err)
	}
}

// unseal is the browser's side of RFC 8291.
func unseal(t *testing.T, key *ecdh.PrivateKey, auth, body []byte) []byte {
	t.Helper()
	salt, length := body[:16], int(body[20])
	sender, err := ecdh.P256().NewPublicKey(body[21 : 21+length])
	if err != nil {
		t.Fatal(err)
	}
	shared, err := key.ECDH(sender)
	if err != nil {
		t.Fatal(err)
	}
	derive := func(secret, salt []byte, info string, n int) []byte {
		out, err := hkdf.Key(sha256.New, secret, salt, info, n)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	secret := derive(shared, auth, "WebPush: info\x00"+string(key.PublicKey().Bytes())+string(sender.Bytes()), 32)
	block, err := aes.NewCipher(derive(secret, salt, "Content-Encoding: aes128gcm\x00", 16))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := gcm.Open(nil, derive(secret, salt, "Content-Encoding: nonce\x00", 12), body[21+length:], nil)
	if err != nil {
		t.Fatal(err)
	}
	return plain[:len(plain)-1]
}

// Nobody is told where nobody listens: that is no delivery, and trying again changes nothing.
func TestPushWithoutABrowserIsNoDelivery(t *testing.T) {
	gone := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }))
	defer gone.Close()
	s, _ := running(t, Options{Folder: t.TempDir(), Bus: newBus(t), Contact: "mailto:ops@example.org", PushToPrivate: true})
	if err := s.Test(t.Context(), PushChannel); !errors.Is(err, ErrNobody) || !final(err) {
		t.Errorf("without a browser: %v", err)
	}
	browser, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sub := Subscription{Endpoint: gone.URL}
	sub.Keys.P256dh, sub.Keys.Auth = encode(browser.PublicKey().Bytes()), encode(make([]byte, 16))
	if err := s.Subscribe(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	if err := s.Test(t.Context(), PushChannel); !errors.Is(err, ErrNobody) {
		t.Errorf("with a browser that is gone: %v", err)
	}
}

// A test message that fails says what to do.
func TestATestThatFailsHasAHint(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	unknown := httptest.NewServer(http.NotFoundHandler())
	defer unknown.Close()
	for name, c := range map[string]struct {
		hook Webhook
		want string
	}{
		"private":     {Webhook{URL: unknown.URL}, "allow_private"},
		"closed":      {Webhook{URL: closed.URL, AllowPrivate: true}, "receiver is up"},
		"wrong place": {Webhook{URL: unknown.URL, AllowPrivate: true}, "correct url:"},
		"no host":     {Webhook{URL: "http://nowhere.invalid/hook", AllowPrivate: true}, ""},
	} {
		c.hook.Name = "hook"
		s, _ := running(t, Options{Folder: t.TempDir(), Bus: newBus(t), Webhooks: []Webhook{c.hook}})
		var failure *TestError
		if err := s.Test(t.Context(), "hook"); !errors.As(err, &failure) || failure.Hint() == "" || !strings.Contains(failure.Hint(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if s.Kind("hook") != "webhook" {
			t.Errorf("kind is %q", s.Kind("hook"))
		}
	}
}
