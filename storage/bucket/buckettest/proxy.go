package buckettest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tablekeeper/storage/bucket"
)

// wire is a way in which an exchange with an S3 server goes wrong.
type wire int

const (
	clean     wire = iota
	busy           // 503 SlowDown, nothing done
	dropped        // the connection is closed, nothing done
	lostReply      // it is done, and the connection is closed
	cutBody        // the answer breaks off in its middle
	shortBody      // the answer ends in its middle, with a length that says so
	lie            // PUT: 200, nothing done
	okError        // PUT and POST: 200 with an error for a body, nothing done
	wires
)

var wireNames = [...]string{"clean", "busy", "dropped", "lost reply", "cut body", "short body", "lie", "200 with an error"}

// proxy stands before a server and spoils one exchange.
type proxy struct {
	forward *httputil.ReverseProxy

	mu  sync.Mutex
	log []exchange // so far
	at  int        // which to spoil
	how wire       // and how
}

// exchange is a request by its method and address.
type exchange struct{ method, address string }

// spoils is whether a fault does anything to an exchange.
func (w wire) spoils(e exchange) bool {
	switch w {
	case lie:
		return e.method == http.MethodPut
	case okError:
		return e.method == http.MethodPut || e.method == http.MethodPost
	case cutBody, shortBody:
		return e.method == http.MethodGet || e.method == http.MethodPost
	default:
		return true
	}
}

// startProxy returns a proxy and its URL.
func startProxy(t *testing.T, s *Server) (*proxy, string) {
	target, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{forward: &httputil.ReverseProxy{
		// The Host header is in the signature, so it stays that of the proxy.
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, r.In.Host
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { w.WriteHeader(http.StatusBadGateway) },
	}}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	return p, server.URL
}

// spoil sets what goes wrong next, counted from now, and returns the exchanges until now.
func (p *proxy) spoil(n int, how wire) []exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	log := p.log
	p.log, p.at, p.how = nil, n, how
	return log
}

func (p *proxy) next(r *http.Request) wire {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, exchange{r.Method, r.URL.RequestURI()})
	if len(p.log)-1 == p.at && p.how.spoils(p.log[p.at]) {
		return p.how
	}
	return clean
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	how := p.next(r)
	switch how {
	case clean:
		p.forward.ServeHTTP(w, r)
	case busy:
		_, _ = io.Copy(io.Discard, r.Body) // the client may have gone
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>")
	case lie:
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
	case okError:
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, "<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>")
	case dropped:
		panic(http.ErrAbortHandler)
	default:
		p.spoilAnswer(w, r, how)
	}
}

func (p *proxy) spoilAnswer(w http.ResponseWriter, r *http.Request, how wire) {
	answer := httptest.NewRecorder()
	p.forward.ServeHTTP(answer, r)
	body := answer.Body.Bytes()
	if how == lostReply || len(body) == 0 && how == cutBody {
		panic(http.ErrAbortHandler)
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	if r.Method != http.MethodHead {
		length := len(body)
		if how == shortBody {
			length /= 2
		}
		w.Header().Set("Content-Length", strconv.Itoa(length))
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(body[:len(body)/2])
	if how == cutBody {
		_ = http.NewResponseController(w).Flush() // what follows ends the connection
		panic(http.ErrAbortHandler)
	}
}

// RunWire spoils one HTTP exchange after the other, in every way, under the whole of an object's life. What can be tried again is; what cannot is
// an error; and never is half an object there, or an unfinished upload left.
func RunWire(t *testing.T, s *Server, scheme string, open OpenFunc) {
	if Race {
		t.Skip("many uploads: in the pass without the race detector")
	}
	p, endpoint := startProxy(t, s)
	through := *s
	through.Endpoint = endpoint
	opts := s.Options()
	opts.Backoff = bucket.Backoff{First: time.Millisecond, Max: 5 * time.Millisecond}
	w := &wireTest{s: s, p: p, name: s.NewBucket(t), small: random(1, 1000), large: random(2, 6<<20), open: func(prefix string) bucket.Bucket {
		b, err := open(t.Context(), through.URL(t, scheme, prefix), opts)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}, patience: bucket.SteadyOptions{Backoff: opts.Backoff}}
	exchanges := w.run(t, -1, clean, exchange{})
	for how := busy; how < wires; how++ {
		for n, e := range exchanges {
			if how.spoils(e) {
				w.run(t, n, how, e)
			}
		}
	}
	t.Logf("%d exchanges", len(exchanges))
}

type wireTest struct {
	s            *Server
	p            *proxy
	name         string
	runs         int
	small, large []byte
	open         func(prefix string) bucket.Bucket
	patience     bucket.SteadyOptions
}

// run does the work once, with exchange n spoiled, and checks what is there afterwards.
func (w *wireTest) run(t *testing.T, n int, how wire, e exchange) []exchange {
	w.runs++
	b := w.open(fmt.Sprintf("%s/run%d", w.name, w.runs))
	w.p.spoil(n, how)
	failed := w.work(t, bucket.Steady(b, w.patience))
	log := w.p.spoil(-1, clean)
	what := fmt.Sprintf("%s of exchange %d (%s %s)", wireNames[how], n, e.method, e.address)
	for key, want := range map[string][]byte{"small": w.small, "large": w.large} {
		got, err := content(t, b, key)
		if err == nil && !bytes.Equal(got, want) && !errors.Is(failed, bucket.ErrNotStored) {
			t.Errorf("%s: %v, and %s has %d other bytes", what, failed, key, len(got))
		}
		if failed == nil && err != nil {
			t.Errorf("%s: no error, and %s: %v", what, key, err)
		}
	}
	if how <= cutBody && failed != nil {
		t.Errorf("%s is not mended: %v", what, failed)
	}
	// Of an upload whose beginning was not heard of, nobody knows the name.
	unheard := strings.Contains(e.address, "uploads=") && how >= lostReply
	for _, upload := range w.s.Uploads(t, w.name) {
		if !unheard {
			t.Errorf("%s: left the upload %s", what, upload)
		}
		w.s.removeUpload(t, w.name, upload)
	}
	return log
}

func (w *wireTest) work(t *testing.T, b bucket.Bucket) error {
	for i, want := range [][]byte{w.small, w.large} {
		key := []string{"small", "large"}[i]
		if _, err := bucket.Put(t.Context(), b, key, bytes.NewReader(want), bucket.PutOptions{IfAbsent: true, Tags: map[string]string{"a": "b"}}); err != nil {
			return err
		}
		got, err := content(t, b, key)
		if err == nil && !bytes.Equal(got, want) {
			err = fmt.Errorf("%s: other content, and no error", key)
		}
		if err != nil {
			return err
		}
	}
	for _, err := range b.List(t.Context(), "", "") {
		if err != nil {
			return err
		}
	}
	if _, err := b.Tags(t.Context(), "small"); err != nil {
		return err
	}
	if err := b.SetTags(t.Context(), "small", map[string]string{"c": "d"}); err != nil {
		return err
	}
	if err := b.Delete(t.Context(), "other"); err != nil {
		return err
	}
	if _, err := b.Head(t.Context(), "other"); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("head of a missing object: %w", err)
	}
	return nil
}

func content(t *testing.T, b bucket.Reader, key string) ([]byte, error) {
	rc, err := b.Get(t.Context(), key, 0, -1)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(rc)
	return got, errors.Join(err, rc.Close())
}
