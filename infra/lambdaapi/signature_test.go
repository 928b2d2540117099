package lambdaapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

var (
	keys    = Verifier{KeyID: "TKLOCAL", Secret: "the secret"}
	instant = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
)

// signed is a request as AWS's own signer signs it; change tampers with it afterwards.
func signed(t *testing.T, when time.Time, path, body string, change func(*http.Request)) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
	r.Host = "127.0.0.1:8420"
	r.Header.Set(headerKind, string(RequestResponse))
	sum := sha256.Sum256([]byte(body))
	hash := hex.EncodeToString(sum[:])
	err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: keys.KeyID, SecretAccessKey: keys.Secret}, r, hash, "lambda", "eu-central-1", when)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	return r
}

func send(t *testing.T, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	v := keys
	v.Now = func() time.Time { return instant }
	w := httptest.NewRecorder()
	NewSignedHandler(invoker(func(_ context.Context, req Request) (Response, error) {
		return Response{Payload: json.RawMessage(`"` + req.Caller + " " + req.Function + `"`)}, nil
	}), v).ServeHTTP(w, r)
	return w
}

const invocations = "/2015-03-31/functions/f/invocations"

func TestSigned(t *testing.T) {
	for _, path := range []string{
		invocations,
		invocations + "?Qualifier=$LATEST",
		invocations + "?b=2&a=1&a=0&a1=x&e=&space=x%20y&plus=x%2By&tilde=~",
		"/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-central-1%3A123456789012%3Afunction%3Af/invocations",
		"/2015-03-31/functions/123456789012:function:f/invocations",
	} {
		for skew := range map[time.Duration]bool{0: true, maxSkew: true, -maxSkew: true} {
			w := send(t, signed(t, instant.Add(skew), path, `{"tables":["é"]}`, nil))
			if w.Code != http.StatusOK || w.Body.String() != `"TKLOCAL f"` {
				t.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
		}
	}
}

func TestRefusesSignatures(t *testing.T) {
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	replace := func(old, by string) func(*http.Request) {
		return func(r *http.Request) {
			before := r.Header.Get("Authorization")
			r.Header.Set("Authorization", strings.Replace(before, old, by, 1))
			if r.Header.Get("Authorization") == before {
				panic("nothing was replaced in " + before)
			}
		}
	}
	body := func(text string) func(*http.Request) {
		return func(r *http.Request) {
			fresh := httptest.NewRequestWithContext(t.Context(), r.Method, r.URL.String(), strings.NewReader(text))
			r.Body = fresh.Body
		}
	}
	for name, c := range map[string]struct {
		skew   time.Duration
		change func(*http.Request)
		status int
		code   string
	}{
		"no signature":       {0, func(r *http.Request) { r.Header.Del("Authorization") }, 403, "MissingAuthenticationTokenException"},
		"bearer":             {0, header("Authorization", "Bearer x"), 403, "MissingAuthenticationTokenException"},
		"other key":          {0, replace("TKLOCAL", "AKIAOTHER"), 403, "UnrecognizedClientException"},
		"temporary key":      {0, header("X-Amz-Security-Token", "x"), 403, "UnrecognizedClientException"},
		"other signature":    {0, replace("Signature=", "Signature="+strings.Repeat("0", 64)), 403, "IncompleteSignatureException"},
		"other region":       {0, replace("eu-central-1", "us-east-1"), 403, "InvalidSignatureException"},
		"other service":      {0, replace("/lambda/", "/s3/"), 403, "InvalidSignatureException"},
		"other day":          {0, replace("20261122/", "20261121/"), 403, "IncompleteSignatureException"},
		"half a scope":       {0, replace("/aws4_request", ""), 403, "IncompleteSignatureException"},
		"no time":            {0, func(r *http.Request) { r.Header.Del(headerDate) }, 403, "IncompleteSignatureException"},
		"too old":            {-maxSkew - time.Second, nil, 403, "InvalidSignatureException"},
		"too early":          {maxSkew + time.Second, nil, 403, "InvalidSignatureException"},
		"another body":       {0, body(`{"tables":["other"]}`), 403, "InvalidSignatureException"},
		"hash of another":    {0, header(headerHash, strings.Repeat("0", 64)), 403, "InvalidSignatureException"},
		"header added":       {0, header(headerContext, "e30="), 403, "InvalidSignatureException"},
		"header changed":     {0, header(headerKind, "Event"), 403, "InvalidSignatureException"},
		"host changed":       {0, func(r *http.Request) { r.Host = "evil.example" }, 403, "InvalidSignatureException"},
		"host not signed":    {0, replace("host;", ""), 403, "InvalidSignatureException"},
		"path changed":       {0, func(r *http.Request) { r.RequestURI = strings.Replace(r.RequestURI, "/f/", "/g/", 1) }, 403, "InvalidSignatureException"},
		"query added":        {0, func(r *http.Request) { r.RequestURI += "?Qualifier=1" }, 403, "InvalidSignatureException"},
		"body beyond limits": {0, body(strings.Repeat(" ", MaxSyncPayload+1)), 413, "RequestTooLargeException"},
	} {
		t.Run(name, func(t *testing.T) {
			w := send(t, signed(t, instant.Add(c.skew), invocations, `{}`, c.change))
			if w.Code != c.status || w.Header().Get(headerErrorType) != c.code || !strings.Contains(w.Body.String(), `"Message":`) {
				t.Errorf("%d %s %s", w.Code, w.Header().Get(headerErrorType), w.Body)
			}
		})
	}
}

// TestNoSecretMeansNobody is against a key pair that was not read.
func TestNoSecretMeansNobody(t *testing.T) {
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, invocations, nil)
	r.Header.Set("Authorization", algorithm+" Credential=/20261122/r/lambda/aws4_request, SignedHeaders=host, Signature="+strings.Repeat("0", 64))
	NewSignedHandler(invoker(nil), Verifier{}).ServeHTTP(w, r)
	if w.Code != http.StatusForbidden {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func FuzzAuthorization(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=TKLOCAL/20261122/r/lambda/aws4_request, SignedHeaders=host;x-amz-date, Signature="+strings.Repeat("ab", 32), "a=b&c", []byte("{}"))
	f.Add("AWS4-HMAC-SHA256 Credential=////, SignedHeaders=;;, Signature=zz", "%zz", []byte(nil))
	f.Fuzz(func(t *testing.T, authorization, query string, body []byte) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, invocations, bytes.NewReader(body))
		r.RequestURI += "?" + query
		r.Header.Set("Authorization", authorization)
		r.Header.Set(headerDate, instant.Format(amzTime))
		w := httptest.NewRecorder()
		v := keys
		v.Now = func() time.Time { return instant }
		NewSignedHandler(invoker(func(context.Context, Request) (Response, error) {
			t.Error("a made-up signature was accepted")
			return Response{}, nil
		}), v).ServeHTTP(w, r)
		if w.Code < 400 || w.Header().Get(headerErrorType) == "" {
			t.Errorf("%d %v", w.Code, w.Header())
		}
	})
}
