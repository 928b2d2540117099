package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"

	"tablekeeper/functions/restore"
	"tablekeeper/infra/admin"
	"tablekeeper/infra/admin/web"
	jobevents "tablekeeper/jobs/events"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/shelf/health"
)

// front is the admin API on Lambda, and the dashboard: the routes of infra/admin that have a meaning where no process stays. Tables are what the bucket has,
// backups what the catalogue has; work goes into the queues of the other functions, and a run is what its marks say. It may delete nothing and writes no table.
type front struct {
	*handler
	header   *headers
	bus      *jobevents.Bus // nobody publishes on it
	entrance *entrance

	mu     sync.Mutex
	keys   *admin.Keys   // keeps the record of changes, of this process alone
	gate   *admin.Server // serves what takes no look at the tables: the page, and sign-in
	server *admin.Server
	remove func() error // the census of the server
	looked time.Time
}

// fresh is for how long a look at the tables holds.
const fresh = 10 * time.Second

func newFront(h *handler) *front {
	return &front{handler: h, bus: newBus(), header: &headers{known: map[string]headerOf{}}, entrance: &entrance{secrets: h.secrets, arn: h.set.TokenSecret, now: h.Now}}
}

var (
	// atGate are the routes for strangers. The page is whatever is under none of the paths that infra/admin has besides.
	atGate = regexp.MustCompile(`^(GET /healthz|(GET|POST|DELETE) /api/admin/session)$`)
	noPage = regexp.MustCompile(`^/(api|metrics|readyz|healthz|openapi\.json|20\d\d-\d\d-\d\d)(/|$)`)
	// inside are those for whoever is known.
	inside = regexp.MustCompile(`^(GET /api/admin/(fleet|tables|tables/[^/]+|tables/[^/]+/backups|runs|runs/[^/]+)|` +
		`POST /api/admin/((compact|backup|verify)(/[^/]+)?|recover/[^/]+|runs/[^/]+/retry))$`)
)

// without are the parts of infra/admin that are not served.
var without = []string{"stream", "jobs", "compactions", "recoveries", "alerts", "restore", "cancel", "log"}

func isAtGate(r *http.Request) bool {
	looked := r.Method == http.MethodGet || r.Method == http.MethodHead
	return atGate.MatchString(r.Method+" "+r.URL.Path) || looked && !noPage.MatchString(r.URL.Path)
}

// Invoke implements lambda.Handler for requests of an HTTP API (payload format 2.0).
func (f *front) Invoke(ctx context.Context, payload []byte) (out []byte, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = &crash{cause}
		}
		if err != nil {
			f.Log.Error("request failed", "reason", reasonOf(err), "error", err, "hint", hintOf(err))
			out, err = json.Marshal(refusal(http.StatusServiceUnavailable, "the admin API cannot answer now", "the function's log says why"))
		}
	}()
	var in events.APIGatewayV2HTTPRequest
	if err := json.Unmarshal(payload, &in); err != nil || in.RequestContext.HTTP.Method == "" {
		return json.Marshal(refusal(http.StatusBadRequest, "this is no request of an HTTP API", "call the address that the stack's output AdminURL names"))
	}
	answer, err := f.answer(ctx, in)
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}

func (f *front) answer(ctx context.Context, in events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
	none := events.APIGatewayV2HTTPResponse{}
	r, err := requestOf(ctx, in)
	if err != nil {
		return refusal(http.StatusBadRequest, "the request cannot be read", "send it as docs/admin-api.md has it"), nil //nolint:nilerr // it is the client's
	}
	server, refused, err := f.serverFor(ctx, r)
	if err != nil || refused != nil {
		return *cmp.Or(refused, &none), err
	}
	w := httptest.NewRecorder()
	server.Handler().ServeHTTP(w, r)
	return responseOf(w, r.Method), nil
}

