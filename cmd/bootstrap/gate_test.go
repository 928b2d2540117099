package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/awss3"
	"tablekeeper/storage/bucket/buckettest"
	"tablekeeper/storage/bucket/minio"
)

// gate stands between the function and the store. Before passes each request on, before may hold it, change the world, or refuse
// it by returning a status.
type gate struct {
	server *httptest.Server

	mu     sync.Mutex
	before func(r *http.Request) int
	seen   []string
}

func newGate(t *testing.T, endpoint string) *gate {
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{}
	// The signature covers the Host header, which is passed on as it came.
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = u.Scheme, u.Host, r.In.Host
	}}
	g.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		g.seen = append(g.seen, r.Method+" "+r.URL.Path)
		before := g.before
		g.mu.Unlock()
		if before != nil {
			if status := before(r); status != 0 {
				w.WriteHeader(status)
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		g.server.CloseClientConnections()
		g.server.Close()
	})
	return g
}

func (g *gate) hook(f func(r *http.Request) int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.before = f
}

// requests counts those with a method and an object.
func (g *gate) requests(method, key string) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.seen {
		if strings.HasPrefix(s, method+" ") && strings.HasSuffix(s, key) {
			n++
		}
	}
	return n
}

// stores are the two servers, each through the library that is used with it.
func stores(t *testing.T, test func(t *testing.T, w *world, g *gate)) {
	t.Run("MinIO through minio-go", func(t *testing.T) {
		w, g := onStore(t, buckettest.StartMinIO(t), "s3")
		test(t, w, g)
	})
	t.Run("versitygw through aws-sdk-go-v2", func(t *testing.T) {
		w, g := onStore(t, buckettest.StartVersityGW(t), "aws")
		test(t, w, g)
	})
}

// onStore has buckets in a real store. The test reaches it directly, functions through the gate.
func onStore(t *testing.T, s *buckettest.Server, scheme string) (*world, *gate) {
	w, g := bare(t), newGate(t, s.Endpoint)
	open := func(u *url.URL) (bucket.Bucket, error) { return minio.Open(t.Context(), u, s.Options()) }
	if scheme == "aws" {
		open = func(u *url.URL) (bucket.Bucket, error) { return awss3.Open(t.Context(), u, s.Options()) }
	}
	both := s.NewBucket(t)
	for name, to := range map[string]struct {
		at *bucket.Bucket
		in string
	}{"TABLES": {&w.tables, both + "/tables"}, "STATE": {&w.state, both}, "BUCKET": {&w.backups, s.NewBucket(t) + "/backups"}} {
		b, err := open(s.URL(t, scheme, to.in))
		w.Must(err)
		*to.at = b
		u := url.URL{Scheme: scheme, Path: to.in, RawQuery: url.Values{"endpoint": {g.server.URL}, "path_style": {"true"}, "region": {s.Region}}.Encode()}
		host, path, _ := strings.Cut(to.in, "/")
		u.Host, u.Path = host, "/"+path
		w.env["TABLEKEEPER_"+name] = strings.TrimSuffix(u.String(), "/")
	}
	w.env["AWS_ACCESS_KEY_ID"], w.env["AWS_SECRET_ACCESS_KEY"] = s.AccessKey, s.SecretKey
	return w, g
}

// rendezvous holds the first n puts of a key until all of them are there.
func rendezvous(n int, key string) func(*http.Request) int {
	var mu sync.Mutex
	all := make(chan struct{})
	return func(r *http.Request) int {
		if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, key) {
			return 0
		}
		mu.Lock()
		if n--; n == 0 {
			close(all)
		}
		mu.Unlock()
		<-all
		return 0
	}
}
