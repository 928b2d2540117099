package table

import (
	"context"
	"sync"
	"time"
)

type phase int

const (
	serving    phase = iota
	suspicious       // damage was reported; the files are still open
	detached
	failed
	closed
)

// gate lets operations in while the table serves, and makes them wait while it does not.
type gate struct {
	mu      sync.Mutex
	phase   phase
	session *session
	inside  int
	cause   error         // of failed
	changed chan struct{} // closed at the next change of phase, or when the last one leaves
}

// enter returns the open session, until leave. It waits, with patience, while the table is being recovered.
func (g *gate) enter(ctx context.Context, patience *patience) (*session, error) {
	for {
		g.mu.Lock()
		if g.phase == serving {
			s := g.admit()
			g.mu.Unlock()
			return s, nil
		}
		phase, cause, changed := g.phase, g.cause, g.wait()
		g.mu.Unlock()
		switch phase {
		case closed:
			return nil, ErrClosed
		case failed:
			return nil, cause
		case serving, suspicious, detached: // it may serve again
		}
		if err := patience.wait(ctx, changed); err != nil {
			return nil, err
		}
	}
}

// wait is called with the lock held.
func (g *gate) wait() <-chan struct{} {
	if g.changed == nil {
		g.changed = make(chan struct{})
	}
	return g.changed
}

// admit is called with the lock held.
func (g *gate) admit() *session {
	g.inside++
	g.session.inside++
	return g.session
}

// leave is told the session that enter returned: another one may have taken its place.
func (g *gate) leave(s *session) {
	g.mu.Lock()
	if g.inside--; g.inside == 0 && g.phase != serving {
		g.announce()
	}
	if s.inside--; s.inside == 0 && s.gone != nil {
		close(s.gone)
	}
	g.mu.Unlock()
}

// replace puts a new session in the place of the one that is open, while the table is in use. Whoever is inside the old one may
// end in peace; its gone is closed when the last has. false: the table does not serve any more.
func (g *gate) replace(old, fresh *session) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.session != old || g.phase == closed {
		return false
	}
	g.session = fresh
	old.gone = make(chan struct{})
	if old.inside == 0 {
		close(old.gone)
	}
	return true
}

func (g *gate) announce() {
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// to changes the phase, unless the table is closed.
func (g *gate) to(p phase, from ...phase) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range from {
		if g.phase == f {
			g.phase = p
			g.announce()
			return true
		}
	}
	return false
}

// enterNow is enter for those who do not wait: nil if the table does not serve.
func (g *gate) enterNow() *session {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.phase != serving {
		return nil
	}
	return g.admit()
}

// serves reports whether the table serves at this moment.
func (g *gate) serves() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.phase == serving
}

func (g *gate) attach(s *session) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.phase == closed {
		return false
	}
	g.phase, g.session, g.cause = serving, s, nil
	g.announce()
	return true
}

func (g *gate) fail(cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.phase != closed {
		g.phase, g.cause = failed, cause
		g.announce()
	}
}

// drained waits until nobody is inside, and takes the session.
func (g *gate) drained(ctx context.Context) (*session, error) {
	for {
		g.mu.Lock()
		if g.inside == 0 {
			s := g.session
			g.session = nil
			g.mu.Unlock()
			return s, nil
		}
		changed := g.wait()
		g.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// restore gives a session back that drained took.
func (g *gate) restore(s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.session = s
}

// close is final. first is false if the gate was closed before.
func (g *gate) close() (s *session, was phase, first bool) {
	g.mu.Lock()
	was, g.phase = g.phase, closed
	g.announce()
	g.mu.Unlock()
	if was == closed {
		return nil, was, false
	}
	s, _ = g.drained(context.Background())
	return s, was, true
}

// current is the session that is open, if one is. The caller is inside, so that it stays open.
func (g *gate) current() *session {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.session
}

// patience is how long one operation waits for its table in all.
type patience struct {
	limit time.Duration
	timer *time.Timer
}

func (p *patience) wait(ctx context.Context, changed <-chan struct{}) error {
	if p.timer == nil {
		p.timer = time.NewTimer(p.limit)
	}
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.timer.C:
		p.timer.Reset(0) // the next wait of the same operation ends at once, too
		return ErrRecovering
	}
}

func (p *patience) end() {
	if p.timer != nil {
		p.timer.Stop()
	}
}
