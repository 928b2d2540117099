package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Whoami is who is signed in, and at what.
type Whoami struct {
	Name    string    `json:"name" doc:"of the token"`
	Role    Role      `json:"role"`
	Expires time.Time `json:"expires_at,omitzero" doc:"when the session ends, unless it is used before"`
	Version string    `json:"version"`
	Build   string    `json:"build" doc:"changes with every build: a page of another one should be loaded again"`
	Without []string  `json:"without,omitempty" enum:"stream,jobs,compactions,recoveries,alerts,restore,cancel,log" doc:"parts of this API that are not served here"`
}

func (s *Server) whoami(who Identity) Whoami {
	return Whoami{Name: who.Name, Role: who.Role, Expires: who.Expires, Version: s.opts.Version, Build: s.opts.Build, Without: s.opts.Without}
}

// SecureCookie is the name of a session's cookie where it is reached by HTTPS.
const SecureCookie = "__Host-tablekeeper_session"

// cookieName has the prefix by which browsers refuse such a cookie from anything but this very host, where that is possible.
func (s *Server) cookieName() string {
	if s.opts.Secure {
		return SecureCookie
	}
	return "tablekeeper_session"
}

func (s *Server) cookie(secret string, maxAge int) *http.Cookie {
	return &http.Cookie{Name: s.cookieName(), Value: secret, Path: "/", MaxAge: maxAge, HttpOnly: true, Secure: s.opts.Secure, SameSite: http.SameSiteStrictMode}
}

func (s *Server) setCookie(w http.ResponseWriter, secret string, expires time.Time) {
	http.SetCookie(w, s.cookie(secret, s.secondsTo(expires)))
}

func (s *Server) secondsTo(t time.Time) int { return int(t.Sub(s.now()).Round(time.Second).Seconds()) }

type signedIn struct {
	Cookie http.Cookie `header:"Set-Cookie"`
	Body   Whoami
}

type signedOut struct {
	Cookie http.Cookie `header:"Set-Cookie"`
}

func (s *Server) registerSession(api huma.API) {
	in := s.operation(http.MethodPost, "/session", "sign-in", "access", "Begin a session with a token")
	in.Middlewares = huma.Middlewares{s.limitSignIns}
	huma.Register(api, in, func(ctx context.Context, in *struct {
		Body struct {
			Token string `json:"token" maxLength:"200"`
		}
	}) (*signedIn, error) {
		secret, who, err := s.opts.Access.SignIn(ctx, in.Body.Token)
		if errors.Is(err, ErrUnknownToken) {
			return nil, s.failed(s.wrongSignIns, remoteOf(ctx), signInFirst("the token is not known"))
		}
		if err != nil {
			return nil, explain(err)
		}
		s.log.Info("signed in", "actor", who.Name, "role", string(who.Role), "from", hostOf(remoteOf(ctx)))
		return &signedIn{*s.cookie(secret, s.secondsTo(who.Expires)), s.whoami(who)}, nil
	})
	huma.Register(api, s.operation(http.MethodGet, "/session", "whoami", "access", "Who is signed in"),
		func(ctx context.Context, _ *struct{}) (*answer[Whoami], error) {
			return reply(s.whoami(visitOf(ctx).Identity), nil)
		})
	out := s.operation(http.MethodDelete, "/session", "sign-out", "access", "End the session")
	out.DefaultStatus = http.StatusNoContent
	huma.Register(api, out, func(ctx context.Context, in *struct {
		Plain  string `cookie:"tablekeeper_session"`
		Secure string `cookie:"__Host-tablekeeper_session"`
	}) (*signedOut, error) {
		secret := in.Plain
		if s.opts.Secure {
			secret = in.Secure
		}
		return &signedOut{*s.cookie("", -1)}, explain(s.opts.Access.SignOut(ctx, secret))
	})
}

type remoteKey struct{}

func remoteOf(ctx context.Context) string {
	remote, _ := ctx.Value(remoteKey{}).(string)
	return remote
}

// limitSignIns turns away who has tried too often, right or wrong: the check comes before the token is looked at.
func (s *Server) limitSignIns(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	if wait := s.wrongSignIns.wait(peerOf(r.RemoteAddr), s.now()); wait > 0 {
		s.refuse(w, waiting(problem(http.StatusTooManyRequests, "too many wrong tokens from this address", "wait, then sign in with a right one"), wait))
		return
	}
	next(huma.WithValue(ctx, remoteKey{}, r.RemoteAddr))
}
