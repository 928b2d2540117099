package table

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"

	"tablekeeper/storage/ledger"
)

// open opens the file and brings the ledger up to it.
func (t *Table) open(ctx context.Context, opts AttachOptions) (*session, error) {
	f, err := t.inspect(ctx)
	if err != nil {
		return nil, err
	}
	if opts.LedgerHolds && f.trust == doubtful && !hasWAL(t.path) {
		f.trust = certain
	}
	s := &session{path: t.path, id: f.id, main: f.main, ledger: f.ledger}
	if err := s.start(ctx, t, f, opts); err != nil {
		if f.trust == certain {
			err = errors.Join(err, s.surrender(context.WithoutCancel(ctx)), s.ledger.Distrust(s.tainted))
			t.learn(s.findings(false))
		}
		return nil, errors.Join(err, s.abandon())
	}
	if f.trust == certain && (!opts.Trusted || f.moved) {
		err = s.verify(ctx, t.opts.VerifyBytes, f.moved)
	}
	if err == nil {
		err = s.pools(ctx, t.opts)
	}
	if err == nil && s.tail.frame > 0 {
		s.halted = true // if somebody else has the table open, what was moved before is not moved again
		_, err = s.settle(ctx, true)
	}
	if err != nil {
		// In good order, with the evidence: the next one to open the file must find what is wrong, too.
		_, closeErr := s.close(context.WithoutCancel(ctx), true)
		t.learn(s.found)
		return nil, errors.Join(err, closeErr)
	}
	return s, nil
}

func hasWAL(path string) bool {
	info, err := os.Lstat(path + "-wal")
	return err == nil && info.Size() > 0
}

// abandon closes what start opened.
func (s *session) abandon() error {
	err := errors.Join(closeDB(s.readers), closeDB(s.writer), s.closeKeepers())
	if s.tail.file != nil {
		err = errors.Join(err, s.tail.file.Close())
	}
	if s.ledger != nil {
		err = errors.Join(err, s.ledger.Close())
	}
	return errors.Join(err, s.main.Close())
}

// start sets the pin, and reconciles the ledger with what the file and the WAL are from that moment on.
func (s *session) start(ctx context.Context, t *Table, f *found, opts AttachOptions) (err error) {
	if s.pin, err = keeper(ctx, t.path, t.opts.BusyTimeout); err != nil {
		return err
	}
	var mode string
	if err := s.pin.row(ctx, "PRAGMA journal_mode=WAL", &mode); err != nil || mode != "wal" {
		return errors.Join(fmt.Errorf("switch to WAL mode: it stays %q", mode), err)
	}
	for _, c := range []**conn{&s.spare, &s.gauge} {
		if *c, err = keeper(ctx, t.path, t.opts.BusyTimeout); err != nil {
			return err
		}
	}
	if err := s.measure(t.opts.CheckpointBytes); err != nil {
		return err
	}
	if err := s.pin.hold(ctx); err != nil {
		return err
	}
	s.turning.Store(true)
	if s.tail.file, err = os.Open(s.path + "-wal"); err != nil {
		return err
	}
	length, _, err := s.length(ctx)
	if err != nil {
		return err
	}
	frames, err := s.tail.read(length)
	if err != nil {
		return err
	}
	if f.trust != certain {
		if s.ledger != nil && !opts.LossTold && s.neverMoved() {
			return &damage{Cause: CauseWAL, Err: errors.New("the WAL is gone with committed frames that had not been moved into the file")}
		}
		return s.adopt(ctx, t, f, frames)
	}
	return s.join(frames, f)
}

// measure reads the header again: a new table has one only now.
func (s *session) measure(checkpointBytes int64) error {
	info, err := s.main.Stat()
	if err != nil {
		return err
	}
	h, err := headerOf(s.main, info)
	if err != nil {
		return &damage{Cause: CauseHeader, Err: err}
	}
	s.pageSize, s.tail.pageSize = h.pageSize, h.pageSize
	s.full = max(checkpointBytes/(h.pageSize+walFrameSize), 1)
	s.due.Store(s.full)
	return nil
}

// join is for a file that nobody else has touched: the WAL goes on where the ledger ends, or is a new one.
func (s *session) join(frames []ledger.Frame, f *found) error {
	gen, staged := s.ledger.Position()
	if s.tail.gen != gen {
		staged = 0
		if gen != (ledger.Generation{}) && s.tail.frame > 0 {
			return fmt.Errorf("the WAL of %s was started anew while it was opened: %w", s.path, ErrBusy)
		}
	}
	if s.tail.frame < staged {
		return &damage{Cause: CauseWAL, Err: fmt.Errorf("the WAL had %d committed frames, of which %d can be read", staged, s.tail.frame)}
	}
	pending := s.ledger.Staged()
	for i, p := range pending {
		if at := int(staged) - len(pending) + i; at < 0 || frames[at] != p {
			return &damage{Cause: CauseWAL, Err: errors.New("the frames of the WAL are not those that were committed")}
		}
	}
	if len(frames) > int(staged) {
		if err := s.unread(frames[staged:]); err != nil {
			return err
		}
		if err := s.ledger.Stage(s.tail.gen, staged+1, frames[staged:]); err != nil {
			return err
		}
	}
	s.noted.Store(pack(s.tail.gen))
	if f.moved {
		return nil // bound to its new inode once it has been compared
	}
	return s.sameFile()
}

