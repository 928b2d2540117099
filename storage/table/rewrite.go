package table

import (
	"context"
	"math"
	"os"
	"slices"

	sqlite3 "modernc.org/sqlite/lib"

	"tablekeeper/storage/ledger"
)

// A page that was damaged after a checkpoint had moved it, and before one has settled it, is still in the WAL as it should be. SQLite does not
// move it again: it reads the page from the main file, and deletes the WAL with the last connection. So we write it, before.

// movedBefore is how much of the WAL had been moved at this moment, for rewrite.
func (s *session) movedBefore(ctx context.Context) progress {
	if s.gauge == nil || s.tail.file == nil {
		return progress{}
	}
	gen, err := walGeneration(s.tail.file)
	if err != nil {
		return progress{}
	}
	_, moved, err := s.length(ctx)
	if err != nil {
		return progress{}
	}
	return progress{gen: gen, moved: moved}
}

// rewrite gives those pages of the main file that were moved and are damaged the content that the WAL has of them. All of the WAL, o, is in
// the ledger. Nobody else writes such a page meanwhile: a checkpoint begins behind what was moved, and a newer version of the page is behind the pin.
// What cannot be written, at the second attempt either, stays damaged, and the ledger knows it.
func (s *session) rewrite(ctx context.Context, o *overlay, was progress) {
	if was.moved == 0 || o.tail.gen != was.gen || !s.pinned(ctx) {
		return
	}
	pages := s.spoilt(o, int(was.moved))
	if len(pages) == 0 {
		return
	}
	out := s.writable()
	if out == nil {
		return
	}
	s.fill(out, o, pages)
	s.fill(out, o, s.spoilt(o, int(was.moved)))
	_ = out.Sync() // it is compared with the ledger whenever it is read
}

// fill writes pages from the WAL.
func (s *session) fill(out *os.File, o *overlay, pages []uint32) {
	for _, p := range pages {
		page, err := o.page(p)
		if sum, _ := o.sum(p); err != nil || ledger.Sum(page) != sum {
			continue
		}
		_, _ = out.WriteAt(page, int64(p-1)*s.pageSize) // it is compared with the ledger afterwards
	}
}

// spoilt lists the pages that are not settled, and that the main file should have as the WAL has them among its first moved frames.
func (s *session) spoilt(o *overlay, moved int) []uint32 {
	var pages []uint32
	newest := map[uint32]uint32{}
	for _, f := range s.ledger.Staged() {
		newest[f.Page] = f.Sum
	}
	buf, size := make([]byte, s.pageSize), uint32(math.MaxUint32) // size: pages that the table keeps from the frame at hand on
	for i, f := range slices.Backward(o.frames) {
		if f.Pages > 0 {
			size = min(size, f.Pages)
		}
		sum, staged := newest[f.Page]
		if i >= moved || o.newest[f.Page] != i || f.Page > size || !staged || sum != f.Sum || slices.Contains(s.tainted, f.Page) {
			continue
		}
		if is, err := s.sumInto(f.Page, buf); err != nil || is != f.Sum {
			pages = append(pages, f.Page)
		}
	}
	return pages
}

// pinned proves that the pin has its transaction: SQLite begins none inside another.
func (s *session) pinned(ctx context.Context) bool {
	return s.pin != nil && sqliteCode(s.pin.exec(ctx, "BEGIN")) == sqlite3.SQLITE_ERROR
}

// writable opens the main file once more, to write to it; nil if it is not there any more. It is closed when SQLite has closed it: where locks
// belong to the process, that would drop them.
func (s *session) writable() *os.File {
	out, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	s.second = out
	theirs, err := out.Stat()
	ours, mainErr := s.main.Stat()
	if err != nil || mainErr != nil || !os.SameFile(theirs, ours) {
		return nil
	}
	return out
}
