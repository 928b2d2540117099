package table

import (
	"context"
	"errors"
	"fmt"
	"hash/crc64"
	"os"
)

// Token identifies the committed state of a table. Two equal tokens mean that nobody committed in between; two different
// ones mean that somebody may have. It is opaque, and comparable.
type Token string

// ErrChanged: the table is not in the state any more that the work was based on: somebody has committed meanwhile.
var ErrChanged = errors.New("the table has been written to meanwhile")

// still returns ErrChanged if the table at path has another token; "" is any.
func (t Token) still(path string) error {
	if t == "" {
		return nil
	}
	if now, err := ReadToken(path); err != nil || now != t {
		return errors.Join(ErrChanged, err)
	}
	return nil
}

// across runs f, which changes the files of the table that c has open and not what is in them. It returns the token afterwards, or ErrChanged if
// the table did not have t before, or if others committed meanwhile.
func (t Token) across(ctx context.Context, c *conn, f func() error) (after Token, err error) {
	if t == "" {
		return "", f()
	}
	before, err := c.dataVersion(ctx)
	if err == nil {
		err = t.still(c.path)
	}
	if err == nil {
		err = f()
	}
	if err == nil {
		after, err = ReadToken(c.path)
	}
	now, asked := c.dataVersion(ctx)
	if err = errors.Join(err, asked); err == nil && now != before {
		err = ErrChanged
	}
	return after, err
}

// ReadToken reads a table's token without reading its content: the identity, size, time and change counter of the file, and
// of a WAL the salts and the headers of its current frames, each of which has a checksum of all before it. It takes no
// lock, and costs a small read for each page that a WAL holds.
//
// Errors: fs.ErrNotExist, ErrNotDatabase, ErrEmpty.
func ReadToken(path string) (Token, error) {
	path, err := absolute(path)
	if err != nil {
		return "", err
	}
	h, info, err := readHeader(path)
	if err != nil {
		return "", err
	}
	id, err := identify(path)
	if err != nil {
		return "", err
	}
	wal, err := walToken(path+"-wal", h.pageSize)
	if err != nil {
		return "", fmt.Errorf("read the state of %s: %w", path, err)
	}
	return Token(fmt.Sprintf("%x.%x.%x.%x.%x.%x%s%s", id.Dev, id.Ino, info.Size(), info.ModTime().UnixNano(),
		h.changeCounter, h.versionValidFor, journalToken(path+"-journal"), wal)), nil
}

// journalToken tells a table in the middle of a transaction from one that is not.
func journalToken(path string) string {
	info, err := os.Lstat(path)
	if err != nil || info.Size() == 0 {
		return ""
	}
	return fmt.Sprintf(".j%x.%x", info.Size(), info.ModTime().UnixNano())
}

// walToken identifies what a WAL holds. The headers of all current frames go into it, not only the last one: behind the last commit there may
// be frames of a transaction that was rolled back, and they stay when another one overwrites those before them.
func walToken(path string, pageSize int64) (string, error) {
	f, size, err := openBeside(path)
	if f == nil || err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	sum, salts, n := crc64.New(crc64.MakeTable(crc64.ECMA)), [8]byte{}, 0
	err = eachCurrentFrame(f, size, pageSize, func(frame []byte) bool {
		_, _ = sum.Write(frame) // never fails
		copy(salts[:], frame[8:])
		n++
		return true
	})
	if err != nil {
		return "", ignoreEOF(err)
	}
	if n == 0 {
		return "", nil // what is in the file is all there is
	}
	return fmt.Sprintf(".w%x.%x.%x", salts, n, sum.Sum64()), nil
}
