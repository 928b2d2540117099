package table

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// This file decides whether the -journal or -wal beside a database belongs to it.
//
// SQLite cannot tell. It rolls back whatever hot journal it finds: it cuts the file to the journal's page count and
// copies the journal's pages over it. It replays whatever WAL it finds, even beside a file that is not in WAL mode. A
// journal left over from an older copy of the file, or from another file of the same name, destroys the table that way.
//
// What gives a stranger away is the change counter in page 1, which each transaction that touches page 1 raises:
//
//   - A rollback journal holds page 1 as it was before the transaction. So the file's counter is the journal's (page 1 not
//     yet written) or one more (written).
//   - A WAL holds page 1 as it was after some of its transactions, each of which raised the counter of the one before it by
//     one or left it. The file had the counter before the first, and gets its page 1 from nowhere else. So the file's
//     counter lies between the one before the oldest page 1 in the WAL and that of the newest.
//
// A journal of another table whose counter happens to fit is not seen: nothing in the file could tell.

func foreign(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrForeignJournal, fmt.Sprintf(format, args...))
}

// besides reads what lies beside the file at path, and returns ErrForeignJournal if SQLite, by opening the file, would apply
// a journal or a WAL that does not belong to it. It reads only. Live writers may change every one of the files meanwhile, so a
// suspicion counts only if it comes twice while the header stands still; where it never does, the file has a live writer, and
// the journal is that one's.
func besides(ctx context.Context, path string) (header, walState, error) {
	const tries = 5
	for n := 1; ; n++ {
		h, w, suspicion := lookBesides(ctx, path)
		if !errors.Is(suspicion, ErrForeignJournal) {
			return h, w, suspicion
		}
		again, _, err := lookBesides(ctx, path)
		switch {
		case errors.Is(err, ErrForeignJournal) && again == h:
			return h, w, fmt.Errorf("%w; if it is a leftover, move it away and open the table again", err)
		case n == tries:
			return h, w, nil
		}
	}
}

func lookBesides(ctx context.Context, path string) (header, walState, error) {
	h, _, err := readHeader(path)
	if err != nil {
		return h, walState{}, err
	}
	if err := suspectRollback(ctx, path+"-journal", h); err != nil {
		return h, walState{}, err
	}
	w, err := readWAL(ctx, path, h)
	return h, w, err
}

var journalMagic = []byte{0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7}

// rollbackHeader is the header of a rollback journal (https://sqlite.org/fileformat2.html#the_rollback_journal).
type rollbackHeader struct {
	records    uint32 // 0xffffffff: as many as fit
	nonce      uint32
	pages      uint32 // size of the database before the transaction
	sectorSize uint32
	pageSize   uint32
}

func parseRollbackHeader(b []byte) (rollbackHeader, bool) {
	if len(b) < 28 || !bytes.HasPrefix(b, journalMagic) {
		return rollbackHeader{}, false
	}
	be := binary.BigEndian
	return rollbackHeader{be.Uint32(b[8:]), be.Uint32(b[12:]), be.Uint32(b[16:]), be.Uint32(b[20:]), be.Uint32(b[24:])}, true
}

// openBeside opens a journal. A missing or empty one is nil.
func openBeside(path string) (*os.File, int64, error) {
	f, info, err := openFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, 0, nil
	case errors.Is(err, ErrNotDatabase): // SQLite would follow, or block on, whatever this is
		return nil, 0, foreign("%s is not a regular file", path)
	case err != nil:
		return nil, 0, err
	case info.Size() == 0:
		return nil, 0, f.Close()
	}
	return f, info.Size(), nil
}

// suspectRollback judges a rollback journal. One that SQLite would not apply (empty, zeroed, without a whole record) is no
// concern.
func suspectRollback(ctx context.Context, path string, h header) error {
	f, size, err := openBeside(path)
	if f == nil || err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	b := make([]byte, 28)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	j, ok := parseRollbackHeader(b)
	if !ok {
		return nil // persistent journals are zeroed at their commit; SQLite rolls back only what has the magic
	}
	if !validPageSize(int64(j.pageSize)) || j.sectorSize < 32 || j.sectorSize > 1<<16 || j.sectorSize&(j.sectorSize-1) != 0 {
		return nil // SQLite takes such a header for the end of the journal
	}
	return j.judge(ctx, f, path, size, h)
}