// serverFor is the server that answers a request, or the refusal.
func (f *front) serverFor(ctx context.Context, r *http.Request) (*admin.Server, *events.APIGatewayV2HTTPResponse, error) {
	gate, err := f.openGate(ctx)
	if err != nil {
		return nil, nil, err
	}
	if isAtGate(r) {
		return gate, nil, nil
	}
	if !inside.MatchString(r.Method + " " + r.URL.Path) {
		no := refusal(http.StatusNotFound, "the stack does not serve this", "docs/aws.md, Admin API, has what there is")
		return nil, &no, nil
	}
	// Nobody costs more than this comparison without the token. infra/admin makes it again, and decides.
	err = f.entrance.knows(r)
	if errors.Is(err, admin.ErrUnknownToken) {
		no := refusal(http.StatusUnauthorized, "the token is missing or not known, or the session has ended",
			"sign in, or send Authorization: Bearer TOKEN; the stack's output AdminToken says how to read it")
		no.Headers["WWW-Authenticate"] = `Bearer realm="tablekeeper"`
		f.Log.Warn("wrong token", "from", r.RemoteAddr, "path", r.URL.Path)
		return nil, &no, nil
	}
	if err != nil {
		return nil, nil, err
	}
	server, err := f.open(ctx)
	return server, nil, err
}

// openGate makes the server of the page, once.
func (f *front) openGate(ctx context.Context) (*admin.Server, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gate != nil {
		return f.gate, nil
	}
	folder := filepath.Join(f.set.Scratch, "admin")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("make a folder for the admin API: %w", err)
	}
	keys, err := admin.OpenKeys(ctx, folder, f.Now)
	if err != nil {
		return nil, err
	}
	f.keys = keys
	none, err := shelf.Open(nil, shelf.Options{})
	if err == nil {
		f.gate, err = f.over(none, admin.Options{Assets: web.Assets()})
	}
	if err != nil {
		return nil, errors.Join(err, keys.Close())
	}
	return f.gate, nil
}

// open looks at the tables, if the last look is too old, and makes the API of what it finds.
func (f *front) open(ctx context.Context) (*admin.Server, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.server != nil && f.Now().Sub(f.looked) < fresh {
		return f.server, nil
	}
	s, remove, err := f.place.census(ctx, true)
	if err != nil {
		return nil, err
	}
	if o, ok := f.place.(*objects); ok {
		err = f.header.lay(ctx, o.bucket, s)
	}
	var server *admin.Server
	if err == nil {
		server, err = f.over(s, admin.Options{Build: f.gate.Build()})
	}
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	if f.remove != nil {
		err = f.remove()
	}
	f.server, f.remove, f.looked = server, remove, f.Now()
	return server, err
}

func (f *front) over(s *shelf.Shelf, opts admin.Options) (*admin.Server, error) {
	r := &runs{handler: f.handler, shelf: s}
	opts.Backups, opts.Planner, opts.Access, opts.Without = f.catalogue, noPlanner{}, f.entrance, without
	opts.Secure, opts.AnyHost, opts.Version, opts.Now, opts.Logger = true, true, toolVersion(), f.Now, f.Log
	return admin.New(admin.House{
		Runner: r, History: r, Bus: f.bus, Schedules: noSchedules{}, Shelf: s, Fleet: health.NewWatch(s, f.Now), Keys: f.keys,
	}, opts)
}

// noPlanner: restores are by hand, with sam remote invoke.
type noPlanner struct{}

func (noPlanner) Plan(context.Context, restore.Event) (restore.Plan, error) {
	return restore.Plan{}, errors.ErrUnsupported
}

// maxRequest is what infra/admin takes, and a little: it says itself that it is too much.
const maxRequest = admin.MaxBody + 1024

