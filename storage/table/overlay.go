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

// carriers are those of the pages whose version in the main file is damaged, and whose newest version in the WAL may have been made from
// that: it has taken the damage over, with a right sum. Each has the sum that it would have without the damage, 0 if nobody knows. A version
// that the ledger has was made when the main file was sound.
func (o *overlay) carriers(main io.ReaderAt, l *ledger.Ledger, pages []uint32) map[uint32]uint32 {
	all := map[uint32]uint32{}
	old := make([]byte, o.pageSize)
	for _, p := range pages {
		versions := l.Versions(p)
		if sum, ok := o.sum(p); !ok || slices.Contains(versions, sum) {
			continue
		}
		n, err := main.ReadAt(old, int64(p-1)*o.pageSize)
		if err != nil && !errors.Is(err, io.EOF) {
			n = 0 // SQLite could not read it either
		}
		clear(old[n:])
		if l.Accepts(p, ledger.Sum(old)) {
			continue
		}
		made, err := o.page(p)
		if err != nil {
			all[p] = 0
		} else if carried, right := o.carries(p, old, made, versions); carried {
			all[p] = right
		}
	}
	return all
}

// carries tells whether a newer version of page p may have been made from the damaged one, rather than from what was there before the
// damage; sums are those that it may have had then. right is the sum that it would have without the damage, 0 if nobody knows.
func (o *overlay) carries(p uint32, damaged, made []byte, sums []uint32) (carried bool, right uint32) {
	sound := bytes.Clone(damaged)
	for _, sum := range sums {
		if bit, ok := ledger.Correct(sound, sum); ok {
			f := flip{sound, damaged, int(bit / 8)}
			return o.inherits(p, made, f)
		}
	}
	// SQLite makes no page of a tree from one that does not begin like one: it calls that corrupt.
	return beginsLikeTree(p, damaged) || !beginsLikeTree(p, made), 0
}

// inherits is carries for a flipped bit.
//
// Its place tells: the byte and a few on each side. If it is as it was before, in the page or in others that it has left for, and nowhere as it
// was after, the damage was not read. If it was within a value and is nowhere, the row was deleted or has another value. If it is as it was
// after, just once, and in a value there, too, SQLite has copied it, and what the page should be is the same without the flip.
func (o *overlay) inherits(p uint32, made []byte, f flip) (carried bool, right uint32) {
	use, from, to := btree.UseOf(p, f.sound, f.at)
	if use == btree.Unused {
		return false, 0
	}
	here := f.after(p, made)
	before, after := o.others(p, f)
	switch {
	case after:
	case len(here) == 0 && (before || f.before(made) || use == btree.Value && f.within(from, to)):
		return false, 0
	case len(here) == 1 && use == btree.Value && !f.before(made):
		if mended, ok := f.undone(p, made, here[0]); ok {
			return true, ledger.Sum(mended)
		}
	}
	return true, 0
}

// others tells whether other pages of the WAL have the place of a flipped bit as it was before, and as it was after.
func (o *overlay) others(p uint32, f flip) (before, after bool) {
	left, right := f.sides()
	for _, other := range o.pages() {
		if other == p {
			continue
		}
		page, err := o.page(other)
		if err != nil || bytes.Contains(page, left) || bytes.Contains(page, right) {
			return before, true
		}
		before = before || f.before(page)
	}
	return before, false
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

// after lists where a newer version of page p has a side of the place as it was after, each by its flipped byte. What nobody reads does not
// count: cells leave their bytes behind.
func (f flip) after(p uint32, page []byte) []int {
	var all []int
	left, right := f.sides()
	for at, b := range page {
		if b == f.damaged[f.at] && (bytes.HasSuffix(page[:at+1], left) || bytes.HasPrefix(page[at:], right)) {
			if use, _, _ := btree.UseOf(p, page, at); use != btree.Unused {
				all = append(all, at)
			}
		}
	}
	return all
}

func (f flip) sides() (left, right []byte) {
	from, to := f.place()
	return f.damaged[from : f.at+1], f.damaged[f.at:to]
}

// within tells that all of the place is in the bytes [from, to): whoever copies them copies one of its sides.
func (f flip) within(from, to int) bool {
	return f.at-around >= from && f.at+around < to
}

// undone is a newer version of page p without the flip that it has at a byte. All of the place must be there, in a value, and nothing like that
// in the page as it was before.
func (f flip) undone(p uint32, made []byte, at int) (page []byte, ok bool) {
	from, to := f.place()
	copied := bytes.HasSuffix(made[:at], f.damaged[from:f.at]) && bytes.HasPrefix(made[at:], f.damaged[f.at:to])
	if use, _, _ := btree.UseOf(p, made, at); !copied || use != btree.Value || len(f.after(p, f.sound)) > 0 {
		return nil, false
	}
	page = bytes.Clone(made)
	page[at] = f.sound[f.at]
	return page, true
}

// beginsLikeTree tells whether SQLite would take a page for one of a tree (https://sqlite.org/fileformat2.html#b_tree_pages).
func beginsLikeTree(p uint32, page []byte) bool {
	if p == 1 {
		return bytes.HasPrefix(page, []byte(headerMagic)) && isTree(page[headerSize])
	}
	return isTree(page[0])
}

func isTree(flag byte) bool { return flag == 2 || flag == 5 || flag == 10 || flag == 13 }