// adopt takes the file as it is, if SQLite finds nothing wrong with it.
func (s *session) adopt(ctx context.Context, t *Table, f *found, frames []ledger.Frame) error {
	if !f.fresh {
		if err := s.check(ctx); err != nil {
			return err
		}
	}
	if s.ledger == nil {
		l, err := ledger.Create(ledgerPath(t.path), ledger.Options{PageSize: uint32(s.pageSize), Inode: s.id.Ino, Now: t.opts.Clock()})
		if err != nil {
			return err
		}
		s.ledger = l
	}
	read, pages, err := s.reread(ctx, frames)
	if err != nil {
		return err
	}
	if err := s.ledger.Readopt(read, pages, s.tail.gen, frames, t.opts.Clock()); err != nil {
		return err
	}
	s.noted.Store(pack(s.tail.gen))
	if f.fresh {
		return s.ledger.Prove()
	}
	if len(read) > 0 {
		t.log.Warn("pages changed while the table was not open here, or their past is unknown: they are unproven until they are written again",
			"pages", len(read), "of", pages, "known", f.trust != absent)
	}
	return nil
}

// neverMoved tells that of the frames that the ledger has staged not one is in the file, and that nobody has written to their pages either.
// Whoever else opened the table would have had SQLite move them first.
func (s *session) neverMoved() bool {
	after, before := s.ledger.Final(math.MaxUint32, nil), s.ledger.Final(0, nil)
	lost := false
	for _, f := range s.ledger.Staged() {
		p := int(f.Page)
		if p > len(before) || p > len(after) || before[p-1] == after[p-1] {
			continue
		}
		if sum, err := s.readSum(f.Page); err != nil || sum != before[p-1] {
			return false
		}
		lost = true
	}
	return lost
}

// check is SQLite's own check, in the pin's transaction.
func (s *session) check(ctx context.Context) error {
	var first string
	if err := s.pin.row(ctx, "PRAGMA integrity_check(1)", &first); err != nil {
		return err
	}
	if first != "ok" {
		return &damage{Cause: CauseCheck, Err: &CorruptError{Path: s.path, Problems: []string{first}}}
	}
	return nil
}

// reread finds the pages of the main file that the ledger has not, or has otherwise. Those that the WAL holds too may be
// written by another process's checkpoint at this moment: what they are now is left open until they are settled.
func (s *session) reread(ctx context.Context, frames []ledger.Frame) (read map[uint32]uint32, pages uint32, err error) {
	moving := make(map[uint32]bool, len(frames))
	for _, f := range frames {
		moving[f.Page] = true
	}
	if pages, err = s.pagesNow(len(frames) > 0); err != nil {
		return nil, 0, err
	}
	read = make(map[uint32]uint32)
	buf := make([]byte, s.pageSize)
	for p := uint32(1); p <= pages; p++ {
		if p%1024 == 0 && ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
		if moving[p] {
			read[p] = 0
			continue
		}
		sum, err := s.sumInto(p, buf)
		if err != nil {
			return nil, 0, err
		}
		if want, known := s.ledger.Settled(p); !known || want != sum {
			read[p] = sum
		}
	}
	return read, pages, nil
}

// pagesNow is the size of the main file. Its header is right if there is nothing in the WAL.
func (s *session) pagesNow(inWAL bool) (uint32, error) {
	info, err := s.main.Stat()
	if err != nil {
		return 0, err
	}
	h, err := headerOf(s.main, info)
	if err != nil {
		return 0, &damage{Cause: CauseHeader, Err: err}
	}
	if inWAL {
		return uint32(info.Size() / s.pageSize), nil
	}
	return uint32(h.pageCount(info.Size())), nil
}

// verify compares pages with the ledger: all of them if the file is not larger than limit bytes or all is set, else the first,
// the last and some between.
func (s *session) verify(ctx context.Context, limit int64, all bool) error {
	if err := s.sameFile(); err != nil {
		return err
	}
	pages := s.ledger.Pages()
	step := uint32(1)
	if size := int64(pages) * s.pageSize; !all && size > limit {
		step = uint32((size + limit - 1) / limit)
	}
	var bad []uint32
	buf := make([]byte, s.pageSize)
	for p := uint32(1); p <= pages; p = min(p+step, max(pages, p+1)) {
		if p%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		sum, err := s.sumInto(p, buf)
		if err != nil {
			return err
		}
		if !s.ledger.Accepts(p, sum) {
			bad = append(bad, p)
		}
	}
	switch {
	case !all:
		return s.confirm(ctx, bad)
	case len(bad) > 0:
		return &damage{Cause: CauseReplaced, Pages: bad, Err: errors.New("another file has taken the table's name while it was closed")}
	}
	return s.ledger.Rebind(s.id.Ino)
}