// requestOf is a request as net/http has it.
func requestOf(ctx context.Context, in events.APIGatewayV2HTTPRequest) (*http.Request, error) {
	body := []byte(in.Body)
	if in.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(in.Body); err != nil {
			return nil, err
		}
	}
	target := in.RawPath
	if in.RawQueryString != "" {
		target += "?" + in.RawQueryString
	}
	r, err := http.NewRequestWithContext(ctx, in.RequestContext.HTTP.Method, "https://localhost"+target, bytes.NewReader(body[:min(len(body), maxRequest)]))
	if err != nil {
		return nil, err
	}
	for name, value := range in.Headers {
		r.Header.Set(name, value)
	}
	if len(in.Cookies) > 0 {
		r.Header.Set("Cookie", strings.Join(in.Cookies, "; "))
	}
	// The gateway answers under its own names only: this is the one that the browser has asked.
	r.Host = cmp.Or(in.RequestContext.DomainName, r.Host)
	r.RemoteAddr = net.JoinHostPort(in.RequestContext.HTTP.SourceIP, "0")
	return r, nil
}

func responseOf(w *httptest.ResponseRecorder, method string) events.APIGatewayV2HTTPResponse {
	result := w.Result()
	out := events.APIGatewayV2HTTPResponse{StatusCode: result.StatusCode, Headers: map[string]string{}}
	for name, values := range result.Header {
		switch name {
		case "Set-Cookie":
			out.Cookies = values
		case "Content-Length": // the gateway counts itself
		default:
			out.Headers[name] = strings.Join(values, ", ")
		}
	}
	text := w.Body.Bytes()
	if method == http.MethodHead {
		text = nil
	}
	if out.Body = string(text); !utf8.Valid(text) {
		out.Body, out.IsBase64Encoded = base64.StdEncoding.EncodeToString(text), true
	}
	return out
}

// refusal is a problem as infra/admin has them.
func refusal(status int, detail, hint string) events.APIGatewayV2HTTPResponse {
	body, _ := json.Marshal(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail, "hint": hint}) // strings
	return events.APIGatewayV2HTTPResponse{StatusCode: status, Body: string(body), Headers: map[string]string{
		"Content-Type": "application/problem+json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
	}}
}

// headers knows how the tables begin: sizes and free pages are in the first 100 bytes, https://sqlite.org/fileformat2.html#the_database_header.
type headers struct {
	known map[string]headerOf // by key
}

type headerOf struct {
	etag string
	text []byte
}

const headerSize = 100

// lay gives the files of a census the size and the beginning of the tables that they stand for. A table that has changed is asked for its beginning.
func (h *headers) lay(ctx context.Context, tables bucket.Bucket, s *shelf.Shelf) error {
	there := map[string]bucket.Info{}
	for info, err := range tables.List(ctx, "", "") {
		if err != nil {
			return fmt.Errorf("list the tables: %w", err)
		}
		there[info.Key] = info
	}
	var (
		mu   sync.Mutex
		errs []error
		wg   sync.WaitGroup
	)
	next := map[string]headerOf{}
	slots := make(chan struct{}, readers)
	for _, t := range s.Tables() {
		info, ok := there[filepath.Base(t.Path)]
		if !ok {
			continue // it is missed
		}
		before := h.known[info.Key]
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var err error
			if before.etag != info.ETag || info.ETag == "" {
				before, err = headerIn(ctx, tables, info)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return // it has just gone
			}
			if err == nil {
				err = sparse(t.Path, before.text, info.Size)
			}
			mu.Lock()
			defer mu.Unlock()
			next[info.Key] = before
			errs = append(errs, err)
		})
	}
	wg.Wait()
	h.known = next
	return errors.Join(errs...)
}

func headerIn(ctx context.Context, tables bucket.Bucket, info bucket.Info) (headerOf, error) {
	body, err := tables.Get(ctx, info.Key, 0, headerSize)
	if err != nil {
		return headerOf{}, fmt.Errorf("look at %s: %w", info.Key, err)
	}
	text, err := io.ReadAll(io.LimitReader(body, headerSize))
	return headerOf{info.ETag, text}, errors.Join(err, body.Close())
}

// sparse makes a file of a size that takes no room.
func sparse(path string, beginning []byte, size int64) error {
	return errors.Join(os.WriteFile(path, beginning, 0o600), os.Truncate(path, size))
}
