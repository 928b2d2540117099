// Package archive is the backup of a table: its format, its key in a bucket,
// and the catalogue of a table's backups.
//
// A backup is a plain zstd stream of the SQLite file: `zstd -d` alone gives
// back a database that `sqlite3` opens (after `age -d` if it is encrypted).
// What a stream lacks for a repair follows in frames that zstd passes over: a
// checksum of every page, a manifest, and a seek table that makes one page
// readable without the rest. docs/format.md specifies every byte.
//
// The package reads whatever a bucket holds as hostile input: no size is
// believed before it is checked, and nothing is allocated on its word alone.
// It leaves the taking of a snapshot to storage/table, the transport to
// storage/bucket, and what to do about a bad backup to the caller.
package archive

import (
	"errors"
	"fmt"
	"io"
)

// Format is the version of the format that this package writes, and the newest
// that it reads.
const Format = 1

// FrameSize is the number of bytes of the SQLite file in each data frame but
// the last, which may be shorter. Every page size divides it.
const FrameSize = 1 << 20

const (
	minPageSize = 512
	maxPageSize = 65536

	// SQLite's own limit (https://sqlite.org/limits.html, "Maximum Number Of
	// Pages In A Database File").
	maxPageCount = 4294967294

	// pendingByte is the offset of the page that SQLite locks and never uses
	// (https://sqlite.org/fileformat.html#lock_byte_page).
	pendingByte = 0x40000000
)

// What a caller decides on. Each error of this package that is about the
// backup itself, not about reaching it, is one of these.
var (
	// ErrFormat: the object is no backup, or its structure is damaged.
	ErrFormat = errors.New("not a valid tablekeeper backup")

	// ErrNewer: the object was written by a later version, in a format that
	// this one does not know.
	ErrNewer = errors.New("backup was made by a newer tablekeeper: upgrade to read it")

	// ErrWrongKey: the object is encrypted, and none of the identities opens it.
	ErrWrongKey = errors.New("backup is encrypted, and no key given opens it")

	// ErrTruncated: the object ends early.
	ErrTruncated = errors.New("backup is cut short")

	// ErrSum: content differs from its checksum.
	ErrSum = errors.New("backup is damaged: content differs from its checksum")

	// ErrTooLarge: the decoded size is beyond OpenOptions.MaxSize.
	ErrTooLarge = errors.New("backup is larger than allowed")
)

func formatError(detail string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(detail, args...))
}

func validPageSize(n int) bool {
	return n >= minPageSize && n <= maxPageSize && n&(n-1) == 0
}

// lockPage is the number of the page that holds SQLite's lock bytes. Tables
// smaller than 1 GiB do not have it.
func lockPage(pageSize int) int64 { return pendingByte/int64(pageSize) + 1 }

func frameCount(size, frame int64) int64 { return (size + frame - 1) / frame }

// readFull fills p from off. An end before that is ErrTruncated: every read
// of this package lies within the size that the object claims.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %d of %d bytes at offset %d", ErrTruncated, n, len(p), off)
	default:
		return fmt.Errorf("read %d bytes at offset %d: %w", len(p), off, err)
	}
}

// readGrowing reads n bytes from off, allocating only as they arrive: n may be
// the word of a hostile object.
func readGrowing(r io.ReaderAt, off, n int64) ([]byte, error) {
	var out []byte
	for done := int64(0); done < n; {
		step := min(n-done, FrameSize)
		out = append(out, make([]byte, step)...)
		if err := readFull(r, out[done:done+step], off+done); err != nil {
			return nil, err
		}
		done += step
	}
	return out, nil
}
