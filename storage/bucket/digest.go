package bucket

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/crc32"
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
