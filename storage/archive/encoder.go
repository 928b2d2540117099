package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"tablekeeper/storage/ledger"
)

// maxConcurrency bounds the encoder's memory on machines with many cores: each
// frame in flight takes about 2 MiB.
const maxConcurrency = 8

// EncoderOptions describe the snapshot to be written. Table, PageSize and
// PageCount are required.
type EncoderOptions struct {
	Table     string
	Created   time.Time // of the snapshot; goes to the manifest in UTC
	PageSize  int       // bytes; a power of two, 512 to 65536
	PageCount int64     // at least 1

	// Recipients, if any, are whom the whole stream is encrypted to with age.
	Recipients []age.Recipient

	Concurrency int // frames compressed at once; default GOMAXPROCS, at most 8
	ToolVersion string
}

func (o EncoderOptions) check() error {
	switch {
	case !validTable(o.Table):
		return fmt.Errorf("encode backup: table's name is %.100q", o.Table)
	case !validPageSize(o.PageSize):
		return fmt.Errorf("encode backup of %s: page size %d", o.Table, o.PageSize)
	case o.PageCount < 1 || o.PageCount > maxPageCount:
		// A file of no pages is a valid empty database, and a truncated one too.
		return fmt.Errorf("encode backup of %s: %d pages", o.Table, o.PageCount)
	}
	return nil
}

func (o EncoderOptions) concurrency() int {
	n := o.Concurrency
	if n < 1 {
		n = runtime.GOMAXPROCS(0)
	}
	return min(n, maxConcurrency)
}

// Encoder writes one backup. Pages go in, in order; frames are compressed in
// parallel and come out in order. Its memory is some frames of 2 MiB and four
// bytes a page, whatever the table's size. It is for one goroutine.
//
// An encoder that is given up needs no closing: without Close, what it wrote is
// no backup.
type Encoder struct {
	opts   EncoderOptions
	out    *countingWriter
	sealed io.WriteCloser // the age writer above out, nil if not encrypted
	zstd   *zstd.Encoder

	sums     ledger.Sums
	zeroSum  uint32
	lockPage int64
	pages    int64 // written so far
	free     int64
	table    seekTable

	fill   *frame      // being filled
	spare  chan *frame // bounds the frames in flight
	hash   hash.Hash
	hashed chan struct{} // closed when the newest frame has been hashed
	wrote  chan struct{} // closed when the newest frame has been written

	zeros     []byte // of a full frame, or the only one
	zeroFrame []byte // the same, compressed

	mu  sync.Mutex
	err error // the first one
}

// frame is one MiB of the file on its way through the encoder.
type frame struct {
	raw   []byte // of a full frame
	n     int    // filled
	zero  bool   // only zeros so far; raw is stale then
	out   []byte
	first int64 // index of its first page
	busy  sync.WaitGroup
}

// NewEncoder begins a backup on w. Nothing but the header of the encryption
// is written before the first frame is full.
func NewEncoder(w io.Writer, opts EncoderOptions) (*Encoder, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	n := opts.concurrency()
	full := int(min(FrameSize, opts.PageCount*int64(opts.PageSize)))
	compressor, err := newCompressor(n, full)
	if err != nil {
		return nil, fmt.Errorf("encode backup of %s: %w", opts.Table, err)
	}
	e := &Encoder{
		opts: opts, zstd: compressor,
		sums:     make(ledger.Sums, opts.PageCount),
		lockPage: lockPage(opts.PageSize),
		spare:    make(chan *frame, 2*n+2),
		hash:     sha256.New(),
		hashed:   closedChan(), wrote: closedChan(),
		zeros: make([]byte, full),
	}
	e.zeroSum = ledger.Sum(e.zeros[:opts.PageSize])
	for range cap(e.spare) {
		e.spare <- &frame{}
	}
	if err := e.open(w); err != nil {
		return nil, fmt.Errorf("encode backup of %s: %w", opts.Table, err)
	}
	return e, nil
}

