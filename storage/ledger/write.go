package ledger

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// logSlack is how long, in bytes, a log may always get before it is folded into the sums.
const logSlack = 64 << 10

// Stage records, durably, that the frames first, first+1, ... of the WAL generation gen may from now on be in the main file.
// The frames must be committed and follow those staged before. No frames at all note that the generation exists, which
// need not survive a power cut. Errors: ErrGeneration.
func (l *Ledger) Stage(gen Generation, first uint32, frames []Frame) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if gen == l.gen && len(frames) == 0 {
		return nil
	}
	r := record{kind: kindStage, gen: gen, first: first, frames: frames}
	if err := l.admit(r); err != nil {
		return fmt.Errorf("ledger %s: %w", l.path, err)
	}
	if err := l.log(r, len(frames) > 0); err != nil {
		return fmt.Errorf("ledger %s: stage %d frames: %w", l.path, len(frames), err)
	}
	l.stage(r)
	return nil
}

// Settle says that a checkpoint ended with all that is staged, which was the whole WAL, in the main file and synced. grown is
// called for each page that the table has gained without a frame (SQLite never writes the page at 1 GiB), and returns the
// sum of what is there now; if it cannot, the page stays unknown.
func (l *Ledger) Settle(grown func(page uint32) (uint32, error)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) == 0 {
		return nil
	}
	before := l.certain()
	l.settle()
	r := record{kind: kindSettle, gen: l.gen, first: l.staged}
	for p := before; p < len(l.im.sums); p++ {
		if l.im.sums[p] != 0 {
			continue
		}
		if sum, err := grown(uint32(p + 1)); err == nil {
			l.im.sums[p] = sum
			r.frames = append(r.frames, Frame{Page: uint32(p + 1), Sum: sum})
		}
	}
	// Not synced: without this record more is accepted than need be, and nothing less.
	err := l.log(r, false)
	if err == nil && l.size-l.base > logSlack+int64(len(l.im.sums))*SumSize/2 {
		err = l.fold()
	}
	if err != nil {
		return fmt.Errorf("ledger %s: settle: %w", l.path, err)
	}
	return nil
}

// log appends a record to the file. If that does not succeed, what the file holds past its last whole record is unknown:
// the next write makes the file anew.
func (l *Ledger) log(r record, sync bool) error {
	if l.torn {
		if err := l.fold(); err != nil {
			return err
		}
	}
	b, next := r.append(nil, l.last)
	l.torn = true
	if _, err := l.file.WriteAt(b, l.size); err != nil {
		return err
	}
	if sync {
		if err := l.file.Sync(); err != nil {
			return err
		}
	}
	l.torn, l.last = false, next
	l.size += int64(len(b))
	return nil
}

// Fold writes the ledger anew without its log. clean is what to remember of the files beside it; the zero Clean if the table
// stays open.
func (l *Ledger) Fold(clean Clean) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if clean != (Clean{}) && len(l.pending) > 0 {
		return fmt.Errorf("ledger %s: %d frames are not settled", l.path, len(l.pending))
	}
	l.im.clean = clean
	if clean != (Clean{}) {
		l.gen, l.staged = Generation{}, 0 // the WAL is empty: its next generation is any
	}
	if err := l.fold(); err != nil {
		return fmt.Errorf("ledger %s: fold: %w", l.path, err)
	}
	return nil
}

// Closing is a Fold before the table is closed, when everything that was staged is settled: the WAL may still be there afterwards, or not.
func (l *Ledger) Closing(clean Clean) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) > 0 {
		return fmt.Errorf("ledger %s: %d frames are not settled", l.path, len(l.pending))
	}
	l.im.clean = clean
	if err := l.fold(); err != nil {
		return fmt.Errorf("ledger %s: fold: %w", l.path, err)
	}
	return nil
}

