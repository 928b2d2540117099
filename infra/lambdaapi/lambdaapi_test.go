package lambdaapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type invoker func(ctx context.Context, req Request) (Response, error)

func (f invoker) Invoke(ctx context.Context, req Request) (Response, error) { return f(ctx, req) }

func start(t *testing.T, f invoker) *Client {
	t.Helper()
	server := httptest.NewServer(NewHandler(f))
	t.Cleanup(server.Close)
	return &Client{HTTP: server.Client(), Base: server.URL}
}

func TestRoundTrip(t *testing.T) {
	var got Request
	client := start(t, func(_ context.Context, req Request) (Response, error) {
		got = req
		return Response{Payload: json.RawMessage(`{"ok":true}`), Log: bytes.Repeat([]byte("x"), 5000), ID: "run-1"}, nil
	})
	sent := Request{
		Function: "arn:aws:lambda:eu-west-1:123456789012:function:backup", Qualifier: "live", Kind: RequestResponse,
		Payload: json.RawMessage(`{"tables":["*"]}`), Tail: true, Custom: map[string]string{"actor": "root"},
	}
	resp, err := client.Invoke(t.Context(), sent)
	if err != nil {
		t.Fatal(err)
	}
	sent.Function, sent.ID = "backup", got.ID
	if diff := cmp.Diff(sent, got); diff != "" || len(got.ID) != 36 {
		t.Errorf("id %q, %s", got.ID, diff)
	}
	if string(resp.Payload) != `{"ok":true}` || resp.ID != "run-1" || len(resp.Log) != 4096 || resp.Failure != nil {
		t.Errorf("response is %+v", resp)
	}
}

func TestKinds(t *testing.T) {
	client := start(t, func(_ context.Context, req Request) (Response, error) {
		return Response{Payload: json.RawMessage(`"` + string(req.Kind) + string(req.Payload) + `"`)}, nil
	})
	for kind, want := range map[Kind]string{"": `"RequestResponse{}"`, RequestResponse: `"RequestResponse{}"`, Event: "", DryRun: ""} {
		resp, err := client.Invoke(t.Context(), Request{Function: "f", Kind: kind, Tail: true})
		if err != nil || string(resp.Payload) != want || resp.ID == "" || len(resp.Log) > 0 {
			t.Errorf("%q: %+v, %v", kind, resp, err)
		}
	}
}

func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		resp   Response
		err    error
		status int
		code   string
	}{
		"function error": {resp: Response{Failure: &FunctionError{Message: "boom", Type: "Corrupt"}}},
		"not found":      {err: NotFound("f"), status: 404, code: "ResourceNotFoundException"},
		"bad event":      {err: InvalidContent(errors.New("no")), status: 400, code: "InvalidRequestContentException"},
		"throttled":      {err: Throttled("full"), status: 429, code: "TooManyRequestsException"},
		"any other":      {err: errors.New("disk on fire"), status: 500, code: "ServiceException"},
	} {
		t.Run(name, func(t *testing.T) {
			client := start(t, func(context.Context, Request) (Response, error) { return c.resp, c.err })
			resp, err := client.Invoke(t.Context(), Request{Function: "f"})
			if c.err == nil {
				if diff := cmp.Diff(c.resp.Failure, resp.Failure); diff != "" || err != nil {
					t.Errorf("%s, %v", diff, err)
				}
				return
			}
			var refusal *Error
			if !errors.As(err, &refusal) || refusal.Status != c.status || refusal.Code != c.code || refusal.Type == "" || refusal.Message == "" {
				t.Errorf("error is %#v", err)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	handler := NewHandler(invoker(func(context.Context, Request) (Response, error) {
		t.Error("the function was called")
		return Response{}, nil
	}))
	const path = "/2015-03-31/functions/f/invocations"
	big := `"` + strings.Repeat("x", MaxAsyncPayload) + `"`
	for name, c := range map[string]struct {
		method, path, body string
		header             []string
		status             int
		code               string
	}{
		"unknown path":     {"POST", "/nowhere", "", nil, 404, "UnknownOperationException"},
		"unknown method":   {"GET", path, "", nil, 404, "UnknownOperationException"},
		"not JSON":         {"POST", path, "{", nil, 400, "InvalidRequestContentException"},
		"kind":             {"POST", path, "", []string{headerKind, "Now"}, 400, "InvalidParameterValueException"},
		"log type":         {"POST", path, "", []string{headerLogType, "All"}, 400, "InvalidParameterValueException"},
		"too large":        {"POST", path, big, []string{headerKind, "Event"}, 413, "RequestTooLargeException"},
		"context":          {"POST", path, "", []string{headerContext, "%"}, 400, "InvalidRequestContentException"},
		"context not JSON": {"POST", path, "", []string{headerContext, "AAAA"}, 400, "InvalidRequestContentException"},
		"name":             {"POST", "/2015-03-31/functions/a%2Fb/invocations", "", nil, 400, "InvalidParameterValueException"},
		"two qualifiers":   {"POST", "/2015-03-31/functions/f:a/invocations?Qualifier=b", "", nil, 400, "InvalidParameterValueException"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), c.method, c.path, strings.NewReader(c.body))
			for i := 0; i < len(c.header); i += 2 {
				r.Header.Set(c.header[i], c.header[i+1])
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			var body Error
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Message == "" || body.Type != "User" {
				t.Errorf("body is %s", w.Body)
			}
			if w.Code != c.status || w.Header().Get("x-amzn-ErrorType") != c.code || w.Header().Get("X-Amzn-RequestId") == "" {
				t.Errorf("%d %v", w.Code, w.Header())
			}
		})
	}
}

func TestLargeSyncPayload(t *testing.T) {
	client := start(t, func(_ context.Context, req Request) (Response, error) { return Response{Payload: req.Payload}, nil })
	big := json.RawMessage(`"` + strings.Repeat("x", 2<<20) + `"`)
	resp, err := client.Invoke(t.Context(), Request{Function: "f", Payload: big})
	if err != nil || !bytes.Equal(resp.Payload, big) {
		t.Errorf("%d bytes, %v", len(resp.Payload), err)
	}
}

func TestParseName(t *testing.T) {
	for in, want := range map[string]string{
		"backup": "backup ", "backup:live": "backup live", "backup:$LATEST": "backup $LATEST",
		"123456789012:function:backup":                          "backup ",
		"arn:aws:lambda:us-east-1:123456789012:function:backup": "backup ",
		"arn:aws:lambda:us-east-1:123456789012:function:b:7":    "b 7",
		"": "", "a b": "", "a:b:c": "", "a:b c": "", "arn:aws:s3:::bucket": "", strings.Repeat("x", 141): "",
	} {
		name, version, err := parseName(in)
		if got := name + " " + version; (err == nil && got != want) || (err != nil && want != "") {
			t.Errorf("%q is %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestClientAgainstSomethingElse(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	client := &Client{HTTP: server.Client(), Base: server.URL}
	if _, err := client.Invoke(t.Context(), Request{Function: "f"}); err == nil || errors.As(err, new(*Error)) {
		t.Errorf("error is %v", err)
	}
}
