package table

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"math"
	"os"
	"slices"

	"tablekeeper/storage/btree"
	"tablekeeper/storage/ledger"
)

// overlay is what the WAL of a table holds over its main file: the newest committed version of each page that is in it.
type overlay struct {
	file     io.ReaderAt
	pageSize int64
	tail     walTail        // behind the last of the frames; its gen is zero if there is no WAL, or none whose header is sound
	frames   []ledger.Frame // all that are committed, from the first
	newest   map[uint32]int // place in frames of the newest version of a page
}

// readOverlay reads a WAL up to a frame, as SQLite's recovery would.
func readOverlay(file *os.File, pageSize, limit int64) (*overlay, error) {
	tail := walTail{file: file, pageSize: pageSize}
	frames, err := tail.read(limit)
	if err != nil {
		return nil, err
	}
	o := &overlay{file: file, pageSize: pageSize, tail: tail, frames: frames, newest: map[uint32]int{}}
	for i, f := range frames {
		o.newest[f.Page] = i
	}
	return o, nil
}

// overlayBeside is that of the WAL beside the file at path, which nobody has open here; close it. One that is missing, empty, unreadable or
// of another page size holds nothing; size tells them apart.
func overlayBeside(path string, pageSize int64) (o *overlay, size int64, closing func(), err error) {
	none := &overlay{pageSize: pageSize}
	f, size, err := openBeside(path + "-wal")
	if f == nil || err != nil {
		return none, 0, func() {}, err
	}
	closing = func() { _ = f.Close() } // only read
	o, err = readOverlay(f, pageSize, math.MaxInt64)
	if err != nil {
		return none, size, closing, nil //nolint:nilerr // what cannot be read holds nothing
	}
	return o, size, closing, nil
}

func (o *overlay) pages() []uint32 { return slices.Sorted(maps.Keys(o.newest)) }

// sum is that of the newest version, ok is false if the page is not in the WAL.
func (o *overlay) sum(p uint32) (sum uint32, ok bool) {
	i, ok := o.newest[p]
	if !ok {
		return 0, false
	}
	return o.frames[i].Sum, true
}

// page reads the newest version.
func (o *overlay) page(p uint32) ([]byte, error) {
	b := make([]byte, o.pageSize)
	_, err := o.file.ReadAt(b, walHeaderSize+int64(o.newest[p])*(walFrameSize+o.pageSize)+walFrameSize)
	return b, err
}