func (l *Ledger) fold() (err error) {
	l.im.folds++
	l.im.unproven = l.unproven.ranges(maxRanges)
	b := l.im.append(nil)
	base := int64(len(b))
	chain := chainOf(b)
	if l.gen != (Generation{}) {
		r := record{kind: kindStage, gen: l.gen, first: l.staged - uint32(len(l.pending)) + 1, frames: l.pending}
		b, chain = r.append(b, chain)
	}
	file, err := l.disk.Create(l.path + ".tmp")
	if err != nil {
		return err
	}
	if _, err = file.WriteAt(b, 0); err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = l.disk.Rename(l.path+".tmp", l.path)
	}
	if err != nil {
		// The rename may have happened without being durable; the file in hand is the old one, so the next write tries again.
		l.torn = true
		return errors.Join(err, file.Close())
	}
	old := l.file
	l.file, l.base, l.size, l.last, l.torn = file, base, int64(len(b)), chain, false
	if old != nil {
		_ = old.Close() // replaced; nothing is lost with it
	}
	return nil
}

// Readopt takes over what a fresh reading of the main file found after the table had been changed by others: its size, and the
// sum of each page for which Settled has another, or none. Those that were not staged either are unproven from now on. The
// frames of the WAL as it is, from its first, are staged in the same step.
func (l *Ledger) Readopt(found map[uint32]uint32, pages uint32, gen Generation, frames []Frame, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resize(int(pages))
	for page, sum := range found {
		l.setSum(page, sum)
		if !slices.Contains(l.versions[page], sum) {
			l.unproven.add(page)
		}
	}
	l.pending, l.least, l.versions, l.gen, l.staged = nil, 0, nil, Generation{}, 0
	l.depart(0)
	if len(found) > 0 {
		l.im.since = now.UnixMilli()
	}
	if gen != (Generation{}) {
		r := record{kind: kindStage, gen: gen, first: 1, frames: frames}
		if err := l.admit(r); err != nil {
			return fmt.Errorf("ledger %s: %w", l.path, err)
		}
		l.stage(r)
	}
	l.im.clean = Clean{}
	if err := l.fold(); err != nil {
		return fmt.Errorf("ledger %s: %w", l.path, err)
	}
	l.lost = false
	return nil
}

// Rebind says that the same table now lives in another inode: it was copied, or its folder was.
func (l *Ledger) Rebind(inode uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.im.inode, l.im.clean = inode, Clean{}
	if err := l.fold(); err != nil {
		return fmt.Errorf("ledger %s: %w", l.path, err)
	}
	return nil
}

// Close closes the file. It writes nothing.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

// Sums is a copy of the settled sums.
func (l *Ledger) Sums() Sums {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Clone(l.im.sums)
}

// Prove says that all that was read from the file was written by us: the table is new.
func (l *Ledger) Prove() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unproven = pageSet{}
	if err := l.fold(); err != nil {
		return fmt.Errorf("ledger %s: %w", l.path, err)
	}
	return nil
}

// Distrust makes pages fail their sums, durably, until they are written again: they were damaged, and what is in the file now, or in
// the frames that are staged, was made from that.
func (l *Ledger) Distrust(pages []uint32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(pages) == 0 {
		return nil
	}
	pages = slices.Clone(pages)
	slices.Sort(pages)
	pages = slices.Compact(pages)
	for _, p := range pages {
		if p > 0 && int64(p) <= int64(len(l.im.sums)) {
			l.im.sums[p-1] = distrusted
		}
		for i := range l.versions[p] {
			l.versions[p][i] = distrusted
		}
	}
	for i, f := range l.pending {
		if _, ok := slices.BinarySearch(pages, f.Page); ok {
			l.pending[i].Sum = distrusted
		}
	}
	l.revision++
	if err := l.fold(); err != nil {
		return fmt.Errorf("ledger %s: %w", l.path, err)
	}
	return nil
}

// distrusted is the sum of a page that has none that is right: any content has it by a chance of 1 in 2^32.
const distrusted = 1
