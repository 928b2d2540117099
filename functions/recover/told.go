package recover

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"tablekeeper/storage/shelf"
)

// # A loss is told though the process dies
//
// What a recovery is about to say is kept beside the table before anything is replaced (Outcome), and from the moment at which the table serves
// again until the caller has recorded the report (Untold; see shelf.Told). Each of the two changes hands in one write:
//
//	announce  Outcome: if the file is found in place, this is what was done
//	place     the file
//	end       Outcome leaves, Untold comes; only then is the state changed
//	          the caller records the report, and says so
//
// A process that dies in between leaves one of the two. Its successor tells of it: by the recovery that goes on, or by one that only tells. So
// a loss may be told twice, under the same name, and never not at all.

// told are the reports that this process has handed to its caller, who is alive to record them.
type told struct {
	mu    sync.Mutex
	names map[string]bool
}

func (t *told) hand(names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.names == nil {
		t.names = map[string]bool{}
	}
	for _, name := range names {
		t.names[name] = true
	}
}

func (t *told) has(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.names[name]
}

// untold are the reports of earlier processes that may have been recorded nowhere.
func (f *Function) untold(path string) []shelf.Untold {
	return slices.DeleteFunc(shelf.ReadRecovery(path).Untold, func(u shelf.Untold) bool { return f.handed.has(u.Name) })
}

// name gives the report its name, by which it is forgotten when it has been recorded.
func (r *recovery) name() {
	if r.Remember && len(r.entry.Recoveries) == 0 {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails: it would rather crash the program
		r.entry.Recoveries = []string{hex.EncodeToString(b[:])}
	}
}

// add tells in this report what earlier ones may not have been able to.
func (r *recovery) add(earlier []shelf.Untold) {
	for _, u := range earlier {
		var e Entry
		if slices.Contains(r.entry.Recoveries, u.Name) || json.Unmarshal(u.Report, &e) != nil {
			continue
		}
		r.entry.Recoveries = append(r.entry.Recoveries, u.Name)
		r.note(fmt.Sprintf("an earlier recovery was interrupted before it was recorded: %s by %s", e.Status, e.Rung))
		if e.Lost == "" {
			continue
		}
		if r.entry.Lost == "" || !r.entry.LostSince.IsZero() && e.LostSince.Before(r.entry.LostSince) {
			r.entry.LostSince = e.LostSince
		}
		if r.entry.LostRows == nil || e.LostRows == nil {
			r.entry.LostRows = nil
		} else {
			both := *r.entry.LostRows + *e.LostRows
			r.entry.LostRows = &both
		}
		r.entry.Lost = joinLosses(r.entry.Lost, e.Lost)
	}
}

// remember has the report told by whoever comes after a crash. It is part of a change of what is kept.
func (r *recovery) remember(k *shelf.Recovery) error {
	if !r.Remember {
		return nil
	}
	report, err := json.Marshal(r.entry)
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	// Those that this one tells of are in it.
	k.Untold = slices.DeleteFunc(k.Untold, func(u shelf.Untold) bool { return slices.Contains(r.entry.Recoveries, u.Name) })
	k.Untold = append(k.Untold, shelf.Untold{Name: r.entry.Recoveries[0], Report: report})
	return nil
}

// tell makes the report that an earlier process could not hand in. The table is not touched.
func (r *recovery) tell() error {
	earlier := r.untold(r.table.Path)
	if len(earlier) == 0 {
		r.entry.Skip("told", "every recovery of the table is in the records")
		return nil
	}
	first := earlier[0]
	if err := json.Unmarshal(first.Report, r.entry); err != nil {
		return fmt.Errorf("read the report of an earlier recovery: %w", err)
	}
	r.note("the process that recovered the table ended before this was recorded")
	r.add(earlier[1:])
	r.handed.hand(r.entry.Recoveries)
	return nil
}
