package buckettest

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/lifecycle"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/remote"
)

// RunWiring tests how an S3 package finds and reaches its store: sources of credentials, certificates, connections that stall, lifecycle rules.
func RunWiring(t *testing.T, s *Server, scheme string, open OpenFunc) {
	w := wiring{s, scheme, open, s.NewBucket(t)}
	t.Run("Credentials", w.credentials)
	t.Run("No credentials", w.noCredentials)
	t.Run("Certificates", w.certificates)
	t.Run("Stalled connection", w.stalled)
	t.Run("Lifecycle", w.lifecycle)
}

type wiring struct {
	s      *Server
	scheme string
	open   OpenFunc
	name   string
}

// try opens the bucket with more parameters and makes a round trip.
func (w wiring) try(t *testing.T, parameters string, opts remote.Options) error {
	t.Helper()
	u := w.s.URL(t, w.scheme, w.name)
	if strings.Contains(parameters, "endpoint=") {
		u.RawQuery = "region=us-east-1"
	}
	u.RawQuery += "&" + parameters
	b, err := w.open(t.Context(), u, opts)
	if err != nil {
		return err
	}
	_, err = bucket.Put(t.Context(), b, "k", strings.NewReader("content"), bucket.PutOptions{})
	return err
}

func (w wiring) file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// unset makes the environment one without credentials of any kind.
func unset(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "MINIO_ROOT_USER", "MINIO_ACCESS_KEY", "AWS_CA_BUNDLE", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"} {
		t.Setenv(name, "")
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func (w wiring) credentials(t *testing.T) {
	shared := w.file(t, "[default]\naws_access_key_id=wrong\naws_secret_access_key=wrong\n[right]\naws_access_key_id="+w.s.AccessKey+"\naws_secret_access_key="+w.s.SecretKey+"\n")
	id, secret := w.file(t, w.s.AccessKey+"\n"), w.file(t, w.s.SecretKey+"\n")
	for _, test := range []struct {
		name, parameters string
		env              map[string]string
		want             error
	}{
		{"environment", "", map[string]string{"AWS_ACCESS_KEY_ID": w.s.AccessKey, "AWS_SECRET_ACCESS_KEY": w.s.SecretKey}, nil},
		{"shared file", "", map[string]string{"AWS_SHARED_CREDENTIALS_FILE": shared, "AWS_PROFILE": "right"}, nil},
		{"shared file, wrong profile", "", map[string]string{"AWS_SHARED_CREDENTIALS_FILE": shared}, bucket.ErrDenied},
		{"profile parameter", "profile=right", map[string]string{"AWS_SHARED_CREDENTIALS_FILE": shared}, nil},
		{"credentials_file", "profile=right&credentials_file=" + url.QueryEscape(shared), nil, nil},
		{"value files", "access_key_id_file=" + url.QueryEscape(id) + "&secret_access_key_file=" + url.QueryEscape(secret), nil, nil},
		{"files before environment", "access_key_id_file=" + url.QueryEscape(id) + "&secret_access_key_file=" + url.QueryEscape(secret), map[string]string{"AWS_ACCESS_KEY_ID": "wrong", "AWS_SECRET_ACCESS_KEY": "wrong"}, nil},
		{"missing file", "credentials_file=/does/not/exist", nil, bucket.ErrDenied},
	} {
		t.Run(test.name, func(t *testing.T) {
			unset(t)
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			if err := w.try(t, test.parameters, remote.Options{}); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

func (w wiring) noCredentials(t *testing.T) {
	unset(t)
	if err := w.try(t, "", remote.Options{}); !errors.Is(err, bucket.ErrDenied) || !strings.Contains(err.Error(), "no credentials") {
		t.Errorf("%v, want %v and that there are none", err, bucket.ErrDenied)
	}
}

func (w wiring) certificates(t *testing.T) {
	target, err := url.Parse(w.s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	tls := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, r.In.Host
	}})
	tls.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are the test
	tls.StartTLS()
	defer tls.Close()
	ca := w.file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw})))
	endpoint := "path_style=true&endpoint=" + url.QueryEscape(tls.URL)
	opts := w.s.Options()
	opts.Getenv = nil
	unset(t)
	err = w.try(t, endpoint, opts)
	if err == nil || errors.Is(err, bucket.ErrUnreachable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody vouches for: %v, want an error that waiting does not mend", err)
	}
	if err := w.try(t, endpoint+"&ca_file="+url.QueryEscape(ca), opts); err != nil {
		t.Errorf("ca_file: %v", err)
	}
	if err := w.try(t, endpoint+"&ca_file="+url.QueryEscape(w.file(t, "no PEM")), opts); err == nil {
		t.Error("a ca_file without certificates: no error")
	}
	t.Setenv("AWS_CA_BUNDLE", ca)
	if err := w.try(t, endpoint, opts); err != nil {
		t.Errorf("AWS_CA_BUNDLE: %v", err)
	}
	err = w.try(t, "path_style=true&endpoint="+url.QueryEscape(strings.Replace(w.s.Endpoint, "http:", "https:", 1)), opts)
	if err == nil || errors.Is(err, bucket.ErrUnreachable) {
		t.Errorf("https to a server of http: %v, want an error that waiting does not mend", err)
	}
}

