package admin

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// MaxBody is the size of a request's body in bytes beyond which it is refused.
const MaxBody = 1 << 20

// policy is the page's: nothing but our own scripts, styles and pictures, and no place in anybody's frame.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; manifest-src 'self'; " +
	"worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// lambdaPath is how all paths of the Lambda API begin: with the day of a version.
var lambdaPath = regexp.MustCompile(`^/20\d\d-\d\d-\d\d/`)

// door is what every request passes first, whatever it asks for.
func (s *Server) door(inside http.Handler) http.Handler {
	foreign := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paced := &pacedWriter{ResponseWriter: w, control: http.NewResponseController(w), patience: s.opts.Timing.Write}
		paced.relax() // of an earlier request on the same connection
		w = paced
		defer s.contain(w, r)
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if s.opts.Secure {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		if !s.opts.AnyHost && !s.knownHost(r.Host) {
			problem(http.StatusMisdirectedRequest, "this is not served under that name",
				"use the address itself, or add the name to hosts in tablekeeper.yaml").coded("unknown_host").write(w)
			return
		}
		if foreign.Check(r) != nil {
			s.log.Warn("request from another site refused", "from", hostOf(r.RemoteAddr), "method", r.Method, "path", r.URL.Path)
			problem(http.StatusForbidden, "the request comes from another site", "use the dashboard's own page").coded("foreign_origin").write(w)
			return
		}
		if s.opts.Lambda != nil && lambdaPath.MatchString(r.URL.Path) {
			s.opts.Lambda.ServeHTTP(w, r) // its bodies may be larger
			return
		}
		if r.ContentLength > MaxBody {
			h.Set("Connection", "close") // rather than read what nobody wants
			problem(http.StatusRequestEntityTooLarge, "the body is too large", hints[http.StatusRequestEntityTooLarge]).write(w)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, MaxBody+1) // one more, so that the API sees that it is too much
		inside.ServeHTTP(w, r)
	})
}

// knownHost is against DNS rebinding: a name that an attacker made point here is not ours. An address cannot be made to point
// anywhere else.
func (s *Server) knownHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || slices.Contains(s.opts.Hosts, host)
}

// contain keeps a panic from more than its own request.
func (s *Server) contain(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if err, is := v.(error); is && errors.Is(err, http.ErrAbortHandler) { // the server's own way to end a connection
		panic(v)
	}
	s.log.Error("request panicked", "method", r.Method, "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
	problem(http.StatusInternalServerError, "this is a bug in tablekeeper", "please report it with the log of the service").write(w)
}

// pacedWriter cuts a connection whose reader takes nothing for a while, however long the answer was in the making.
type pacedWriter struct {
	http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
}

func (p *pacedWriter) Write(b []byte) (int, error) {
	// Where there is no deadline, as in a test's recorder, nobody can be slow either.
	_ = p.control.SetWriteDeadline(time.Now().Add(p.patience))
	return p.ResponseWriter.Write(b)
}

// relax takes the deadline off.
func (p *pacedWriter) relax() { _ = p.control.SetWriteDeadline(time.Time{}) }

// Unwrap lets http.ResponseController and the WebSocket reach the connection.
func (p *pacedWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }
