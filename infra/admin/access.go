package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Prefix is where the admin API lives.
const Prefix = "/api/admin"

const sessionPath = Prefix + "/session"

// need is what a request needs of who makes it.
type need string

const (
	nobody   need = "nobody"
	anybody  need = "anybody" // who is known
	toView   need = need(Viewer)
	toChange need = need(Operator)
	toStore  need = need(Agent)
)

// needOf is decided by method and path alone, so that a new route cannot be forgotten: whatever is not a GET changes something.
func needOf(method, path string) need {
	switch {
	case path == sessionPath && method == http.MethodPost:
		return nobody
	case path == sessionPath:
		return anybody
	case !strings.HasPrefix(path, Prefix+"/"):
		return toStore
	case method == http.MethodGet:
		return toView
	}
	return toChange
}

func (r Role) may(n need) bool {
	switch n {
	case nobody, anybody:
		return true
	case toView:
		return r == Viewer || r == Operator
	case toStore:
		return r == Agent || r == Operator
	case toChange:
	}
	return r == Operator
}

// visit is one request of somebody known. The handler notes in it what the record of changes should say.
type visit struct {
	Identity
	from  string
	runID string
}

type visitKey struct{}

func visitOf(ctx context.Context) *visit {
	v, ok := ctx.Value(visitKey{}).(*visit)
	if !ok {
		return &visit{}
	}
	return v
}

// Access says who comes with a token, or in a session that was begun with one. Its errors are ErrUnknownToken for whoever is not known, or no longer, and
// others where that cannot be found out.
type Access interface {
	Bearer(ctx context.Context, token string) (Identity, error)
	// SignIn begins a session, until the identity expires. secret is for the cookie.
	SignIn(ctx context.Context, token string) (secret string, who Identity, err error)
	// Session says whose session it is. fresh is the secret that replaces its own from now on, "" if it stays.
	Session(ctx context.Context, secret string) (who Identity, fresh string, err error)
	// SignOut ends a session. That there is none is no error.
	SignOut(ctx context.Context, secret string) error
}

// guard lets those pass who may, and records what they change.
func (s *Server) guard(ctx huma.Context, next func(huma.Context)) {
	op := ctx.Operation()
	needed := needOf(op.Method, op.Path)
	r, w := humago.Unwrap(ctx)
	ctx.SetHeader("Cache-Control", "no-store")
	if needed == nobody {
		next(huma.WithValue(ctx, visitKey{}, &visit{from: hostOf(r.RemoteAddr)}))
		return
	}
	who, err := s.admit(w, r, needed)
	if err != nil {
		s.refuse(w, err)
		return
	}
	v := &visit{Identity: who, from: hostOf(r.RemoteAddr)}
	ctx = huma.WithValue(ctx, visitKey{}, v)
	if op.Method == http.MethodGet {
		next(ctx)
		return
	}
	s.recorded(ctx, v, next)
}

// admit says who makes a request, or why it is turned away.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, needed need) (Identity, error) {
	who, err := s.identify(w, r)
	if err == nil && !who.Role.may(needed) {
		s.log.Warn("request refused", "actor", who.Name, "role", string(who.Role), "from", hostOf(r.RemoteAddr), "method", r.Method, "path", r.URL.Path)
		err = problem(http.StatusForbidden, "the role "+string(who.Role)+" may not do this", "it takes the role "+string(needed)+": tablekeeper token add --role "+string(needed))
	}
	return who, err
}

func (s *Server) refuse(w http.ResponseWriter, err error) {
	var headers huma.HeadersError
	if errors.As(err, &headers) {
		for name, values := range headers.GetHeaders() {
			w.Header()[name] = values
		}
	}
	var p *Problem
	if !errors.As(explain(err), &p) {
		p = problem(http.StatusInternalServerError, "the request could not be checked", hints[http.StatusInternalServerError])
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="tablekeeper"`)
	}
	p.write(w)
}

func signInFirst(detail string) *Problem {
	return problem(http.StatusUnauthorized, detail, "send Authorization: Bearer TOKEN; tablekeeper token add makes a token")
}

// identify takes the bearer's token if there is one, else the session's cookie.
func (s *Server) identify(w http.ResponseWriter, r *http.Request) (Identity, error) {
	if values := r.Header.Values("Authorization"); len(values) > 0 {
		scheme, token, _ := strings.Cut(values[0], " ")
		if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") {
			return Identity{}, signInFirst("this is no bearer token")
		}
		return s.bearer(r, strings.TrimSpace(token))
	}
	cookie, err := r.Cookie(s.cookieName())
	if err != nil || cookie.Value == "" {
		return Identity{}, signInFirst("not signed in")
	}
	who, fresh, err := s.opts.Access.Session(r.Context(), cookie.Value)
	if errors.Is(err, ErrUnknownToken) {
		return who, signInFirst("the session has ended")
	}
	if fresh != "" {
		s.setCookie(w, fresh, who.Expires)
	}
	return who, err
}

// bearer lets a right token pass however many wrong ones came from its address: 256 bits are not guessed, and a broken script must not
// lock out the operator beside it.
func (s *Server) bearer(r *http.Request, token string) (Identity, error) {
	who, err := s.opts.Access.Bearer(r.Context(), token)
	if !errors.Is(err, ErrUnknownToken) {
		return who, err
	}
	return who, s.failed(s.wrongBearers, r.RemoteAddr, signInFirst("the token is not known"))
}

// failed counts a wrong token, and answers 429 instead of p once there were too many.
func (s *Server) failed(count *failures, remote string, p *Problem) error {
	peer, now := peerOf(remote), s.now()
	if wait := count.wait(peer, now); wait > 0 {
		return waiting(problem(http.StatusTooManyRequests, "too many wrong tokens from this address", "wait, then use a right one"), wait)
	}
	count.add(peer, now)
	s.log.Warn("wrong token", "from", hostOf(remote))
	return p
}

// recorded makes a change and records it: who, what, when, from where.
func (s *Server) recorded(ctx huma.Context, v *visit, next func(huma.Context)) {
	change := Change{At: s.now(), Actor: v.Name, Role: v.Role, From: v.from, Method: ctx.Method(), Path: pathOf(ctx)}
	// Whoever asked may go away; the record stays.
	kept := context.WithoutCancel(ctx.Context())
	sequence, err := s.keys.begin(kept, change)
	if err == nil {
		defer func() { s.ended(kept, sequence, change, ctx.Status(), v.runID) }()
	} else {
		s.log.Error("a change is made that cannot be kept in the record", "error", err)
		defer func() { s.ended(kept, 0, change, ctx.Status(), v.runID) }()
	}
	next(ctx)
}

func (s *Server) ended(ctx context.Context, sequence int64, c Change, status int, run string) {
	s.log.LogAttrs(ctx, slog.LevelInfo, "change", slog.String("actor", c.Actor), slog.String("role", string(c.Role)), slog.String("from", c.From),
		slog.String("method", c.Method), slog.String("path", c.Path), slog.Int("status", status), slog.String("run", run))
	if sequence == 0 {
		return
	}
	if err := s.keys.end(ctx, sequence, status, run); err != nil {
		s.log.Error("the record of a change is not complete", "error", err)
	}
}

func pathOf(ctx huma.Context) string {
	u := ctx.URL()
	return u.EscapedPath()
}

func hostOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}
