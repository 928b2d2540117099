// Package client asks a running tablekeeper over its admin API, as a program elsewhere does. What is shown to people, and with which exit
// status a command ends, is the caller's.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"tablekeeper/infra/admin"
)

// Options of a Client. URL and Token are required.
type Options struct {
	URL      string // https://keeper.example, or http:// on this very machine
	Token    string
	Insecure bool   // send the token in the clear to another machine
	Version  string // of this program, to say so where the two do not understand each other
	Now      func() time.Time
}

// Client asks one server. It may be used by many at once.
type Client struct {
	base    url.URL
	token   string
	version string
	http    *http.Client
	now     func() time.Time
}

// AddressError is an address that is not asked, with the next step.
type AddressError struct{ text, try string }

func (e *AddressError) Error() string { return e.text }

// Hint is what to write instead.
func (e *AddressError) Hint() string { return e.try }

// RefusalError is an answer of the server that is no success.
type RefusalError struct{ admin.Problem }

func (e *RefusalError) Error() string { return "the server refuses: " + e.Detail }

// Hint is what the server advises.
func (e *RefusalError) Hint() string { return e.Problem.Hint }

// UnreachableError is a server that does not answer.
type UnreachableError struct {
	Server string
	Err    error
}

func (e *UnreachableError) Error() string { return fmt.Sprintf("ask %s: %v", e.Server, e.Err) }
func (e *UnreachableError) Unwrap() error { return e.Err }

// Hint is the next step.
func (e *UnreachableError) Hint() string {
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(e.Err, &certificate):
		return "SSL_CERT_FILE=ca.pem names the certificate to trust; or correct the host's name"
	case errors.Is(e.Err, http.ErrSchemeMismatch):
		return "it speaks plain HTTP: use http:// there"
	}
	return "see that tablekeeper serve runs there and listens on that address"
}

// StrangerError is an answer that this program does not understand: the server is of another version, or is no tablekeeper.
type StrangerError struct {
	Server, Version string // what the server says of itself; "": it is no tablekeeper
	Ours            string
	Err             error
}

func (e *StrangerError) Error() string {
	if e.Version == "" {
		return fmt.Sprintf("%s does not answer as a tablekeeper does: %v", e.Server, e.Err)
	}
	return fmt.Sprintf("%s is tablekeeper %s, this is %s, and they do not understand each other: %v", e.Server, e.Version, e.Ours, e.Err)
}

func (e *StrangerError) Unwrap() error { return e.Err }

// Hint is the next step.
func (e *StrangerError) Hint() string {
	if e.Version == "" {
		return "give the address of the dashboard, without a path"
	}
	return "use the same version here and there"
}

const (
	patience   = 2 * time.Minute // for an answer to begin: to plan a restore the server reads tables and bucket
	maxAnswer  = 64 << 20
	onlyAServe = "--server https://HOST:PORT"
)

// New checks the address and asks nothing yet. Redirects are not followed: they would take the token along.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" {
		return nil, &AddressError{"the server's address is no http or https URL", onlyAServe}
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return nil, &AddressError{"the server's address is more than https://HOST:PORT", onlyAServe + "; a token goes into a file: --token-file"}
	}
	if u.Scheme == "http" && !o.Insecure && !loopback(u.Hostname()) {
		return nil, &AddressError{"with http:// everybody on the way to " + u.Host + " can read the token", "https://, or an SSH tunnel to its loopback address; --insecure if the network is your own"}
	}
	c := &Client{base: url.URL{Scheme: u.Scheme, Host: u.Host}, token: o.Token, version: o.Version, now: o.Now}
	if c.now == nil {
		c.now = time.Now
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one, and nobody here replaces it
	transport.ResponseHeaderTimeout = patience
	c.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c, nil
}

// String is the server's address.
func (c *Client) String() string { return c.base.String() }

// request is one question.
type request struct {
	method, path string // below the API's prefix, escaped
	query        url.Values
	header       map[string]string
	body         any // json.RawMessage is sent as it is; nil: none
}

func (c *Client) get(ctx context.Context, path string, query url.Values, into any) error {
	return c.do(ctx, request{method: http.MethodGet, path: path, query: query}, into)
}

// do asks, and reads the answer into v if v is not nil.
func (c *Client) do(ctx context.Context, r request, v any) error {
	var body io.Reader
	if r.body != nil {
		data, err := json.Marshal(r.body)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	to := c.base.String() + admin.Prefix + r.path
	if len(r.query) > 0 {
		to += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, to, body)
	if err != nil {
		return fmt.Errorf("ask %s: %w", c, err)
	}
	c.sign(req.Header)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	status, kind, data, err := c.send(req)
	if err != nil {
		return err
	}
	return c.understand(ctx, status, kind, data, v)
}

func (c *Client) sign(h http.Header) {
	h.Set("Authorization", "Bearer "+c.token)
	h.Set("User-Agent", "tablekeeper/"+c.version)
}

func (c *Client) send(req *http.Request) (status int, kind string, body []byte, err error) {
	resp, err := c.http.Do(req)
	if err == nil {
		defer resp.Body.Close()
		body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	}
	if err != nil {
		if req.Context().Err() != nil {
			return 0, "", nil, req.Context().Err()
		}
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return 0, "", nil, &UnreachableError{c.String(), err}
	}
	kind, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return resp.StatusCode, kind, body, nil
}

// understand reads an answer, or says why it is none.
func (c *Client) understand(ctx context.Context, status int, kind string, data []byte, v any) error {
	if status >= http.StatusOK && status < http.StatusMultipleChoices {
		if v == nil {
			return nil
		}
		if err := json.Unmarshal(data, v); err != nil {
			return c.stranger(ctx, fmt.Errorf("read its answer: %w", err))
		}
		return nil
	}
	refusal := &RefusalError{}
	if kind != "application/problem+json" || json.Unmarshal(data, &refusal.Problem) != nil {
		if status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout {
			return &UnreachableError{c.String(), fmt.Errorf("something before it answers %d %s", status, http.StatusText(status))}
		}
		return c.stranger(ctx, fmt.Errorf("it answers %d %s", status, http.StatusText(status)))
	}
	refusal.Status = status
	// A route or a field that is not known there may be one of a later version.
	routeless := status == http.StatusMethodNotAllowed || status == http.StatusNotFound && strings.HasSuffix(refusal.Detail, "is not for this address")
	if routeless || status == http.StatusUnprocessableEntity && len(refusal.Errors) > 0 {
		var strange *StrangerError
		if err := c.stranger(ctx, refusal); errors.As(err, &strange) && strange.Version != "" && strange.Version != c.version {
			return err
		}
	}
	return refusal
}

// stranger asks who it is that answers so.
func (c *Client) stranger(ctx context.Context, what error) error {
	e := &StrangerError{Server: c.String(), Ours: c.version, Err: what}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.String()+"/healthz", nil)
	if err != nil {
		return e
	}
	var health struct{ Status, Version string }
	if status, _, data, err := c.send(req); err == nil && status == http.StatusOK && json.Unmarshal(data, &health) == nil && health.Status != "" {
		e.Version = health.Version
	}
	return e
}
