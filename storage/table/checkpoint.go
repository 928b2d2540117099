package table

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tablekeeper/storage/ledger"
)

// # How the ledger stays true
//
// The main file changes only when a checkpoint, ours or another process's, moves frames of the WAL into it. SQLite never moves
// a frame that is newer than the snapshot of an open read transaction. So one is always open, the pin: nobody can move what is
// not in the ledger yet. Time passes in these steps, each of which may be the last before a crash:
//
//	advance:    a second transaction begins, at a newer snapshot
//	            the frames up to it are read, their checksums checked, their sums made durable in the ledger
//	            the first transaction ends
//	checkpoint: frames up to the pin are moved and synced
//	settle:     if that was the whole WAL, the old sums are forgotten
//	advance:    once the whole WAL is moved, the pin no longer needs it, and the next writer starts it anew
//
// A checkpoint that stops short has moved some pages for good, all the same: whoever begins to read now has them from the main file. So the
// ledger is told how far it came, by each advance, and what those pages were before is accepted no more.
//
// When the WAL starts anew, all frames of its last generation had been moved, hence were pinned, hence staged. Nothing is
// ever missed, whatever other processes do meanwhile.

// hold begins a read transaction.
func (c *conn) hold(ctx context.Context) error {
	if err := c.exec(ctx, "BEGIN"); err != nil {
		return err
	}
	var cookie int64
	if err := c.row(ctx, "PRAGMA schema_version", &cookie); err != nil { // takes the snapshot
		return errors.Join(err, c.letGo(ctx))
	}
	return nil
}

func (c *conn) letGo(ctx context.Context) error { return c.exec(ctx, "ROLLBACK") }

// walCheckpoint runs a checkpoint in a mode (https://sqlite.org/pragma.html#pragma_wal_checkpoint). frames is the length of the
// WAL, moved how much of it is in the main file.
func (c *conn) walCheckpoint(ctx context.Context, mode string) (frames, moved int64, err error) {
	var busy int64
	err = c.row(ctx, "PRAGMA wal_checkpoint("+mode+")", &busy, &frames, &moved)
	return frames, moved, err
}

// advance moves the pin to the present, and stages what was committed since. check looks at the pages that are about to be
// overwritten. It returns how many frames it staged. s.mu is held.
func (s *session) advance(ctx context.Context, check bool) (staged int, err error) {
	if err := s.spare.hold(ctx); err != nil {
		return 0, fmt.Errorf("move the pin: %w", err)
	}
	staged, err = s.stage(ctx, check)
	if errors.Is(err, errShort) {
		// Unless the WAL was started anew just now: once, since the spare's transaction keeps what follows from being moved.
		staged, err = s.stage(ctx, check)
	}
	if err != nil {
		return 0, errors.Join(err, s.spare.letGo(ctx))
	}
	err = s.pin.letGo(ctx)
	s.pin, s.spare = s.spare, s.pin
	s.turning.Store(true)
	return staged, err
}

var errShort = errors.New("frames that were committed fail their checksums")

// length is how many frames SQLite calls committed, and how many of them were moved at that moment or soon after.
func (s *session) length(ctx context.Context) (frames, moved int64, err error) {
	const tries = 1000
	for n := 0; ; n++ {
		frames, moved, err = s.gauge.walCheckpoint(ctx, "NOOP")
		if err == nil && frames >= 0 && moved >= 0 {
			return frames, moved, nil
		}
		// SQLite does not wait here for somebody who announces a commit at this moment.
		if err == nil && n == tries {
			err = ErrBusy
		}
		if err == nil {
			err = pause(ctx, time.Millisecond)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("measure the WAL: %w", err)
		}
	}
}

// progress is how far checkpoints have come in a generation of the WAL: those that moved so many frames knew of no more than seen.
type progress struct {
	gen         ledger.Generation
	moved, seen int64
}

// move moves what it may into the main file. frames is the length of the WAL, moved how much of it was moved, by whomever.
func (s *session) move(ctx context.Context) (frames, moved int64, err error) {
	frames, moved, err = s.spare.walCheckpoint(ctx, "PASSIVE")
	if err != nil {
		return frames, moved, fmt.Errorf("checkpoint: %w", err)
	}
	// A generation that the tail does not know has nothing that may be moved.
	s.moved = progress{s.tail.gen, moved, frames}
	s.tell(s.moved, nil)
	return frames, moved, nil
}

// tell has the ledger know what was moved. frames are those that it does not know yet; if there are more, it waits to be told again.
func (s *session) tell(p progress, frames []ledger.Frame) {
	if p.gen == s.tail.gen && p.moved > 0 {
		s.ledger.Moved(p.gen, uint32(p.moved), uint32(p.seen), frames)
	}
}

