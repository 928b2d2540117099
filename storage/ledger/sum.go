// Package ledger keeps a checksum of every page of a table, so that a flipped
// bit is seen: SQLite's own pages carry none.
//
// It knows pages and their sums. Where the pages come from (a file, a WAL, a
// backup) and what to do about a page that differs is left to others.
package ledger

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// SumSize is the length in bytes of one sum in its serialised form.
const SumSize = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sum is the CRC-32C (Castagnoli, RFC 3720 appendix B.4) of a page.
func Sum(page []byte) uint32 { return crc32.Checksum(page, castagnoli) }

// Sums holds the sum of each page of a table; the sum of page n, which SQLite
// counts from 1, is at index n-1.
type Sums []uint32

// with are the sums after one more frame. What a frame gives a page beyond their end stands even if a later one of its transaction
// brings the pages between.
func (s Sums) with(f Frame) Sums {
	if int(f.Page) > len(s) {
		s = s.sized(int(f.Page))
	}
	s[f.Page-1] = f.Sum
	// One transaction at a time: a page that one drops and a later one brings back has lost its sum meanwhile.
	if f.Pages > 0 {
		s = s.sized(int(f.Pages))
	}
	return s
}

func (s Sums) sized(pages int) Sums {
	if pages <= len(s) {
		return s[:pages]
	}
	return append(s, make(Sums, pages-len(s))...)
}

// Bytes is the serialised form: four bytes a page, little endian, in page order.
func (s Sums) Bytes() []byte {
	out := make([]byte, 0, len(s)*SumSize)
	for _, sum := range s {
		out = binary.LittleEndian.AppendUint32(out, sum)
	}
	return out
}

// ParseSums reads what Bytes wrote. It allocates no more than the input holds.
func ParseSums(b []byte) (Sums, error) {
	if len(b)%SumSize != 0 {
		return nil, fmt.Errorf("page sums: %d bytes are no multiple of %d", len(b), SumSize)
	}
	sums := make(Sums, len(b)/SumSize)
	for i := range sums {
		sums[i] = binary.LittleEndian.Uint32(b[i*SumSize:])
	}
	return sums, nil
}
