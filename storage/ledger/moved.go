package ledger

import (
	"maps"
	"math"
	"slices"
)

// Moved says how far checkpoints have come: they have moved the first moved frames of gen, and none of those that moved one knew of more
// than the first seen. unstaged are the frames that follow the staged ones, as far as they are known.
//
// From then on a page has its newest version up to moved in the main file, or a staged one that came later, and none from before. SQLite
// passes over a page that has a version between moved and seen, and over one that a commit up to seen has cut off: of those nothing is said.
//
// It is not written down. After a crash more is accepted than need be, until it is said again.
func (l *Ledger) Moved(gen Generation, moved, seen uint32, unstaged []Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.staged + uint32(len(unstaged))
	if gen != l.gen || moved > seen || seen > last || moved <= l.moved {
		return
	}
	moved = min(moved, l.staged)
	type versions struct {
		later  int  // staged ones, behind the frame at hand
		passed bool // those before the frame at hand do not count
	}
	behind := map[uint32]versions{}
	pages := uint32(math.MaxUint32) // that the table keeps from the frame at hand on
	for n := last; n > max(l.moved, l.staged-uint32(len(l.pending))); n-- {
		f := l.frame(n, unstaged)
		if f.Pages > 0 {
			pages = min(pages, f.Pages)
		}
		v := behind[f.Page]
		if n <= moved && !v.passed && f.Page <= pages {
			l.arrive(f.Page, v.later)
		}
		if n <= l.staged {
			v.later++
		}
		v.passed = n <= seen
		behind[f.Page] = v
	}
	l.moved = moved
	l.revision++
}

// Arrived are the pages that have been moved, and not settled, in no order.
func (l *Ledger) Arrived() []uint32 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Collect(maps.Keys(l.arrived))
}

// frame is number n of the pending frames and those that follow them.
func (l *Ledger) frame(n uint32, unstaged []Frame) Frame {
	if n > l.staged {
		return unstaged[n-l.staged-1]
	}
	return l.pending[len(l.pending)-1-int(l.staged-n)]
}

// arrive forgets what a page was before the version that has so many staged ones behind it.
func (l *Ledger) arrive(page uint32, later int) {
	if l.arrived == nil {
		l.arrived = make(map[uint32]bool)
	}
	l.arrived[page] = true
	l.reach = max(l.reach, page)
	l.versions[page] = l.versions[page][len(l.versions[page])-1-later:]
}

// depart is for a commit that cuts the table: beyond so many pages the main file may have none.
func (l *Ledger) depart(pages uint32) {
	if pages >= l.reach {
		return
	}
	l.reach = 0
	for p := range l.arrived {
		if p > pages {
			delete(l.arrived, p)
		} else {
			l.reach = max(l.reach, p)
		}
	}
}
