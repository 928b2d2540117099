package table

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"slices"
)

// Findings are what was learnt of a damaged table when its files were closed.
type Findings struct {
	// Carried are the pages, ascending, whose newest version may have been made from a damaged one: no content of them is known to be right.
	Carried []uint32
	// Settled: all that was committed is in the main file and in the ledger. What differs is damaged.
	Settled bool
	// ShortWAL: commits were acknowledged of which not every frame can be read any more.
	ShortWAL bool
}

// Findings are those of the last time that the files of the table were closed because they were damaged; zero if that was before this
// handle was opened.
func (t *Table) Findings() Findings {
	t.swapping.Lock()
	defer t.swapping.Unlock()
	return t.found
}

// learn keeps what was learnt, beside what is known of the same damage. t.swapping is held, or nobody else has the handle yet.
func (t *Table) learn(f Findings) {
	f.ShortWAL = f.ShortWAL || t.found.ShortWAL
	f.Carried = union(f.Carried, t.found.Carried)
	t.found = f
}

// surrender makes the ledger know everything that was committed to a damaged table. It begins no transaction, which SQLite may not be able
// to any more: it reads the WAL itself, from its first frame. The pin must still be where it was, so that nothing has been moved that the
// ledger does not know. It may be called again.
//
// What closes the connections afterwards moves the WAL into the main file, as it pleases SQLite. A page that the ledger did not know by
// then would pass for a damaged one, and an older version of it, from a backup, for what was lost.
func (s *session) surrender(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed { // by a cut that left neither file usable
		return nil
	}
	_, err := s.surrenderLocked(ctx)
	return err
}

// surrenderLocked returns what the WAL has.
func (s *session) surrenderLocked(ctx context.Context) (*overlay, error) {
	if err := s.needTail(); s.tail.file == nil || err != nil {
		return &overlay{}, err
	}
	length := int64(math.MaxInt64)
	if s.gauge != nil {
		if n, _, err := s.length(ctx); err == nil {
			length = n
		}
	}
	if length == 0 {
		return &overlay{}, nil // it was emptied, when all of it had been moved
	}
	o, err := readOverlay(s.tail.file, s.pageSize, length)
	if err != nil {
		s.found.ShortWAL = true
		return &overlay{}, nil //nolint:nilerr // what cannot be read is lost, and that is said
	}
	if length < math.MaxInt64 && int64(len(o.frames)) < length {
		s.found.ShortWAL = true
	}
	s.tainted = append(s.tainted, o.carriers(s.main, s.ledger, o.pages())...)
	return o, s.stageAll(o)
}

// needTail finds the WAL of a session that came to nothing before it had looked for it. There may be none.
func (s *session) needTail() error {
	if s.tail.file != nil {
		return nil
	}
	s.pageSize = int64(s.ledger.PageSize())
	s.tail.pageSize = s.pageSize
	f, err := os.Open(s.path + "-wal")
	if err == nil {
		s.tail.file = f
	}
	return ignoreMissing(err)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// carriers are those of the pages that have taken damage over into the WAL. They are remembered.
func (s *session) carriers(pages []uint32) []uint32 {
	if len(pages) == 0 {
		return nil
	}
	carried := pages // unless the WAL says otherwise
	if o, err := readOverlay(s.tail.file, s.pageSize, math.MaxInt64); err == nil {
		carried = o.carriers(s.main, s.ledger, pages)
	}
	s.tainted = append(s.tainted, carried...)
	return carried
}

// findings closes the account of what was learnt.
func (s *session) findings(settled bool) Findings {
	slices.Sort(s.tainted)
	s.found.Carried, s.found.Settled = slices.Compact(s.tainted), settled
	return s.found
}

// stageAll stages what the ledger does not have yet of a whole WAL.
func (s *session) stageAll(o *overlay) error {
	gen, staged := s.ledger.Position()
	if o.tail.gen != gen {
		staged = 0
	}
	s.tail = o.tail
	if len(o.frames) <= int(staged) {
		return nil
	}
	return s.record(o.frames[staged:], false)
}

// give moves what has been surrendered into the main file, as far as readers let it, and reports whether that was all.
func (s *session) give(ctx context.Context) (bool, error) {
	was := s.movedBefore(ctx)
	o, err := s.surrenderLocked(ctx)
	if err != nil {
		return false, err
	}
	if s.gauge == nil || s.tail.file == nil {
		return false, nil
	}
	s.rewrite(ctx, o, was)
	if s.pin != nil {
		_ = s.pin.letGo(ctx) // it may have no transaction
	}
	frames, moved, err := s.gauge.walCheckpoint(ctx, "PASSIVE")
	if err != nil { // what closes the connections tries it again, and must not be the first to succeed
		frames, moved, err = s.gauge.walCheckpoint(ctx, "PASSIVE")
	}
	if err != nil || s.found.ShortWAL {
		return false, nil //nolint:nilerr // then it stays in the WAL, or whoever closes that moves it: the ledger has it
	}
	if frames != 0 && (moved != frames || moved != int64(s.tail.frame)) {
		return false, nil
	}
	return true, s.ledger.Settle(s.readSum)
}
