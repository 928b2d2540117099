package bucket

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Digest sums what is written to it: length, SHA-256 and CRC-32C, those that stores keep.
type Digest struct {
	size   int64
	sha256 hash.Hash
	crc32c uint32
}

// NewDigest starts at zero bytes.
func NewDigest() *Digest { return &Digest{sha256: sha256.New()} }

// Write never fails.
func (d *Digest) Write(p []byte) (int, error) {
	d.size += int64(len(p))
	d.crc32c = crc32.Update(d.crc32c, castagnoli, p)
	return d.sha256.Write(p)
}

// Size is the number of bytes written.
func (d *Digest) Size() int64 { return d.size }

// SHA256 is in hex.
func (d *Digest) SHA256() string { return hex.EncodeToString(d.sha256.Sum(nil)) }

// CRC32C is in 8 hex digits, most significant first.
func (d *Digest) CRC32C() string { return fmt.Sprintf("%08x", d.crc32c) }

// Compare says in what the object that info describes differs from what was written; nil if in nothing that the store knows of.
func (d *Digest) Compare(info Info) error {
	switch {
	case info.Size != d.size:
		return fmt.Errorf("%d bytes instead of %d", info.Size, d.size)
	case info.SHA256 != "" && info.SHA256 != d.SHA256():
		return fmt.Errorf("SHA-256 %s instead of %s", info.SHA256, d.SHA256())
	case info.CRC32C != "" && info.CRC32C != d.CRC32C():
		return fmt.Errorf("CRC-32C %s instead of %s", info.CRC32C, d.CRC32C())
	}
	return nil
}

// Summed is a reader that sums what is read from it. A wrapper that may change the bytes hides the sums with it.
type Summed interface {
	io.Reader
	Digest() *Digest // of what has been read so far
}

// Sum sums what will be read from r. Of bytes that pass several who want their sums, SHA-256 is computed once: if r is Summed and nothing has
// been read from it, it is r itself. A reader that can seek still can, because Steady starts it again.
func Sum(r io.Reader) Summed {
	if s, ok := r.(Summed); ok && s.Digest().Size() == 0 {
		return s
	}
	digest := NewDigest()
	s := summed{io.TeeReader(r, digest), digest}
	if seeker, ok := r.(io.Seeker); ok {
		return &summedSeeker{s, seeker}
	}
	return s
}

type summed struct {
	io.Reader
	digest *Digest
}

func (s summed) Digest() *Digest { return s.digest }

type summedSeeker struct {
	summed
	seeker io.Seeker
}

// Seek allows what a second attempt needs: to ask where it is, and to go back to where the sums began.
func (s *summedSeeker) Seek(offset int64, whence int) (int64, error) {
	here, err := s.seeker.Seek(0, io.SeekCurrent)
	if err != nil || (whence == io.SeekCurrent && offset == 0) {
		return here, err
	}
	start := here - s.digest.Size()
	if whence != io.SeekStart || offset != start {
		return here, fmt.Errorf("seek to %d (whence %d): only back to %d: %w", offset, whence, start, errors.ErrUnsupported)
	}
	*s.digest = *NewDigest()
	return s.seeker.Seek(start, io.SeekStart)
}
