package table

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"math"
	"os"
	"slices"

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
// that: it has taken the damage over, with a right sum. Ascending. A version that the ledger has was made when the main file was sound.
func (o *overlay) carriers(main io.ReaderAt, l *ledger.Ledger, pages []uint32) []uint32 {
	var all []uint32
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
		if made, err := o.page(p); err != nil || carries(p, old, made, versions) {
			all = append(all, p)
		}
	}
	return all
}

// carries tells whether a newer version of page p may have been made from the damaged one, rather than from what was there before the
// damage; sums are those that it may have had then.
func carries(p uint32, damaged, made []byte, sums []uint32) bool {
	sound := bytes.Clone(damaged)
	for _, sum := range sums {
		if bit, ok := ledger.Correct(sound, sum); ok {
			return !keeps(made, sound, damaged, int(bit/8))
		}
	}
	// SQLite makes no page of a tree from one that does not begin like one: it calls that corrupt.
	return beginsLikeTree(p, damaged) || !beginsLikeTree(p, made)
}

// around is by how many bytes on each side the place of a flipped bit is known again, wherever in the page it has moved.
const around = 4

// keeps tells that a page has the place of a flipped bit as it was before, and nowhere as it was after.
func keeps(made, sound, damaged []byte, at int) bool {
	from, to := max(at-around, 0), min(at+around+1, len(sound))
	return bytes.Contains(made, sound[from:to]) && !bytes.Contains(made, damaged[from:at+1]) && !bytes.Contains(made, damaged[at:to])
}

// beginsLikeTree tells whether SQLite would take a page for one of a tree (https://sqlite.org/fileformat2.html#b_tree_pages).
func beginsLikeTree(p uint32, page []byte) bool {
	if p == 1 {
		return bytes.HasPrefix(page, []byte(headerMagic)) && isTree(page[headerSize])
	}
	return isTree(page[0])
}

func isTree(flag byte) bool { return flag == 2 || flag == 5 || flag == 10 || flag == 13 }
