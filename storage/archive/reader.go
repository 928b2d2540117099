package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"tablekeeper/storage/ledger"
)

// OpenOptions say what may be opened.
type OpenOptions struct {
	Identities []age.Identity // tried in order on an encrypted backup
	MaxSize    int64          // of the decoded SQLite file in bytes; 0: what SQLite can hold

	Concurrency int // frames decoded at once; default GOMAXPROCS, at most 8
}

func (o OpenOptions) maxSize() int64 {
	if o.MaxSize <= 0 {
		return maxPageCount * maxPageSize
	}
	return o.MaxSize
}

func (o OpenOptions) concurrency() int {
	return EncoderOptions{Concurrency: o.Concurrency}.concurrency()
}

// maxFrames is how many frames a file of the largest size allowed can have.
func (o OpenOptions) maxFrames() int64 {
	pages := frameCount(o.maxSize(), minPageSize)
	return frameCount(o.maxSize(), FrameSize) + frameCount(pages*ledger.SumSize, sumsFrame) + 1
}

// Reader reads one backup by ranges. It is safe for concurrent use.
type Reader struct {
	src      io.ReaderAt // of the zstd stream, decrypted
	manifest Manifest
	offsets  []int64 // of each data frame, and the end of the last
	sumsAt   []int64 // of each frame of page sums, and the end of the last
	workers  int

	decoder       func() (*zstd.Decoder, error)
	skipFrameSums bool

	mu   sync.Mutex
	sums ledger.Sums // once read
}

// Open reads and checks the structure of the backup in the first size bytes of
// r: seek table and manifest, from its tail. The content is checked as it is
// read. The errors are ErrFormat, ErrNewer, ErrWrongKey, ErrTruncated, ErrSum,
// ErrTooLarge and those of r.
func Open(ctx context.Context, r io.ReaderAt, size int64, opts OpenOptions) (*Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if size < 0 {
		return nil, fmt.Errorf("open backup: %w", formatError("size is %d", size))
	}
	plain, plainErr := openPlain(r, size, opts)
	if plainErr == nil {
		return plain, nil
	}
	if !errors.Is(plainErr, ErrFormat) && !errors.Is(plainErr, ErrTruncated) {
		return nil, fmt.Errorf("open backup: %w", plainErr)
	}
	kind, err := sniff(r, size)
	if err != nil {
		return nil, fmt.Errorf("open backup: %w", err)
	}
	switch kind {
	case kindAge:
		sealed, err := openSealed(r, size, opts)
		if err != nil {
			return nil, fmt.Errorf("open encrypted backup: %w", err)
		}
		return sealed, nil
	case kindOther:
		return nil, fmt.Errorf("open backup: %w", formatError("it begins neither as zstd nor as age"))
	default:
		return nil, fmt.Errorf("open backup: %w", plainErr)
	}
}

// openPlain opens a zstd stream.
func openPlain(r io.ReaderAt, size int64, opts OpenOptions) (*Reader, error) {
	end, err := readTail(r, size)
	if err != nil {
		return nil, err
	}
	table, begin, err := readSeekTable(end, size, opts.maxFrames())
	if err != nil {
		return nil, err
	}
	m, err := readManifest(end, table, begin)
	if err != nil {
		return nil, err
	}
	if m.Size > opts.maxSize() {
		return nil, fmt.Errorf("%w: %d bytes decoded, at most %d allowed", ErrTooLarge, m.Size, opts.maxSize())
	}
	reader := &Reader{src: r, manifest: m, workers: opts.concurrency()}
	if err := reader.layOut(table); err != nil {
		return nil, err
	}
	reader.decoder = sync.OnceValues(reader.newDecoder)
	return reader, nil
}

// readManifest reads the last frame before the seek table, which begins at end.
func readManifest(t *tail, table seekTable, end int64) (Manifest, error) {
	if len(table.entries) == 0 {
		return Manifest{}, formatError("seek table is empty")
	}
	n := int64(table.entries[len(table.entries)-1].compressed)
	if n < skippableHeader || n > skippableHeader+ledger.SumSize+maxManifest {
		return Manifest{}, formatError("manifest's frame has %d bytes", n)
	}
	b, err := t.read(end-n, n)
	if err != nil {
		return Manifest{}, err
	}
	if err := checkSkippable(b, manifestMagic, n); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	return parseManifest(b[skippableHeader:])
}

// layOut checks the seek table against the manifest, entry by entry: full data
// frames and a shorter last one, the frames of the sums, the manifest.
func (r *Reader) layOut(t seekTable) error {
	data := frameCount(r.manifest.Size, FrameSize)
	sumsSize := r.manifest.PageCount * ledger.SumSize
	sums := frameCount(sumsSize, sumsFrame)
	if int64(len(t.entries)) != data+sums+1 {
		return formatError("%d frames, %d expected for %d bytes", len(t.entries), data+sums+1, r.manifest.Size)
	}
	r.offsets = make([]int64, 1, data+1)
	for i, e := range t.entries[:data] {
		want := min(FrameSize, r.manifest.Size-int64(i)*FrameSize)
		if int64(e.decompressed) != want || e.compressed == 0 || e.compressed > maxDataFrame {
			return formatError("frame %d is %d bytes of %d, %d expected", i, e.compressed, e.decompressed, want)
		}
		r.offsets = append(r.offsets, r.offsets[i]+int64(e.compressed))
	}
	r.sumsAt = append(make([]int64, 0, sums+1), r.offsets[data])
	for i, e := range t.entries[data : data+sums] {
		want := skippableHeader + min(sumsFrame, sumsSize-int64(i)*sumsFrame)
		if int64(e.compressed) != want || e.decompressed != 0 {
			return formatError("frame %d of the page sums is %d bytes, %d expected", i, e.compressed, want)
		}
		r.sumsAt = append(r.sumsAt, r.sumsAt[i]+want)
	}
	if t.entries[data+sums].decompressed != 0 {
		return formatError("manifest's frame decodes to something")
	}
	return nil
}