// newCompressor gives zstd's fastest level with a checksum and the content's
// size in each frame, for frames of up to size bytes. It starts no goroutine and
// holds nothing to be closed.
func newCompressor(n, size int) (*zstd.Encoder, error) {
	window := zstd.MinWindowSize
	for window < size {
		window *= 2
	}
	return zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(n),
		zstd.WithWindowSize(window),
		zstd.WithSingleSegment(true),
		zstd.WithEncoderCRC(true))
}

func (e *Encoder) open(w io.Writer) error {
	if len(e.opts.Recipients) == 0 {
		e.out = &countingWriter{w: w}
		return nil
	}
	sealed, err := age.Encrypt(w, e.opts.Recipients...)
	if err != nil {
		return fmt.Errorf("encrypt: %w", err)
	}
	e.sealed = sealed
	e.out = &countingWriter{w: sealed}
	return nil
}

// WritePage adds the next page; the first is page 1. A free page's content is
// not looked at: zeros are written, as for the page that SQLite locks and never
// uses. page is not kept.
func (e *Encoder) WritePage(page []byte, free bool) error {
	if e.pages == e.opts.PageCount {
		return fmt.Errorf("encode backup of %s: more than the %d pages announced", e.opts.Table, e.opts.PageCount)
	}
	if len(page) != e.opts.PageSize && !(free && len(page) == 0) {
		return fmt.Errorf("encode backup of %s: page %d has %d bytes, not %d",
			e.opts.Table, e.pages+1, len(page), e.opts.PageSize)
	}
	if e.fill == nil {
		e.fill = e.spareFrame()
	}
	if free {
		e.free++
	}
	e.pages++
	if free || e.pages == e.lockPage {
		e.fill.addZeros(e.opts.PageSize)
	} else {
		e.fill.add(page)
	}
	if e.fill.n == FrameSize || e.pages == e.opts.PageCount {
		e.flush()
	}
	return e.failure()
}

// spareFrame waits until a frame has left the encoder.
func (e *Encoder) spareFrame() *frame {
	f := <-e.spare
	if f.raw == nil {
		f.raw = make([]byte, len(e.zeros))
	}
	f.n, f.zero, f.first = 0, true, e.pages
	return f
}

func (f *frame) add(page []byte) {
	if f.zero {
		clear(f.raw[:f.n])
		f.zero = false
	}
	f.n += copy(f.raw[f.n:], page)
}

func (f *frame) addZeros(n int) {
	if !f.zero {
		clear(f.raw[f.n : f.n+n])
	}
	f.n += n
}

// flush sends the frame on its way: it is hashed and compressed at once, and
// written when the frame before it has been. The goroutines end by themselves,
// with or without Close.
func (e *Encoder) flush() {
	f := e.fill
	e.fill = nil
	hashTurn, writeTurn := e.hashed, e.wrote
	e.hashed, e.wrote = make(chan struct{}), make(chan struct{})
	hashed, wrote := e.hashed, e.wrote

	f.busy.Add(1)
	go func() {
		<-hashTurn
		e.hash.Write(e.content(f))
		close(hashed)
		f.busy.Done()
	}()
	go func() {
		data := e.compress(f)
		<-writeTurn
		e.write(data, f.n)
		close(wrote)
		f.busy.Wait()
		e.spare <- f
	}()
}

func (e *Encoder) content(f *frame) []byte {
	if f.zero {
		return e.zeros[:f.n]
	}
	return f.raw[:f.n]
}

// compress takes the page sums too: the content is in the cache by then.
func (e *Encoder) compress(f *frame) []byte {
	pages := f.n / e.opts.PageSize
	sums := e.sums[f.first:][:pages]
	if f.zero {
		for i := range sums {
			sums[i] = e.zeroSum
		}
		return e.compressZeros(f.n)
	}
	for i := range sums {
		sums[i] = ledger.Sum(f.raw[i*e.opts.PageSize:][:e.opts.PageSize])
	}
	f.out = e.zstd.EncodeAll(f.raw[:f.n], f.out[:0])
	return f.out
}