// stage makes the sums of the frames that were committed since the last time durable.
func (s *session) stage(ctx context.Context, check bool) (int, error) {
	// Whoever has moved so much by now knew of no more than what is committed a moment later.
	was := s.tail.gen
	_, moved, err := s.length(ctx)
	if err != nil {
		return 0, err
	}
	length, _, err := s.length(ctx)
	if err != nil {
		return 0, err
	}
	frames, err := s.tail.read(length)
	if err != nil {
		return 0, err
	}
	if got := s.tail.frame; int64(got) < length {
		s.tail.rewind()
		return 0, &damage{Cause: CauseWAL, Err: fmt.Errorf("of %d frames of the WAL %d can be read: %w", length, got, errShort)}
	}
	// Before it learns of frames that may have been made from what was moved.
	s.tell(s.moved, frames)
	s.tell(progress{was, moved, length}, frames)
	if len(frames) == 0 {
		return 0, nil
	}
	if err := s.record(frames, check); err != nil {
		s.tail.rewind()
		return 0, err
	}
	s.noted.Store(pack(s.tail.gen))
	return len(frames), nil
}

func (s *session) record(frames []ledger.Frame, check bool) error {
	if err := s.turn(s.tail.gen); err != nil {
		return err
	}
	if check {
		if err := s.unread(frames); err != nil {
			return err
		}
	}
	// Another process may commit without syncing. What the ledger says was there must be there after a power cut, too.
	if err := s.tail.file.Sync(); err != nil {
		return fmt.Errorf("sync the WAL: %w", err)
	}
	return s.ledger.Stage(s.tail.gen, s.tail.frame-uint32(len(frames))+1, frames)
}

// turn notes that the WAL has started anew. All frames of its last generation are then in the main file, whoever moved them.
func (s *session) turn(gen ledger.Generation) error {
	if was, _ := s.ledger.Position(); was == gen {
		return nil
	}
	if err := s.ledger.Settle(s.readSum); err != nil {
		return err
	}
	s.due.Store(s.full)
	return s.ledger.Stage(gen, 1, nil)
}

// unread checks the pages that the frames will overwrite: a flip in one of them may be in the frame, too, and could
// not be seen afterwards.
func (s *session) unread(frames []ledger.Frame) error {
	pages := make([]uint32, 0, len(frames))
	for _, f := range frames {
		pages = append(pages, f.Page)
	}
	slices.Sort(pages)
	pages = slices.Compact(pages)
	known := s.ledger.Pages()
	pages = slices.DeleteFunc(pages, func(p uint32) bool { return p > known || s.ledger.InFlight(p) })
	var bad []uint32
	buf := make([]byte, readRun*s.pageSize)
	for len(pages) > 0 {
		n := 1
		for n < len(pages) && n < readRun && pages[n] == pages[0]+uint32(n) {
			n++
		}
		_, doubt, err := s.compare(pages[0], buf[:int64(n)*s.pageSize])
		if err != nil {
			return err
		}
		bad = append(bad, doubt...)
		pages = pages[n:]
	}
	if len(bad) == 0 {
		return nil
	}
	found := pagesDamage(bad)
	found.InFlight = s.carriers(found.Pages)
	return found
}

// readRun is how many pages that follow each other are read at once.
const readRun = 16

// settle moves all that is in the WAL into the main file. It reports whether it did; readers, and writers of other processes,
// may have been in the way. s.mu is held, and the right to write, or nobody writes.
func (s *session) settle(ctx context.Context, check bool) (bool, error) {
	const tries = 3
	for range tries {
		if _, err := s.advance(ctx, check); err != nil {
			return false, err
		}
		frames, moved, err := s.move(ctx)
		if err != nil {
			return false, err
		}
		// A length of 0 is a WAL that was emptied, when all of it was moved. -1 is somebody else's checkpoint, going on.
		if moved == int64(s.tail.frame) && moved == frames || frames == 0 {
			if err := s.compareMoved(); err != nil {
				return false, err
			}
			if err := s.ledger.Settle(s.readSum); err != nil {
				return false, err
			}
			_, err = s.advance(ctx, check)
			return err == nil && len(s.ledger.Staged()) == 0, err
		}
		if moved < int64(s.tail.frame) {
			s.halted = true
			return false, nil // a reader needs the frames
		}
	}
	return false, nil
}