func (j rollbackHeader) judge(ctx context.Context, f io.ReaderAt, path string, size int64, h header) error {
	found, err := j.search(ctx, f, size)
	if err != nil {
		return err
	}
	switch {
	case found.broken:
		return foreign("the first page in %s does not match its checksum", path)
	case found.page1 == nil && found.records == 0:
		return nil
	case found.page1 == nil && int64(j.pageSize) != h.pageSize:
		return foreign("%s is for pages of %d bytes, the file has %d", path, j.pageSize, h.pageSize)
	case found.page1 == nil && h.sizeValid() && j.pages != h.pages:
		return foreign("%s is for a file of %d pages, the file has %d", path, j.pages, h.pages)
	case found.page1 == nil:
		return nil
	}
	old, err := parseHeader(found.page1)
	switch {
	case err != nil || old.pageSize != int64(j.pageSize):
		return foreign("page 1 in %s is not that of an SQLite database", path)
	case h.changeCounter != old.changeCounter && h.changeCounter != old.changeCounter+1:
		return foreign("%s is of transaction %d, the file is at %d", path, old.changeCounter+1, h.changeCounter)
	case old.sizeValid() && old.pages != j.pages:
		return foreign("%s contradicts itself: %d pages, and %d in its page 1", path, j.pages, old.pages)
	}
	return nil
}

// rollbackFound is what a rollback journal holds.
type rollbackFound struct {
	page1   []byte // page 1 before the transaction; nil if it is not in the journal
	records int64  // valid records read before page 1 was found
	broken  bool   // the very first record is not valid
}

// search looks for page 1, segment by segment: a journal that was synced midway has several, each with a header on a
// sector of its own. It stops where SQLite's roll-back would.
func (j rollbackHeader) search(ctx context.Context, f io.ReaderAt, size int64) (rollbackFound, error) {
	var found rollbackFound
	sector, record := int64(j.sectorSize), make([]byte, int64(j.pageSize)+8)
	for off := int64(0); off+sector <= size; {
		head := make([]byte, 28)
		if _, err := f.ReadAt(head, off); err != nil {
			return found, ignoreEOF(err)
		}
		segment, ok := parseRollbackHeader(head)
		if !ok {
			return found, nil
		}
		count := (size - off - sector) / int64(len(record))
		if segment.records != 0xffffffff {
			count = min(count, int64(segment.records))
		}
		r := bufio.NewReaderSize(io.NewSectionReader(f, off+sector, count*int64(len(record))), 1<<18)
		more, err := found.segment(ctx, r, segment, count, record)
		if err != nil || !more {
			return found, err
		}
		off += (sector + count*int64(len(record)) + sector - 1) / sector * sector
	}
	return found, nil
}

// segment reads the records of one segment, and reports whether the search goes on.
func (found *rollbackFound) segment(ctx context.Context, r io.Reader, j rollbackHeader, count int64, record []byte) (bool, error) {
	for i := range count {
		if i%framesPerBreath == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		if _, err := io.ReadFull(r, record); err != nil {
			return false, ignoreEOF(err)
		}
		page := record[4 : len(record)-4]
		if rollbackSum(j.nonce, page) != binary.BigEndian.Uint32(record[len(record)-4:]) {
			found.broken = found.records == 0
			return false, nil
		}
		found.records++
		if binary.BigEndian.Uint32(record) == 1 {
			found.page1 = page
			return false, nil
		}
	}
	return count > 0, nil
}

// rollbackSum is SQLite's checksum of a record: the nonce and every 200th byte, from the end.
func rollbackSum(nonce uint32, page []byte) uint32 {
	for i := len(page) - 200; i > 0; i -= 200 {
		nonce += uint32(page[i])
	}
	return nonce
}

// ignoreEOF: a file that got shorter while it was read is in use, not damaged.
func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