// compressZeros keeps the result for a full frame: half of a table may be free.
func (e *Encoder) compressZeros(n int) []byte {
	if n != len(e.zeros) {
		return e.zstd.EncodeAll(e.zeros[:n], nil)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.zeroFrame == nil {
		e.zeroFrame = e.zstd.EncodeAll(e.zeros, nil)
	}
	return e.zeroFrame
}

// write is called by one goroutine at a time, in order.
func (e *Encoder) write(data []byte, decompressed int) {
	if e.failure() != nil {
		return
	}
	e.table.add(len(data), decompressed)
	if _, err := e.out.Write(data); err != nil {
		e.fail(fmt.Errorf("encode backup of %s: write at offset %d: %w", e.opts.Table, e.out.n, err))
	}
}

func (e *Encoder) failure() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

func (e *Encoder) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil {
		e.err = err
	}
}

// Close writes what follows the data: page sums, manifest and seek table. Of m
// it keeps rows, schema, versions, modes and state; the rest it knows itself.
// It gives the manifest as written. It does not close the writer below. An
// encoder closes once; the pages must be complete.
func (e *Encoder) Close(m Manifest) (Manifest, error) {
	<-e.hashed
	<-e.wrote
	if err := e.failure(); err != nil {
		return Manifest{}, err
	}
	if e.pages != e.opts.PageCount {
		return Manifest{}, fmt.Errorf("encode backup of %s: %d pages of the %d announced", e.opts.Table, e.pages, e.opts.PageCount)
	}
	m, err := e.finish(e.complete(m))
	if err != nil {
		err = fmt.Errorf("encode backup of %s: %w", e.opts.Table, err)
		e.fail(err)
		return Manifest{}, err
	}
	e.fail(errors.New("encode backup: already closed"))
	return m, nil
}

func (e *Encoder) complete(m Manifest) Manifest {
	m = m.clone()
	m.Format = Format
	m.Table, m.Created = e.opts.Table, e.opts.Created.UTC()
	m.PageSize, m.PageCount, m.FreePages = e.opts.PageSize, e.pages, e.free
	m.Size = e.pages * int64(e.opts.PageSize)
	m.SHA256 = hex.EncodeToString(e.hash.Sum(nil))
	if e.opts.ToolVersion != "" {
		m.ToolVersion = e.opts.ToolVersion
	}
	return m
}

// finish writes the frames that zstd passes over, and ends the encryption.
func (e *Encoder) finish(m Manifest) (Manifest, error) {
	sum := sha256.New()
	if err := e.writeSums(sum); err != nil {
		return Manifest{}, fmt.Errorf("write page sums: %w", err)
	}
	m.SumsSHA256 = hex.EncodeToString(sum.Sum(nil))
	payload, err := m.payload()
	if err != nil {
		return Manifest{}, err
	}
	if err := e.writeSkippable(manifestMagic, payload); err != nil {
		return Manifest{}, fmt.Errorf("write manifest: %w", err)
	}
	end, err := e.table.bytes()
	if err != nil {
		return Manifest{}, err
	}
	if _, err := e.out.Write(end); err != nil {
		return Manifest{}, fmt.Errorf("write seek table: %w", err)
	}
	if e.sealed == nil {
		return m, nil
	}
	if err := e.sealed.Close(); err != nil {
		return Manifest{}, fmt.Errorf("write the end of the encryption: %w", err)
	}
	return m, nil
}

// writeSums writes the page sums in frames, and to sum as one.
func (e *Encoder) writeSums(sum io.Writer) error {
	for part := range slices.Chunk(e.sums, sumsFrame/ledger.SumSize) {
		payload := part.Bytes()
		if _, err := sum.Write(payload); err != nil {
			return err
		}
		if err := e.writeSkippable(sumsMagic, payload); err != nil {
			return err
		}
	}
	return nil
}

func (e *Encoder) writeSkippable(magic uint32, payload []byte) error {
	b := appendSkippable(nil, magic, payload)
	e.table.add(len(b), 0)
	_, err := e.out.Write(b)
	return err
}

// Sums are the checksums of the pages as written. They are complete after Close.
func (e *Encoder) Sums() ledger.Sums { return e.sums }

func closedChan() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// countingWriter knows how much it has passed on.
type countingWriter struct {
	w io.Writer
	n int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.n += int64(n)
	return n, err
}
