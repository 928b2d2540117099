package table

import (
	"context"
	"errors"
	"io"
	"time"

	"tablekeeper/storage/ledger"
)

// ScrubOptions: the zero value reads as fast as it can.
type ScrubOptions struct {
	BytesPerSecond int64                                      // 0: no limit
	Progress       func(done, total int64)                    // in bytes, after every MiB
	Wait           func(context.Context, time.Duration) error // how to let time pass; default: a timer
}

// Scrubbed is what a scrub did.
type Scrubbed struct {
	Pages    uint32   // pages read
	Bytes    int64    // bytes read
	Bad      []uint32 // pages whose content does not match their sums, ascending
	Unproven int      // pages whose sums were read from the file, not from what was written to it
}

// scrubPatience is how long a scrub waits for a table that is being recovered: far less than its users, since the recovery may need the lock
// of whoever scrubs.
const scrubPatience = 10 * time.Second

// Scrub compares every page of the main file with the ledger, while reads and writes go on: all that whoever begins to read now would get
// from there. Bad pages are reported as an incident. They are no error of Scrub: the caller gets them all. It may have to wait for a write, so
// that it must not be called from inside one. A table that is being recovered, and does not serve again within ten seconds, is ErrRecovering.
func (t *Table) Scrub(ctx context.Context, opts ScrubOptions) (done Scrubbed, err error) {
	patience := patience{limit: min(t.opts.RecoverWait, scrubPatience)}
	defer patience.end()
	s, err := t.gate.enter(ctx, &patience)
	for err == nil {
		if done, err = s.scrub(ctx, opts, t.gate.serves); ctx.Err() != nil || !s.retired.Load() && !errors.Is(err, ErrRecovering) {
			break
		}
		t.gate.leave(s) // its file is not the table any more, or its recovery waits for us
		s, err = t.gate.enter(ctx, &patience)
	}
	if s == nil {
		return done, &ownedError{t.path, err}
	}
	defer t.gate.leave(s)
	found := t.diagnose(ctx, err)
	if found == nil {
		return done, t.classified(err, nil)
	}
	done.Bad = found.Pages
	if t.opts.OnCorrupt != nil {
		t.incident(ctx, found)
	}
	if len(found.Pages) > 0 {
		return done, nil
	}
	return done, t.classified(err, found)
}

func (s *session) scrub(ctx context.Context, opts ScrubOptions, serves func() bool) (done Scrubbed, err error) {
	if err := s.sameFile(); err != nil {
		return done, err
	}
	// What was moved into the file so far is to be compared. A table in which SQLite can begin nothing is compared all the same.
	behind := s.catchUp(ctx)
	done.Unproven, _ = s.ledger.Unproven()
	var doubt []uint32
	tempo := tempo{rate: opts.BytesPerSecond, wait: opts.Wait, start: time.Now()}
	chunk := make([]byte, max(tailChunk/s.pageSize, 1)*s.pageSize)
	// The table may grow or shrink meanwhile: what is written during the scrub is checked by the next one.
	for p := uint32(1); p <= s.ledger.Pages(); {
		n, bad, err := s.compare(p, chunk)
		if err != nil {
			return done, err
		}
		doubt = append(doubt, bad...)
		p += n
		done.Pages += n
		done.Bytes += int64(n) * s.pageSize
		if opts.Progress != nil {
			opts.Progress(done.Bytes, int64(s.ledger.Pages())*s.pageSize)
		}
		if err := tempo.after(ctx, done.Bytes); err != nil {
			return done, err
		}
		if !serves() {
			return done, ErrRecovering
		}
	}
	if err := s.confirm(ctx, doubt); err != nil {
		return done, err
	}
	return done, behind
}

// catchUp has the ledger know all that was committed and moved until now.
func (s *session) catchUp(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	_, err := s.advance(context.WithoutCancel(ctx), true)
	return err
}

// compare reads pages from p on into chunk, and returns how many there were and which are in doubt.
func (s *session) compare(p uint32, chunk []byte) (n uint32, doubt []uint32, err error) {
	n = min(uint32(int64(len(chunk))/s.pageSize), s.ledger.Pages()-p+1)
	chunk = chunk[:int64(n)*s.pageSize]
	got, err := s.main.ReadAt(chunk, int64(p-1)*s.pageSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return s.compareOneByOne(p, n, chunk)
	}
	clear(chunk[got:])
	for i := range n {
		page := chunk[int64(i)*s.pageSize:][:s.pageSize]
		if !s.ledger.Accepts(p+i, ledger.Sum(page)) {
			doubt = append(doubt, p+i)
		}
	}
	return n, doubt, nil
}

// compareOneByOne finds the page that cannot be read.
func (s *session) compareOneByOne(p, n uint32, chunk []byte) (uint32, []uint32, error) {
	var doubt []uint32
	for i := range n {
		sum, err := s.sumInto(p+i, chunk[:s.pageSize])
		if err != nil || !s.ledger.Accepts(p+i, sum) {
			doubt = append(doubt, p+i)
		}
	}
	return n, doubt, nil
}

// confirm looks once more at pages that did not match: a checkpoint may have been writing them, or the ledger was about to
// learn of it. What is left is damage.
func (s *session) confirm(ctx context.Context, doubt []uint32) error {
	if len(doubt) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	return s.insist(doubt)
}

// insist is confirm; s.mu is held, or nobody else has the session yet.
func (s *session) insist(doubt []uint32) error {
	buf := make([]byte, s.pageSize)
	// Our checkpoints rest. Another process's writes a page in microseconds, and only such versions as are accepted.
	const tries = 4
	var bad []uint32
	for range tries {
		bad = nil
		for _, p := range doubt {
			sum, err := s.sumInto(p, buf)
			if err == nil && s.ledger.Accepts(p, sum) {
				continue
			}
			bad = append(bad, p)
		}
		if len(bad) == 0 {
			return nil
		}
		doubt = bad
	}
	return pagesDamage(bad)
}

// compareMoved compares what was moved by a checkpoint that came to no end, while the WAL still has it. s.mu is held, or nobody else has the
// session yet.
func (s *session) compareMoved() error {
	if !s.halted {
		return nil
	}
	if err := s.insist(s.ledger.Arrived()); err != nil {
		return err
	}
	s.halted = false
	return nil
}

// tempo keeps a loop to a rate.
type tempo struct {
	rate  int64 // bytes a second; 0: none
	wait  func(context.Context, time.Duration) error
	start time.Time
}

func (p *tempo) after(ctx context.Context, bytes int64) error {
	if p.rate <= 0 {
		return ctx.Err()
	}
	due := p.start.Add(time.Duration(float64(bytes) / float64(p.rate) * float64(time.Second)))
	ahead := time.Until(due)
	if ahead <= 0 {
		return ctx.Err()
	}
	if p.wait != nil {
		return p.wait(ctx, ahead)
	}
	return pause(ctx, ahead)
}