// newDecoder never decodes more than the room that it is given.
func (r *Reader) newDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(r.workers),
		zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxMemory(FrameSize),
		zstd.IgnoreChecksum(r.skipFrameSums),
		zstd.WithDecoderLowmem(true))
}

// SkipFrameSums leaves alone the checksum that zstd keeps of each frame. Restore
// and Stream see any change of the content without it: each page has its sum,
// and the whole its SHA-256. A frame whose content is right and whose checksum is
// not, which `zstd -d` refuses, is then read. It is to be called before anything
// is read.
func (r *Reader) SkipFrameSums() { r.skipFrameSums = true }

// Manifest says what the backup holds.
func (r *Reader) Manifest() Manifest { return r.manifest.clone() }

// Sums are the checksums of all pages, four bytes of memory each. They are
// checked against the manifest, and kept.
func (r *Reader) Sums() (ledger.Sums, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sums != nil {
		return r.sums, nil
	}
	hash := sha256.New()
	var all ledger.Sums
	for i := range len(r.sumsAt) - 1 {
		part, err := r.readSumsFrame(i)
		if err != nil {
			return nil, fmt.Errorf("page sums: %w", err)
		}
		hash.Write(part)
		sums, err := ledger.ParseSums(part)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		all = append(all, sums...)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != r.manifest.SumsSHA256 {
		return nil, fmt.Errorf("%w: page sums", ErrSum)
	}
	r.sums = all
	return all, nil
}

func (r *Reader) readSumsFrame(i int) ([]byte, error) {
	n := r.sumsAt[i+1] - r.sumsAt[i]
	b, err := readGrowing(r.src, r.sumsAt[i], n)
	if err != nil {
		return nil, err
	}
	if err := checkSkippable(b, sumsMagic, n); err != nil {
		return nil, err
	}
	return b[skippableHeader:], nil
}

// frames is the number of data frames.
func (r *Reader) frames() int64 { return int64(len(r.offsets)) - 1 }

// rawSize is what frame i decodes to.
func (r *Reader) rawSize(i int64) int64 {
	return min(FrameSize, r.manifest.Size-i*FrameSize)
}

// decode decodes frame i from comp into raw, which has room for any frame, and
// checks that it gives what the manifest says and no more.
func (r *Reader) decode(i int64, comp, raw []byte) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(comp); err != nil {
		return nil, formatError("frame %d: %v", i, err)
	}
	want := r.rawSize(i)
	if h.Skippable || !h.HasFCS || int64(h.FrameContentSize) != want || h.DictionaryID != 0 {
		return nil, formatError("frame %d is no plain frame of %d bytes", i, want)
	}
	dec, err := r.decoder()
	if err != nil {
		return nil, fmt.Errorf("frame %d: %w", i, err)
	}
	out, err := dec.DecodeAll(comp, raw[:0:want])
	switch {
	case errors.Is(err, zstd.ErrCRCMismatch):
		return nil, fmt.Errorf("%w: frame %d", ErrSum, i)
	case err != nil:
		return nil, formatError("frame %d: %v", i, err)
	case int64(len(out)) != want:
		return nil, formatError("frame %d decodes to %d bytes, not %d", i, len(out), want)
	}
	return out, nil
}

// checkPages compares the pages of frame i with their sums.
func (r *Reader) checkPages(i int64, raw []byte, sums ledger.Sums) error {
	size := r.manifest.PageSize
	for p := range len(raw) / size {
		if ledger.Sum(raw[p*size:][:size]) != sums[p] {
			return fmt.Errorf("%w: page %d", ErrSum, i*r.pagesPerFrame()+int64(p)+1)
		}
	}
	return nil
}

func (r *Reader) pagesPerFrame() int64 { return FrameSize / int64(r.manifest.PageSize) }

// frameSums gives the sums of the pages of frame i alone.
func (r *Reader) frameSums(i int64) (ledger.Sums, error) {
	first := i * r.pagesPerFrame()
	n := r.rawSize(i) / int64(r.manifest.PageSize)
	r.mu.Lock()
	all := r.sums
	r.mu.Unlock()
	if all != nil {
		return all[first:][:n], nil
	}
	at := first * ledger.SumSize
	b := make([]byte, n*ledger.SumSize)
	if err := readFull(r.src, b, r.sumsAt[at/sumsFrame]+skippableHeader+at%sumsFrame); err != nil {
		return nil, fmt.Errorf("page sums: %w", err)
	}
	return ledger.ParseSums(b)
}