// stalled: a store that takes a connection and says nothing is given up.
func (w wiring) stalled(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	opts := w.s.Options()
	opts.IdleTimeout = 50 * time.Millisecond
	opts.Backoff = bucket.Backoff{Attempts: 1}
	if err := w.try(t, "path_style=true&endpoint="+url.QueryEscape("http://"+l.Addr().String()), opts); !errors.Is(err, bucket.ErrUnreachable) {
		t.Errorf("a silent store: %v, want %v", err, bucket.ErrUnreachable)
	}
	// One that says something now and then, for longer than that in all, is not. On a busy machine a pause may be a long one: then with more time.
	for opts.IdleTimeout = 50 * time.Millisecond; ; opts.IdleTimeout *= 4 {
		got, err := w.slow(t, opts)
		if err == nil && len(got) == 20 {
			break
		}
		if err == nil || opts.IdleTimeout > 10*time.Second {
			t.Fatalf("a slow store: %d bytes, %v", len(got), err)
		}
	}
}

// slow reads from a store that says a byte each fifth of the idle timeout, twenty of them.
func (w wiring) slow(t *testing.T, opts remote.Options) ([]byte, error) {
	slow := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("ETag", `"x"`)
		rw.Header().Set("Last-Modified", time.Unix(0, 0).UTC().Format(http.TimeFormat))
		rw.Header().Set("Content-Length", "20")
		for range 20 {
			if _, err := rw.Write([]byte("x")); err != nil {
				return
			}
			_ = http.NewResponseController(rw).Flush() // the client may have gone
			select {
			case <-r.Context().Done():
				return
			case <-time.After(opts.IdleTimeout / 5):
			}
		}
	}))
	defer slow.Close()
	u := w.s.URL(t, w.scheme, w.name)
	u.RawQuery = "region=us-east-1&path_style=true&endpoint=" + url.QueryEscape(slow.URL)
	b, err := w.open(t.Context(), u, opts)
	if err != nil {
		t.Fatal(err)
	}
	return content(t, b, "k")
}

func (w wiring) lifecycle(t *testing.T) {
	opts := w.s.Options()
	rules := func(prefix string) []string {
		t.Helper()
		b, err := w.open(t.Context(), w.s.URL(t, w.scheme, w.name+prefix), opts)
		if err != nil {
			t.Fatal(err)
		}
		rules, err := b.Lifecycle(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return rules
	}
	if got := rules(""); len(got) > 0 {
		t.Errorf("rules of a bucket without any: %q", got)
	}
	if w.s.Name == "versitygw" {
		return // it has no rules, and says so
	}
	tag := lifecycle.Tag{Key: bucket.SupersededTag, Value: bucket.SupersededValue}
	rule := func(id, status string, filter lifecycle.Filter) lifecycle.Rule {
		return lifecycle.Rule{ID: id, Status: status, RuleFilter: filter, Expiration: lifecycle.Expiration{Days: 30}}
	}
	config := lifecycle.NewConfiguration()
	config.Rules = []lifecycle.Rule{
		rule("tagged", "Enabled", lifecycle.Filter{Tag: tag}),
		rule("in-prefix", "Enabled", lifecycle.Filter{And: lifecycle.And{Prefix: "a/", Tags: []lifecycle.Tag{tag}}}),
		rule("disabled", "Disabled", lifecycle.Filter{Tag: tag}),
		rule("untagged", "Enabled", lifecycle.Filter{Prefix: "z/"}),
		rule("other", "Enabled", lifecycle.Filter{Tag: lifecycle.Tag{Key: "other", Value: "x"}}),
		rule("two-tags", "Enabled", lifecycle.Filter{And: lifecycle.And{Tags: []lifecycle.Tag{tag, {Key: "other", Value: "x"}}}}),
	}
	if err := w.s.client.SetBucketLifecycle(t.Context(), w.name, config); err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string]string{"": "tagged", "/a": "tagged in-prefix", "/a/b": "tagged in-prefix", "/ab": "tagged"} {
		if got := strings.Join(rules(prefix), " "); got != want {
			t.Errorf("rules for prefix %q: %s, want %s", prefix, got, want)
		}
	}
	b, err := w.open(t.Context(), w.s.URL(t, w.scheme, "there-is-no-such-bucket"), opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Lifecycle(context.WithoutCancel(t.Context())); !errors.Is(err, bucket.ErrNoBucket) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rules of a missing bucket: %v", err)
	}
}
