package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	jobevents "tablekeeper/jobs/events"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/shelf/health"
)

// front is the admin API on Lambda: the routes of infra/admin that have a meaning where no process stays. Tables are what the bucket has, backups what the
// catalogue has; work goes into the queues of the other functions, and a run is what its marks say. It may delete nothing and writes no table.
type front struct {
	*handler
	header *headers
	bus    *jobevents.Bus // nobody publishes on it

	mu       sync.Mutex
	token    [sha256.Size]byte // of the secret; zero before it is read
	keys     *admin.Keys
	internal string // what infra/admin knows the bearer of the secret by, in this process alone
	server   *admin.Server
	remove   func() error // the census of the server
	looked   time.Time
}

// fresh is for how long a look at the tables holds.
const fresh = 10 * time.Second

func newFront(h *handler) *front {
	return &front{handler: h, bus: newBus(), header: &headers{known: map[string]headerOf{}}}
}

// served are the routes there are.
var served = regexp.MustCompile(`^(GET /healthz|GET /api/admin/(fleet|tables|tables/[^/]+|tables/[^/]+/backups|runs/[^/]+)|` +
	`POST /api/admin/(compact|backup|verify)(/[^/]+)?|POST /api/admin/recover/[^/]+)$`)

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
	if !served.MatchString(r.Method + " " + r.URL.Path) {
		return refusal(http.StatusNotFound, "the stack does not serve this", "docs/aws.md, Admin API, has what there is"), nil
	}
	// Nobody costs more than this comparison without the token.
	known, err := f.knows(ctx, r)
	if err != nil {
		return none, err
	}
	if !known && r.URL.Path != "/healthz" {
		refused := refusal(http.StatusUnauthorized, "the token is missing or not known", "send Authorization: Bearer TOKEN; the stack's output AdminToken says how to read it")
		refused.Headers["WWW-Authenticate"] = `Bearer realm="tablekeeper"`
		f.Log.Warn("wrong token", "from", in.RequestContext.HTTP.SourceIP, "path", r.URL.Path)
		return refused, nil
	}
	server, err := f.open(ctx)
	if err != nil {
		return none, err
	}
	w := httptest.NewRecorder()
	server.Handler().ServeHTTP(w, r)
	return responseOf(w), nil
}

// knows lets the holder of the secret be known to infra/admin.
func (f *front) knows(ctx context.Context, r *http.Request) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keys == nil {
		if err := f.readToken(ctx); err != nil {
			return false, err
		}
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(given)))
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(sum[:], f.token[:]) != 1 {
		return false, nil
	}
	r.Header.Set("Authorization", "Bearer "+f.internal)
	return true, nil
}

// shortest is how many characters a token has at least: one that somebody has set by hand must not be guessed.
const shortest = 32

func (f *front) readToken(ctx context.Context) error {
	text, err := f.secrets.secret(ctx, f.set.TokenSecret)
	if err != nil {
		return err
	}
	if text = strings.TrimSpace(text); len(text) < shortest {
		return fmt.Errorf("the admin token has %d characters, and %d are needed", len(text), shortest)
	}
	folder := filepath.Join(f.set.Scratch, "admin")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("make a folder for the admin API: %w", err)
	}
	keys, err := admin.OpenKeys(ctx, folder, f.Now)
	if err != nil {
		return err
	}
	f.internal, err = keys.AddToken(ctx, string(admin.Operator), admin.Operator)
	if err != nil {
		return errors.Join(err, keys.Close())
	}
	f.keys, f.token = keys, sha256.Sum256([]byte(text))
	return nil
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
		server, err = f.over(s)
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

func (f *front) over(s *shelf.Shelf) (*admin.Server, error) {
	r := &runs{handler: f.handler, shelf: s}
	return admin.New(admin.House{
		Runner: r, History: r, Bus: f.bus, Schedules: noSchedules{}, Shelf: s, Fleet: health.NewWatch(s, f.Now), Keys: f.keys,
	}, admin.Options{Backups: f.catalogue, Planner: noPlanner{}, Secure: true, Version: toolVersion(), Now: f.Now, Logger: f.Log})
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
	// The gateway answers under its own name only, so that none has to be checked here.
	r, err := http.NewRequestWithContext(ctx, in.RequestContext.HTTP.Method, "https://localhost"+target, bytes.NewReader(body[:min(len(body), maxRequest)]))
	if err != nil {
		return nil, err
	}
	for name, value := range in.Headers {
		r.Header.Set(name, value)
	}
	r.RemoteAddr = in.RequestContext.HTTP.SourceIP + ":0"
	return r, nil
}

func responseOf(w *httptest.ResponseRecorder) events.APIGatewayV2HTTPResponse {
	result := w.Result()
	out := events.APIGatewayV2HTTPResponse{StatusCode: result.StatusCode, Headers: map[string]string{}}
	for name, values := range result.Header {
		if name == "Set-Cookie" {
			continue // nobody can sign in here
		}
		out.Headers[name] = strings.Join(values, ", ")
	}
	text := w.Body.Bytes()
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
