package archive

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// Frames that zstd passes over, by their magic numbers (RFC 8878, 3.1.2), and
// the seek table (facebook/zstd, contrib/seekable_format).
const (
	dataMagic     = 0xFD2FB528
	sumsMagic     = 0x184D2A57
	manifestMagic = 0x184D2A5B
	seekMagic     = 0x184D2A5E
	seekableMagic = 0x8F92EAB1

	skippableHeader = 8
	seekEntry       = 8
	seekFooter      = 9

	// maxDataFrame is what incompressible content may take: zstd's
	// ZSTD_compressBound of FrameSize.
	maxDataFrame = FrameSize + FrameSize>>8
)

// sumsFrame is the number of bytes of page sums in each frame but the last. It
// is a multiple of what one data frame needs, so no data frame's sums straddle
// two frames.
const sumsFrame = 1 << 20

// tailRead is what Open fetches at first: seek table and manifest of a table
// of several GB fit.
const tailRead = 64 << 10

// appendSkippable wraps payload in a frame that zstd passes over.
func appendSkippable(dst []byte, magic uint32, payload []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, magic)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(payload)))
	return append(dst, payload...)
}

// checkSkippable refuses a frame of n bytes that does not begin as it should.
func checkSkippable(b []byte, magic uint32, n int64) error {
	if int64(len(b)) != n || n < skippableHeader || binary.LittleEndian.Uint32(b) != magic ||
		int64(binary.LittleEndian.Uint32(b[4:])) != n-skippableHeader {
		return formatError("frame header")
	}
	return nil
}

// seekTable is the list of every frame before it: its length in the object and
// of what it decodes to (0 for a frame that zstd passes over).
type seekTable struct {
	entries []seekTableEntry
}

type seekTableEntry struct{ compressed, decompressed uint32 }

func (t *seekTable) add(compressed, decompressed int) {
	t.entries = append(t.entries, seekTableEntry{uint32(compressed), uint32(decompressed)})
}

// bytes is the whole frame of the seek table, without checksums: each zstd
// frame and each page has its own.
func (t *seekTable) bytes() ([]byte, error) {
	n := int64(len(t.entries))*seekEntry + seekFooter
	if n > math.MaxUint32 {
		return nil, fmt.Errorf("seek table of %d frames does not fit its frame", len(t.entries))
	}
	out := make([]byte, 0, skippableHeader+n)
	out = binary.LittleEndian.AppendUint32(out, seekMagic)
	out = binary.LittleEndian.AppendUint32(out, uint32(n))
	for _, e := range t.entries {
		out = binary.LittleEndian.AppendUint32(out, e.compressed)
		out = binary.LittleEndian.AppendUint32(out, e.decompressed)
	}
	out = binary.LittleEndian.AppendUint32(out, uint32(len(t.entries)))
	out = append(out, 0)
	return binary.LittleEndian.AppendUint32(out, seekableMagic), nil
}

// parseSeekFooter reads the last 9 bytes of an object and gives the number of
// frames that the table before them lists.
func parseSeekFooter(b []byte) (int64, error) {
	if len(b) != seekFooter || binary.LittleEndian.Uint32(b[5:]) != seekableMagic {
		return 0, fmt.Errorf("%w: no seek table at its end", ErrTruncated)
	}
	if b[4] != 0 {
		return 0, formatError("seek table has flags %#02x", b[4])
	}
	n := int64(binary.LittleEndian.Uint32(b))
	if n*seekEntry+seekFooter > math.MaxUint32 {
		return 0, formatError("seek table of %d frames", n)
	}
	return n, nil
}

// parseSeekTable reads the whole frame of a seek table with n entries. The
// frames must fill the object exactly up to the table, which begins at end.
func parseSeekTable(b []byte, n, end int64) (seekTable, error) {
	if err := checkSkippable(b, seekMagic, seekTableSize(n)); err != nil {
		return seekTable{}, fmt.Errorf("seek table: %w", err)
	}
	t := seekTable{entries: make([]seekTableEntry, n)}
	off := int64(0)
	for i := range t.entries {
		e := b[skippableHeader+i*seekEntry:]
		t.entries[i] = seekTableEntry{binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:])}
		off += int64(t.entries[i].compressed)
		if off > end {
			return seekTable{}, formatError("seek table: frame %d ends past the seek table", i)
		}
	}
	if off != end {
		return seekTable{}, formatError("seek table: frames end at %d, the table begins at %d", off, end)
	}
	return t, nil
}

func seekTableSize(n int64) int64 { return skippableHeader + n*seekEntry + seekFooter }

// tail is the end of an object, fetched once; reads before it go to the object.
type tail struct {
	r    io.ReaderAt
	from int64
	b    []byte
}

func readTail(r io.ReaderAt, size int64) (*tail, error) {
	t := &tail{r: r, from: max(0, size-tailRead)}
	t.b = make([]byte, size-t.from)
	if err := readFull(r, t.b, t.from); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *tail) read(off, n int64) ([]byte, error) {
	if off >= t.from {
		return t.b[off-t.from:][:n], nil
	}
	return readGrowing(t.r, off, n)
}

// readSeekTable finds and reads the seek table of an object of size bytes.
// It gives the table and the offset where it begins. Tables that list more than
// maxFrames are refused before they are read.
func readSeekTable(t *tail, size, maxFrames int64) (seekTable, int64, error) {
	if size < seekTableSize(0) {
		return seekTable{}, 0, fmt.Errorf("%w: %d bytes", ErrTruncated, size)
	}
	foot, err := t.read(size-seekFooter, seekFooter)
	if err != nil {
		return seekTable{}, 0, err
	}
	n, err := parseSeekFooter(foot)
	if err != nil {
		return seekTable{}, 0, err
	}
	switch {
	case seekTableSize(n) > size:
		return seekTable{}, 0, formatError("seek table of %d frames in %d bytes", n, size)
	case n > maxFrames:
		return seekTable{}, 0, fmt.Errorf("%w: seek table lists %d frames, at most %d allowed", ErrTooLarge, n, maxFrames)
	}
	begin := size - seekTableSize(n)
	b, err := t.read(begin, seekTableSize(n))
	if err != nil {
		return seekTable{}, 0, err
	}
	table, err := parseSeekTable(b, n, begin)
	return table, begin, err
}
