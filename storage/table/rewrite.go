package table

import (
	"context"
	"math"
	"os"
	"slices"

	sqlite3 "modernc.org/sqlite/lib"

	"tablekeeper/storage/ledger"
)

// A page that was damaged after a checkpoint had moved it is still in the WAL as it should be, until that starts anew. SQLite does not
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
// the ledger. Nobody else writes such a page meanwhile: a checkpoint begins behind what was moved, and a newer version of the page is behind the
// pin; where all was moved, the pin reads the main file alone, and SQLite moves nothing beside such a reader.
// What cannot be written stays damaged, and the ledger knows it.
func (s *session) rewrite(ctx context.Context, o *overlay, was progress) {
	if was.moved == 0 || o.tail.gen != was.gen || !s.pinned(ctx) {
		return
	}
	var out *os.File
	for _, p := range s.spoilt(o, int(was.moved)) {
		page, err := o.page(p)
		if sum, _ := o.sum(p); err != nil || ledger.Sum(page) != sum {
			continue
		}
		if out == nil {
			if out = s.writable(); out == nil {
				return
			}
		}
		_, _ = out.WriteAt(page, int64(p-1)*s.pageSize) // it is compared with the ledger afterwards
	}
	if out != nil {
		_ = out.Sync() // as above: what is lost of it is found
	}
}

// spoilt lists the pages that the main file should have as the WAL has them among its first moved frames, and has otherwise.
func (s *session) spoilt(o *overlay, moved int) []uint32 {
	var pages []uint32
	want, buf := s.ledger.Final(math.MaxUint32, nil), make([]byte, s.pageSize)
	for i, f := range o.frames[:min(moved, len(o.frames))] {
		last := o.newest[f.Page] == i && int(f.Page) <= len(want) && want[f.Page-1] == f.Sum
		if !last || slices.Contains(s.tainted, f.Page) {
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
