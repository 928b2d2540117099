package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"tablekeeper/storage/shelf"
)

// program is the bootstrap as it is deployed, but for this machine.
var program struct {
	once sync.Once
	path string
	err  error
}

// panicVariable makes this test's binary a bootstrap whose tables named boom panic.
const panicVariable = "TABLEKEEPER_TEST_PANIC"

func TestMain(m *testing.M) {
	if os.Getenv(panicVariable) != "" {
		os.Exit(serveWithPanics())
	}
	code := m.Run()
	if program.path != "" {
		_ = os.RemoveAll(filepath.Dir(program.path))
	}
	os.Exit(code)
}

type panicking struct{ place }

func (p panicking) with(ctx context.Context, name string, u use, work func(visit) error) error {
	if name == "boom" {
		var none *shelf.Shelf
		none.Tables()
	}
	return p.place.with(ctx, name, u, work)
}

func serveWithPanics() int {
	set, err := readSettings(os.Getenv)
	if err != nil {
		panic(err)
	}
	h, err := open(context.Background(), set, parts{Stdout: os.Stdout, Log: discard(), Now: time.Now})
	if err != nil {
		panic(err)
	}
	h.place = panicking{h.place}
	lambda.Start(h)
	return 0
}

func bootstrap(t *testing.T) string {
	t.Helper()
	program.once.Do(func() {
		dir, err := os.MkdirTemp("", "tablekeeper-bootstrap")
		if err != nil {
			program.err = err
			return
		}
		program.path = filepath.Join(dir, "bootstrap")
		cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "lambda.norpc", "-o", program.path, ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			program.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	return program.path
}

// lambdaHost is Lambda as a runtime sees it: the Runtime API,
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html, with one sandbox.
type lambdaHost struct {
	t      *testing.T
	server *httptest.Server
	queue  chan invocation
	cmd    *exec.Cmd
	ended  chan struct{}
	stdout *locked
	stderr *locked

	mu      sync.Mutex
	waiting map[string]chan answer
	first   time.Time // when the program first asked for work
}

type invocation struct {
	id       string
	payload  string
	deadline time.Time
}

// answer is what the program made of an invocation. Type is "" if it succeeded.
type answer struct {
	Body    string
	Type    string `json:"errorType"`
	Message string `json:"errorMessage"`
}

// locked is a buffer that is written and read at the same time.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// sandbox starts the program as a function.
func sandbox(t *testing.T, path string, env map[string]string) *lambdaHost {
	t.Helper()
	h := &lambdaHost{t: t, queue: make(chan invocation), ended: make(chan struct{}), stdout: &locked{}, stderr: &locked{}, waiting: map[string]chan answer{}}
	h.server = httptest.NewServer(h.api())
	h.cmd = exec.CommandContext(t.Context(), path)
	h.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "AWS_REGION=eu-central-1", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(h.server.URL, "http://"), "TABLEKEEPER_SCRATCH=" + filepath.Join(t.TempDir(), "scratch")}
	for name, value := range env {
		h.cmd.Env = append(h.cmd.Env, name+"="+value)
	}
	h.cmd.Stdout, h.cmd.Stderr = h.stdout, h.stderr
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = h.cmd.Wait() // it is killed
		close(h.ended)
	}()
	t.Cleanup(func() {
		h.kill()
		h.server.CloseClientConnections()
		h.server.Close()
		if t.Failed() {
			t.Logf("stderr of the function:\n%s", h.stderr)
		}
	})
	return h
}

func (h *lambdaHost) kill() {
	_ = h.cmd.Process.Kill() // it may have ended
	<-h.ended
}

func (h *lambdaHost) api() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		if h.first.IsZero() {
			h.first = time.Now()
		}
		h.mu.Unlock()
		select {
		case in := <-h.queue:
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", in.id)
			w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(in.deadline.UnixMilli(), 10))
			w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-central-1:000000000000:function:test")
			_, _ = io.WriteString(w, in.payload)
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/{outcome}", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a := answer{Body: string(body)}
		if r.PathValue("outcome") == "error" {
			if err := json.Unmarshal(body, &a); err != nil || a.Type == "" {
				a.Type = "?"
			}
		}
		h.mu.Lock()
		to := h.waiting[r.PathValue("id")]
		h.mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
		to <- a
	})
	return mux
}

// invoke gives the function an event and waits for the answer. ok is false if the process died over it.
func (h *lambdaHost) invoke(id, payload string, timeout time.Duration) (a answer, ok bool) {
	h.t.Helper()
	to := make(chan answer, 1)
	h.mu.Lock()
	h.waiting[id] = to
	h.mu.Unlock()
	select {
	case h.queue <- invocation{id, payload, time.Now().Add(timeout)}:
	case <-h.ended:
		h.t.Fatalf("the function does not run:\n%s", h.stderr)
	}
	select {
	case a = <-to:
		return a, true
	case <-h.ended:
		return a, false
	}
}

// patience is how long an invocation may take: long, since the machine may be busy.
const patience = 5 * time.Minute

// must is invoke for what succeeds.
func (h *lambdaHost) must(id, payload string) report {
	h.t.Helper()
	a, ok := h.invoke(id, payload, patience)
	if !ok || a.Type != "" {
		h.t.Fatalf("%s: %+v", payload, a)
	}
	var r report
	if err := json.Unmarshal([]byte(a.Body), &r); err != nil {
		h.t.Fatalf("%v: %s", err, a.Body)
	}
	return r
}

// fail is invoke for what fails with an error of a type, and a message that contains a text.
func (h *lambdaHost) fail(id, payload, kind, text string) {
	h.t.Helper()
	a, ok := h.invoke(id, payload, patience)
	if !ok || a.Type != kind || !strings.Contains(a.Message, text) {
		h.t.Errorf("%s: %q %q, want %q with %q: %s", payload, a.Type, a.Message, kind, text, a.Body)
	}
}
