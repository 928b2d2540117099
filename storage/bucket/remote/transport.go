package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"time"

	"tablekeeper/storage/bucket"
)

// Options are what a URL does not say. The zero value is for production.
type Options struct {
	Keys        *Keys               // instead of all other sources of credentials
	Getenv      func(string) string // instead of os.Getenv
	PartSize    int                 // of an upload, in bytes, before it grows; 0 means 8 MiB; S3 wants 5 MiB at least
	Concurrency int                 // parts on their way at a time; 0 means 2. One more is being read
	ListPage    int                 // keys a request of a listing; 0 means 1000
	IdleTimeout time.Duration       // of a connection on which no byte moves either way; 0 means 2 min
	Backoff     bucket.Backoff      // of the requests of an upload
}

// Tune makes a transport of http's default one: connections that no byte moves on are given up, bodies come as they are, and the certificates of the
// location are trusted.
func (o Options) Tune(t *http.Transport, l Location) error {
	idle := o.IdleTimeout
	if idle <= 0 {
		idle = 2 * time.Minute
	}
	dialer := &net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &restless{conn, idle}, nil
	}
	t.Proxy = http.ProxyFromEnvironment
	t.DisableCompression = true
	t.MaxIdleConnsPerHost = 16
	t.IdleConnTimeout = time.Minute
	t.TLSHandshakeTimeout = 15 * time.Second
	return trust(t, l)
}

func trust(t *http.Transport, l Location) error {
	pem, err := l.certificates()
	if err != nil || pem == nil {
		return err
	}
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	pool := t.TLSClientConfig.RootCAs
	if pool == nil {
		if pool, err = x509.SystemCertPool(); err != nil {
			pool = x509.NewCertPool()
		}
	}
	if !pool.AppendCertsFromPEM(pem) {
		return errors.New("ca_file " + l.CAFile + " has no PEM certificates")
	}
	t.TLSClientConfig.RootCAs = pool
	return nil
}

// restless is a connection whose deadline moves on with every byte, so that only a stall meets it: an upload may take as long as it
// takes, and reading the answer waits for as long as writing the request goes on.
type restless struct {
	net.Conn
	idle time.Duration
}

func (c *restless) Read(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *restless) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