// bulk moves what it can without stopping anybody, so that settle has little left to do while the writers wait.
func (s *session) bulk(ctx context.Context) error {
	staged, err := s.advance(ctx, true)
	if err != nil || staged == 0 && !s.halted {
		return err
	}
	frames, moved, err := s.move(ctx)
	if err == nil && (moved == int64(s.tail.frame) || frames == 0) { // frames: as in settle
		err = s.compareMoved()
	}
	if err != nil {
		return err
	}
	// SQLite syncs only a checkpoint that reached the end of the WAL, and somebody goes on writing.
	return flush(s.main)
}

// Checkpoint moves what is in the WAL into the main file, as far as readers and other processes let it. The table does so by
// itself; it is for those who need the main file up to date. settled reports whether all of it was moved.
func (t *Table) Checkpoint(ctx context.Context) (settled bool, err error) {
	err = t.operate(ctx, func(s *session) error {
		settled, err = t.checkpoint(ctx, s)
		return err
	})
	return settled, err
}

func (t *Table) checkpoint(ctx context.Context, s *session) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, nil
	}
	if err := s.sameFile(); err != nil {
		return false, err
	}
	whole := context.WithoutCancel(ctx) // half a step would leave the pin in the air
	// Until the WAL starts anew it only grows, whether it was settled or something is in the way.
	defer func() { s.due.Store(int64(s.tail.frame) + s.full) }()
	// A reader that was in the way, and is, need not stop the writers, who would wait while all that was moved is compared.
	if err := s.bulk(whole); err != nil || s.halted {
		return false, err
	}
	release, err := t.writeLock(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	s.dirty.Store(false)
	return s.settle(whole, true)
}

// afterCommit looks at the WAL after a commit: it notes a new generation in the ledger, so that after a crash the WAL is known
// for the one that followed, and reports whether a checkpoint is due.
func (s *session) afterCommit() (full bool, err error) {
	// A WAL starts anew only once all of it was moved, and that takes a pin that was moved before.
	if s.turning.CompareAndSwap(true, false) {
		gen, err := walGeneration(s.tail.file)
		if err == nil && gen != unpack(s.noted.Load()) && gen != (ledger.Generation{}) {
			err = s.turn(gen)
			s.noted.Store(pack(gen))
		} else {
			s.turning.Store(true)
		}
		if err != nil {
			s.turning.Store(true)
			return false, err
		}
	}
	return reaches(s.tail.file, unpack(s.noted.Load()), s.pageSize, s.due.Load())
}

func unpack(g uint64) ledger.Generation {
	return ledger.Generation{Salt1: uint32(g >> 32), Salt2: uint32(g)}
}

func pack(g ledger.Generation) uint64 { return uint64(g.Salt1)<<32 | uint64(g.Salt2) }

// keep looks after the table until ctx ends: checkpoints when the WAL is long or nobody writes, and a look at the files.
func (t *Table) keep(ctx context.Context) {
	idle, probe := time.NewTimer(t.opts.Idle), time.NewTicker(max(t.opts.ProbeEvery, time.Millisecond))
	idle.Stop()
	defer idle.Stop()
	defer probe.Stop()
	if t.opts.ProbeEvery < 0 {
		probe.Stop()
	}
	var commits int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.kick:
			commits = t.commits.Load()
			idle.Reset(t.opts.Idle)
			t.tend(ctx, t.whenFull)
		case <-idle.C:
			if now := t.commits.Load(); now != commits {
				commits = now
				idle.Reset(t.opts.Idle)
				continue
			}
			t.tend(ctx, func(ctx context.Context, s *session) error { _, err := t.checkpoint(ctx, s); return err })
		case <-probe.C:
			t.tend(ctx, t.look)
		}
	}
}

// tend does one piece of upkeep, if the table serves.
func (t *Table) tend(ctx context.Context, work func(context.Context, *session) error) {
	s := t.gate.enterNow()
	if s == nil {
		return
	}
	defer t.gate.leave(s)
	err := work(ctx, s)
	if err == nil || ctx.Err() != nil || s.retired.Load() {
		return
	}
	if found := t.diagnose(ctx, err); found != nil && t.opts.OnCorrupt != nil {
		t.incident(ctx, found)
		return
	}
	t.log.Warn("upkeep of the table", "error", err)
}

func (t *Table) whenFull(ctx context.Context, s *session) error {
	if full, err := s.afterCommit(); !full {
		return err
	}
	_, err := t.checkpoint(ctx, s)
	return err
}

// look probes the files, and checkpoints what others have written.
func (t *Table) look(ctx context.Context, s *session) error {
	if err := s.probe(ctx); err != nil {
		return err
	}
	return t.whenFull(ctx, s)
}
