package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"

	"tablekeeper/jobs/events"
)

// maxStreams is how many clients may listen at a time.
const maxStreams = 256

// streams are the clients that listen.
type streams struct {
	mu     sync.Mutex
	closed bool
	ends   map[int]context.CancelCauseFunc
	last   int
	wait   sync.WaitGroup
}

func newStreams() *streams { return &streams{ends: map[int]context.CancelCauseFunc{}} }

var errStopping = errors.New("the service stops")

// enter counts a client in; false: there are too many, or the service stops.
func (t *streams) enter(end context.CancelCauseFunc) (leave func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.ends) >= maxStreams {
		return nil, false
	}
	t.last++
	id := t.last
	t.ends[id] = end
	t.wait.Add(1)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.ends, id)
		t.wait.Done()
	}, true
}

func (t *streams) close() {
	t.mu.Lock()
	t.closed = true
	for _, end := range t.ends {
		end(errStopping)
	}
	t.mu.Unlock()
	t.wait.Wait()
}

// stream hands events to a client until it goes, is too slow, is signed out, or the service stops.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	after, resume, err := afterOf(r)
	if err != nil {
		s.refuse(w, err)
		return
	}
	stopping, end := context.WithCancelCause(context.WithoutCancel(r.Context()))
	defer end(nil)
	leave, ok := s.streams.enter(end)
	if !ok {
		s.refuse(w, waiting(problem(http.StatusServiceUnavailable, "too many clients listen", "close some, or try again later"), retryAfter))
		return
	}
	defer leave()
	// What was set for a request does not hold for a stream.
	control := http.NewResponseController(w)
	_, _ = control.SetWriteDeadline(time.Time{}), control.SetReadDeadline(time.Time{})
	// The origin is compared with the host by the library; a program sends none.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		s.log.Warn("stream refused", "from", hostOf(r.RemoteAddr), "error", err)
		return
	}
	conn.SetReadLimit(1024)
	l := &listener{server: s, conn: conn, request: r, after: after, resume: resume}
	defer l.helpers.Wait()
	defer func() { _ = conn.CloseNow() }()
	l.helpers.Go(func() { l.hear(end) })
	l.part(l.run(stopping, end))
}

func afterOf(r *http.Request) (after int64, resume bool, err error) {
	text := r.URL.Query().Get("after")
	if text == "" {
		return 0, false, nil
	}
	after, err = strconv.ParseInt(text, 10, 64)
	if err != nil || after < 0 {
		return 0, false, problem(http.StatusUnprocessableEntity, "after is no sequence number", "use the sequence of the last message, or leave it out")
	}
	return after, true, nil
}

// listener is one client of the stream.
type listener struct {
	server  *Server
	conn    *websocket.Conn
	request *http.Request
	after   int64
	resume  bool
	sent    int64 // newest sequence number that the client has
	lost    int64 // what it was told it has lost
	helpers sync.WaitGroup
}

var (
	errSlow      = errors.New("too slow")
	errSignedOut = errors.New("signed out")
	errTalks     = errors.New("a client has nothing to say here")
	errGone      = errors.New("the client went away")
)

// hear waits for the end of the connection, which the library sees only while somebody reads. Its context never ends: one that does cuts the
// connection without a word.
func (l *listener) hear(end context.CancelCauseFunc) {
	if _, _, err := l.conn.Reader(context.Background()); err == nil {
		end(errTalks)
		return
	}
	end(errGone)
}

func (l *listener) run(ctx context.Context, end context.CancelCauseFunc) error {
	_, newest, err := l.server.History.EventBounds(ctx)
	if err != nil {
		return err
	}
	hello := Hello{Type: "hello", Sequence: newest, At: l.server.now().UTC(), Version: l.server.opts.Version, Build: l.server.opts.Build}
	hello.Reset = l.resume && l.after > newest
	// Not from now on: between the question and the subscription something may have happened.
	if l.sent = newest; l.resume && !hello.Reset {
		l.sent = l.after
	}
	subscription := events.SubscribeOptions{After: l.sent}
	if l.sent == 0 {
		subscription.After = events.FromStart
	}
	sub := l.server.Bus.Subscribe(subscription)
	defer sub.Close()
	if err := l.send(ctx, hello); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	l.helpers.Go(func() { l.live(ctx, end) })
	for {
		e, err := sub.Next(ctx)
		if err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		if err := l.tell(ctx, e, sub.Lost()); err != nil {
			return err
		}
	}
}

// tell sends an event, and before it how many will never come.
func (l *listener) tell(ctx context.Context, e events.Event, lost int64) error {
	if lost > l.lost {
		if err := l.send(ctx, Gap{"gap", lost - l.lost}); err != nil {
			return err
		}
		l.lost = lost
	}
	if err := l.send(ctx, Message{e}); err != nil {
		return err
	}
	l.sent = max(l.sent, e.Sequence)
	return nil
}

// send writes one message. A client that takes it slowly loses its stream, so that it learns of it instead of seeing the past.
func (l *listener) send(ctx context.Context, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	timing := l.server.opts.Timing
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), timing.Write)
	defer cancel()
	begun := time.Now()
	if err := l.conn.Write(limited, websocket.MessageText, data); err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	if time.Since(begun) > timing.Slow {
		return errSlow
	}
	return nil
}

// live asks now and then whether the client is still there, and still signed in.
func (l *listener) live(ctx context.Context, end context.CancelCauseFunc) {
	ticker := time.NewTicker(l.server.opts.Timing.Ping)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if !l.signedIn(ctx) {
			end(errSignedOut)
			return
		}
		limited, cancel := context.WithTimeout(ctx, l.server.opts.Timing.Write)
		err := l.conn.Ping(limited)
		cancel()
		if err != nil {
			end(fmt.Errorf("no sign of life: %w", err))
			return
		}
	}
}

// signedIn tells whether who opened the stream still may.
func (l *listener) signedIn(ctx context.Context) bool {
	w := discarded{}
	who, err := l.server.identify(w, l.request.WithContext(ctx))
	var refused *Problem
	if errors.As(err, &refused) {
		return false
	}
	return err != nil || who.Role.may(toView) // a disk that is full for a while signs nobody out
}

// part says why the stream ends.
func (l *listener) part(err error) {
	code, why := websocket.StatusInternalError, "the service's log says why"
	switch {
	case errors.Is(err, errSlow):
		code, why = websocket.StatusTryAgainLater, fmt.Sprintf("too slow: resume after %d", l.sent)
	case errors.Is(err, errSignedOut):
		code, why = websocket.StatusPolicyViolation, "signed out"
	case errors.Is(err, errTalks):
		code, why = websocket.StatusPolicyViolation, errTalks.Error()
	case errors.Is(err, errStopping), errors.Is(err, events.ErrClosed):
		code, why = websocket.StatusGoingAway, "the service stops"
	case errors.Is(err, errGone):
		code, why = websocket.StatusNormalClosure, ""
	default:
		l.server.log.Warn("stream ended", "from", hostOf(l.request.RemoteAddr), "error", err)
	}
	_ = l.conn.Close(code, why) // a client that has gone cannot be told
}

// discarded is a response that nobody reads.
type discarded struct{}

func (discarded) Header() http.Header         { return http.Header{} }
func (discarded) Write(b []byte) (int, error) { return len(b), nil }
func (discarded) WriteHeader(int)             {}
