package ledger

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"
)

// certain is the number of pages that the main file has, whichever of the staged transactions are in it.
func (l *Ledger) certain() int {
	if l.least > 0 {
		return min(len(l.im.sums), int(l.least))
	}
	return len(l.im.sums)
}

// Certain is the number of pages that the main file has at least. The revision changes with every answer that the ledger gives
// otherwise than before.
func (l *Ledger) Certain() (pages uint32, revision uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return max(uint32(l.certain()), l.reach), l.revision
}

// Accepts reports whether the main file may hold a page with this sum: the settled one, or that of a staged frame; of a page that has been
// moved, see Moved, that version or a later one. A page whose sum is not known is accepted, and so is one beyond the table's end, or one
// that a staged transaction cuts off.
func (l *Ledger) Accepts(page, sum uint32) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.arrived[page] {
		return slices.Contains(l.versions[page], sum)
	}
	if page == 0 || int64(page) > int64(l.certain()) {
		return true
	}
	want := l.im.sums[page-1]
	return want == 0 || want == sum || slices.Contains(l.versions[page], sum)
}

// Settled is the sum that the main file holds for the page once every checkpoint is done. known is false beyond the end and
// where no sum is known.
func (l *Ledger) Settled(page uint32) (sum uint32, known bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if page == 0 || int64(page) > int64(len(l.im.sums)) {
		return 0, false
	}
	sum = l.im.sums[page-1]
	return sum, sum != 0
}

// Versions are the sums of which the main file may hold one for the page, oldest first: the settled one, if it is known, and those of the
// staged frames; of a page that has been moved, that version and later ones.
func (l *Ledger) Versions(page uint32) []uint32 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var all []uint32
	if page > 0 && int64(page) <= int64(len(l.im.sums)) && l.im.sums[page-1] != 0 && !l.arrived[page] {
		all = append(all, l.im.sums[page-1])
	}
	return append(all, l.versions[page]...)
}

// Final are the sums that the main file has once the staged frames up to number last are in it, and then more frames that follow.
func (l *Ledger) Final(last uint32, more []Frame) Sums {
	l.mu.RLock()
	defer l.mu.RUnlock()
	staged := l.pending
	if last < l.staged {
		staged = staged[:max(0, len(staged)-int(l.staged-last))]
	}
	sums := slices.Clone(l.im.sums)
	for _, f := range slices.Concat(staged, more) {
		sums = sums.with(f)
	}
	return sums
}

// InFlight reports whether somebody may write another version of the page into the main file now: one that is staged, and neither settled
// nor moved.
func (l *Ledger) InFlight(page uint32) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	versions := len(l.versions[page])
	if l.arrived[page] {
		versions--
	}
	return versions > 0
}

// Pages is the number of pages in the main file, as far as they are settled or moved.
func (l *Ledger) Pages() uint32 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return max(uint32(len(l.im.sums)), l.reach)
}

// PageSize is in bytes.
func (l *Ledger) PageSize() uint32 { return l.im.pageSize }

// Inode is that of the main file the sums belong to.
func (l *Ledger) Inode() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.im.inode
}

// Position is the WAL generation that was staged last, and its last frame that was staged.
func (l *Ledger) Position() (gen Generation, staged uint32) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.gen, l.staged
}

// Staged are the frames that are staged and not settled, in order; the last of them is Position's.
func (l *Ledger) Staged() []Frame {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Clone(l.pending)
}

// Clean is what was remembered at the last Fold, as long as nothing has been staged since.
func (l *Ledger) Clean() Clean {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.im.clean
}

// LostTail reports that the end of the log could not be read: after a power cut it may be a record that was being written, but it
// may also have rotted. What the ledger says of pages that changed last is then not to be trusted.
func (l *Ledger) LostTail() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.lost
}

// Unproven counts the pages whose sums were read from the file rather than from what was written to it, and have not been
// written since. Since is when they were read.
func (l *Ledger) Unproven() (pages int, since time.Time) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.unproven.count, time.UnixMilli(l.im.since)
}

// Proven reports whether the page's sum is of what was written, not of what was once found in the file.
func (l *Ledger) Proven(page uint32) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return !l.unproven.has(page)
}

// chainOf is where the chain of the log starts for a serialised image.
func chainOf(b []byte) uint32 { return binary.LittleEndian.Uint32(b[headerSize-4:]) }

// Freeze returns what Accepts says at this moment, for later.
func (l *Ledger) Freeze() func(page, sum uint32) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	frozen := &Ledger{least: l.least, versions: make(map[uint32][]uint32, len(l.versions)), arrived: maps.Clone(l.arrived)}
	frozen.im.sums = slices.Clone(l.im.sums)
	for page, sums := range l.versions {
		frozen.versions[page] = slices.Clone(sums)
	}
	return frozen.Accepts
}