// carriers are the pages of the WAL that may have taken damage over from the main file, with right sums: those of the pages given whose version
// there is damaged, and others to which rows went from them. Ascending. A version that the ledger has was made when the main file was sound.
func (o *overlay) carriers(main io.ReaderAt, l *ledger.Ledger, pages []uint32) []uint32 {
	var all []uint32
	before := func(p uint32) (old []byte, sound bool) {
		old = make([]byte, o.pageSize)
		n, err := main.ReadAt(old, int64(p-1)*o.pageSize)
		if err != nil && !errors.Is(err, io.EOF) {
			n = 0 // SQLite could not read it either
		}
		clear(old[n:])
		return old, l.Accepts(p, ledger.Sum(old))
	}
	since := slices.DeleteFunc(o.pages(), func(p uint32) bool { return slices.Contains(l.Versions(p), o.frames[o.newest[p]].Sum) })
	for _, p := range pages {
		if _, written := slices.BinarySearch(since, p); !written {
			continue
		}
		old, sound := before(p)
		if sound {
			continue
		}
		made, err := o.page(p)
		if err != nil {
			all = append(all, p)
			continue
		}
		w := wound{o, p, old, made, since, before}
		all = append(all, w.carriers(l.Versions(p))...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// wound is a page of the main file that is damaged, and written anew in the WAL.
type wound struct {
	o             *overlay
	page          uint32
	damaged, made []byte
	since         []uint32                                // the pages that were written since the ledger was told last
	before        func(p uint32) (old []byte, sound bool) // what a page was in the main file
}

// carriers are the pages that may have taken this damage over; sums are those that the page may have had before it.
func (w *wound) carriers(sums []uint32) []uint32 {
	sound := bytes.Clone(w.damaged)
	for _, sum := range sums {
		if bit, ok := ledger.Correct(sound, sum); ok {
			return w.carriersOf(flip{sound, w.damaged, int(bit / 8)})
		}
	}
	// SQLite makes no page of a tree from one that does not begin like one: it calls that corrupt.
	if !beginsLikeTree(w.page, w.damaged) && beginsLikeTree(w.page, w.made) {
		return nil
	}
	if kind := kindOf(w.page, w.made); kind != tableLeaf && kind != tableInterior && kindOf(w.page, w.damaged) != kind {
		return w.since // it may have had rows, which are somewhere else now
	}
	return []uint32{w.page}
}

// carriersOf is carriers for a flipped bit. Its place tells: the byte and a few on each side. If it is nowhere as it was after, and as it was
// before in the page or in others that it has left for, the damage was not read. If it was within a value and is nowhere, the row was deleted
// or has another value.
func (w *wound) carriersOf(f flip) []uint32 {
	use, from, to := btree.UseOf(w.page, f.sound, f.at)
	if use == btree.Unused {
		return nil
	}
	found := f.before(w.made)
	var carried []uint32
	for _, p := range w.since {
		page, err := w.o.page(p)
		now, then := f.after(p, page), 0
		if old, sound := w.before(p); p != w.page && sound {
			then = f.after(p, old)
		}
		if err != nil || now > then {
			carried = append(carried, p)
		}
		found = found || f.before(page)
	}
	if len(carried) == 0 && (found || use == btree.Value && f.within(from, to)) {
		return nil
	}
	return append(carried, w.page)
}

// flip is a page before and after one bit of its byte at was flipped.
type flip struct {
	sound, damaged []byte
	at             int
}

// around is by how many bytes on each side the place of a flipped bit is known again, wherever it has moved.
const around = 4

func (f flip) place() (from, to int) { return max(f.at-around, 0), min(f.at+around+1, len(f.sound)) }

// before tells that a page has the place as it was before.
func (f flip) before(page []byte) bool {
	from, to := f.place()
	return bytes.Contains(page, f.sound[from:to])
}

// after counts in how many places a version of page p has a side of the place as it was after. What nobody reads does not count: cells leave
// their bytes behind.
func (f flip) after(p uint32, page []byte) (n int) {
	left, right := f.sides()
	for at, b := range page {
		if b == f.damaged[f.at] && (bytes.HasSuffix(page[:at+1], left) || bytes.HasPrefix(page[at:], right)) {
			if use, _, _ := btree.UseOf(p, page, at); use != btree.Unused {
				n++
			}
		}
	}
	return n
}

func (f flip) sides() (left, right []byte) {
	from, to := f.place()
	return f.damaged[from : f.at+1], f.damaged[f.at:to]
}

// within tells that all of the place is in the bytes [from, to): whoever copies them copies one of its sides.
func (f flip) within(from, to int) bool {
	return f.at-around >= from && f.at+around < to
}

// The kinds of pages that rows are in (https://sqlite.org/fileformat2.html#b_tree_pages).
const (
	tableInterior = 5
	tableLeaf     = 13
)

// beginsLikeTree tells whether SQLite would take a page for one of a tree.
func beginsLikeTree(p uint32, page []byte) bool {
	if p == 1 && !bytes.HasPrefix(page, []byte(headerMagic)) {
		return false
	}
	kind := kindOf(p, page)
	return kind == 2 || kind == tableInterior || kind == 10 || kind == tableLeaf
}

// kindOf is the kind of a page, if it is one of a tree.
func kindOf(p uint32, page []byte) byte {
	if p == 1 {
		return page[headerSize]
	}
	return page[0]
}
