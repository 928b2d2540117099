package table

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const (
	headerSize  = 100
	headerMagic = "SQLite format 3\x00"
)

// header is the first 100 bytes of a database file (https://sqlite.org/fileformat2.html#the_database_header).
type header struct {
	pageSize        int64
	walMode         bool // the file says that it is read and written through a WAL
	changeCounter   uint32
	pages           uint32 // valid only if sizeValid
	freeTrunk       uint32
	freePages       uint32
	autoVacuum      string // none, full, incremental
	encoding        string
	userVersion     int32
	applicationID   int32
	versionValidFor uint32
	writtenBy       uint32 // the SQLite version that wrote it last, as 3045001 for 3.45.1
}

// sizeValid reports whether the page count in the header is to be trusted; SQLite before 3.7.0 did not keep it.
func (h header) sizeValid() bool { return h.pages != 0 && h.changeCounter == h.versionValidFor }

// pageCount is the size of the database in pages, for a main file of so many bytes.
func (h header) pageCount(fileSize int64) int64 {
	if h.sizeValid() {
		return int64(h.pages)
	}
	return fileSize / h.pageSize
}

// parseHeader reads a header of at least 100 bytes. The error is ErrNotDatabase.
func parseHeader(b []byte) (header, error) {
	if len(b) < headerSize || !bytes.HasPrefix(b, []byte(headerMagic)) {
		return header{}, fmt.Errorf("%w: it does not begin with SQLite's header", ErrNotDatabase)
	}
	be := binary.BigEndian
	h := header{
		pageSize:        int64(be.Uint16(b[16:])),
		walMode:         b[18] == 2,
		changeCounter:   be.Uint32(b[24:]),
		pages:           be.Uint32(b[28:]),
		freeTrunk:       be.Uint32(b[32:]),
		freePages:       be.Uint32(b[36:]),
		autoVacuum:      "none",
		userVersion:     int32(be.Uint32(b[60:])),
		applicationID:   int32(be.Uint32(b[68:])),
		versionValidFor: be.Uint32(b[92:]),
		writtenBy:       be.Uint32(b[96:]),
	}
	if h.pageSize == 1 {
		h.pageSize = 65536
	}
	if !validPageSize(h.pageSize) {
		return header{}, fmt.Errorf("%w: its header names a page size of %d", ErrNotDatabase, h.pageSize)
	}
	if be.Uint32(b[52:]) != 0 {
		h.autoVacuum = "full"
		if be.Uint32(b[64:]) != 0 {
			h.autoVacuum = "incremental"
		}
	}
	h.encoding = map[uint32]string{2: "UTF-16le", 3: "UTF-16be"}[be.Uint32(b[56:])]
	if h.encoding == "" {
		h.encoding = "UTF-8" // 1, and 0 in a database without any SQL table yet
	}
	return h, nil
}

func validPageSize(n int64) bool { return n >= 512 && n <= 65536 && n&(n-1) == 0 }

// openFile opens a regular file for reading. It never blocks, follows no symbolic link, and refuses whatever else has a name:
// ErrNotDatabase.
func openFile(path string) (*os.File, fs.FileInfo, error) {
	before, err := os.Lstat(path)
	if err != nil {
		return nil, nil, err
	}
	if err := regular(path, before); err != nil {
		return nil, nil, err
	}
	// A FIFO that takes the name right now must not block us either.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	after, err := f.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = fmt.Errorf("open %s: another file took its name meanwhile: %w", path, ErrNotDatabase)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, after, nil
}

func regular(path string, info fs.FileInfo) error {
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode&fs.ModeSymlink != 0:
		return fmt.Errorf("open %s: %w: a symbolic link; name the file that it leads to", path, ErrNotDatabase)
	case mode.IsDir():
		return fmt.Errorf("open %s: %w: a directory", path, ErrNotDatabase)
	default:
		return fmt.Errorf("open %s: %w: not a regular file (%v)", path, ErrNotDatabase, mode.Type())
	}
}

// readHeader reads the header of the file at path, without SQLite and without locks.
func readHeader(path string) (header, fs.FileInfo, error) {
	f, info, err := openFile(path)
	if err != nil {
		return header{}, nil, err
	}
	defer func() { _ = f.Close() }() // only read
	h, err := headerOf(f, info)
	if err != nil {
		return header{}, nil, fmt.Errorf("open %s: %w", path, err)
	}
	return h, info, nil
}

func headerOf(f io.ReaderAt, info fs.FileInfo) (header, error) {
	if info.Size() == 0 {
		return header{}, ErrEmpty
	}
	b := make([]byte, headerSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return header{}, err
	}
	return parseHeader(b[:n])
}

// absolute makes path one that SQLite and we understand alike.
func absolute(path string) (string, error) {
	if path == "" || bytes.IndexByte([]byte(path), 0) >= 0 {
		return "", fmt.Errorf("open %q: %w: no name of a file", path, fs.ErrInvalid)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", path, err)
	}
	return abs, nil
}
