package screen

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// refresh is how often the progress line is rewritten at most.
const refresh = 100 * time.Millisecond

// Progress rewrites one line on a terminal: what is done, percent, time left. Elsewhere it shows nothing.
// A nil *Progress is ready to be told things and shows none of them.
type Progress struct {
	screen *Screen
	now    func() time.Time
	start  time.Time
	shown  time.Time
}

// Progress starts a progress line; now is the clock (time.Now).
func (s *Screen) Progress(now func() time.Time) *Progress {
	if !s.live {
		return nil
	}
	return &Progress{screen: s, now: now, start: now()}
}

// Show tells that done of total is reached; total 0 means unknown. It is cheap to call often.
func (p *Progress) Show(label string, done, total int64) {
	if p == nil {
		return
	}
	p.screen.mu.Lock()
	defer p.screen.mu.Unlock()
	now := p.now()
	if now.Sub(p.shown) < refresh {
		return
	}
	p.shown = now
	p.screen.eraseLocked()
	_, _ = io.WriteString(p.screen.err, progressLine(Clean(label), done, total, now.Sub(p.start)))
	p.screen.dirty = true
}

// Done removes the line.
func (p *Progress) Done() {
	if p == nil {
		return
	}
	p.screen.mu.Lock()
	defer p.screen.mu.Unlock()
	p.screen.eraseLocked()
}

func (s *Screen) eraseLocked() {
	if s.dirty {
		_, _ = io.WriteString(s.err, "\r\x1b[K")
		s.dirty = false
	}
}

func progressLine(label string, done, total int64, elapsed time.Duration) string {
	if total <= 0 {
		return fmt.Sprintf("%s  %s", label, Span(elapsed))
	}
	done = min(max(done, 0), total)
	share := float64(done) / float64(total)
	const width = 24
	full := int(share * width)
	line := fmt.Sprintf("%s  %s%s %3.0f %%", label, strings.Repeat("█", full), strings.Repeat("░", width-full), share*100)
	if done > 0 && done < total && elapsed > time.Second {
		left := time.Duration(float64(elapsed) * (1 - share) / share)
		line += "  " + Span(left) + " left"
	}
	return line
}
