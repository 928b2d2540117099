package table

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"tablekeeper/storage/ledger"
)

// RawPages are the pages of a table's files as they are, damaged or not, without SQLite: those of the main file, with the committed
// frames of the WAL over them. It is not safe for concurrent use.
type RawPages struct {
	main, wal *os.File
	pageSize  int64
	pages     int64
	frames    map[uint32]int64 // offset in the WAL of the newest version of a page
}

// OpenRaw opens the files of the table at path. Where the header is destroyed, the page size is that of the ledger or of the WAL,
// else 4096. Close it.
func OpenRaw(path string) (*RawPages, error) {
	r, err := openRaw(path)
	if err != nil {
		return nil, fmt.Errorf("open the pages of %s: %w", path, err)
	}
	return r, nil
}

func openRaw(path string) (*RawPages, error) {
	real, err := realPath(path)
	if err != nil {
		return nil, err
	}
	main, info, err := openFile(real)
	if err != nil {
		return nil, err
	}
	r := &RawPages{main: main, frames: map[uint32]int64{}}
	if r.wal, _, err = openBeside(real + "-wal"); err != nil {
		return nil, errors.Join(err, main.Close())
	}
	r.pageSize = r.guessPageSize(real)
	r.pages = (info.Size() + r.pageSize - 1) / r.pageSize
	if r.wal == nil {
		return r, nil
	}
	if err := r.readWAL(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *RawPages) guessPageSize(path string) int64 {
	head := make([]byte, 18)
	if _, err := r.main.ReadAt(head, 0); err == nil {
		size := int64(binary.BigEndian.Uint16(head[16:]))
		if size == 1 {
			size = 65536
		}
		if validPageSize(size) && string(head[:16]) == headerMagic {
			return size
		}
	}
	if l, err := ledger.Open(ledgerPath(path), nil); err == nil {
		defer func() { _ = l.Close() }() // only read
		return int64(l.PageSize())
	}
	if r.wal != nil {
		if head, sum, err := walHead(r.wal); err == nil && sum != nil && validPageSize(int64(binary.BigEndian.Uint32(head[8:]))) {
			return int64(binary.BigEndian.Uint32(head[8:]))
		}
	}
	return 4096
}

func (r *RawPages) readWAL() error {
	tail := walTail{file: r.wal, pageSize: r.pageSize}
	frames, err := tail.read(math.MaxInt64)
	var found *damage
	if errors.As(err, &found) {
		return nil // a WAL of another page size is another table's
	}
	if err != nil {
		return err
	}
	for i, f := range frames {
		r.frames[f.Page] = walHeaderSize + int64(i)*(walFrameSize+r.pageSize) + walFrameSize
		if f.Pages > 0 {
			r.pages = max(int64(f.Pages), r.pages)
		}
	}
	return nil
}

// PageSize is in bytes.
func (r *RawPages) PageSize() int { return int(r.pageSize) }

// PageCount counts the pages of the main file, the last of which may be cut, and of the WAL.
func (r *RawPages) PageCount() int64 { return r.pages }

// Page returns page n, from 1, in its newest committed version. What the file does not have reads as zeros.
func (r *RawPages) Page(n int64) ([]byte, error) {
	if n < 1 || n > r.pages {
		return nil, fmt.Errorf("page %d of %d: %w", n, r.pages, io.EOF)
	}
	page := make([]byte, r.pageSize)
	from, at := r.main, (n-1)*r.pageSize
	if frame, ok := r.frames[uint32(n)]; ok {
		from, at = r.wal, frame
	}
	if _, err := from.ReadAt(page, at); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read page %d: %w", n, err)
	}
	return page, nil
}

// Close closes the files.
func (r *RawPages) Close() error {
	err := r.main.Close()
	if r.wal != nil {
		err = errors.Join(err, r.wal.Close())
	}
	return err
}
