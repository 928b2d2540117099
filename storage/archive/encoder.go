package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"filippo.io/age"

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
	opts     EncoderOptions
	sealed   io.WriteCloser // the age writer, nil if not encrypted
	pipe     *pipeline
	fill     *frame // being filled
	lockPage int64
	pages    int64 // written so far
	free     int64 // of them
}

// NewEncoder begins a backup on w. Nothing but the header of the encryption
// is written before the first frame is full.
func NewEncoder(w io.Writer, opts EncoderOptions) (*Encoder, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	e := &Encoder{opts: opts, lockPage: lockPage(opts.PageSize)}
	if len(opts.Recipients) > 0 {
		sealed, err := age.Encrypt(w, opts.Recipients...)
		if err != nil {
			return nil, fmt.Errorf("encode backup of %s: encrypt: %w", opts.Table, err)
		}
		e.sealed, w = sealed, sealed
	}
	pipe, err := newPipeline(w, opts)
	if err != nil {
		return nil, fmt.Errorf("encode backup of %s: %w", opts.Table, err)
	}
	e.pipe = pipe
	return e, nil
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
		e.fill = e.pipe.take(e.pages)
	}
	e.pages++
	switch {
	case e.pages == e.lockPage:
		e.fill.addZeros(e.opts.PageSize)
	case free:
		e.free++
		e.fill.addZeros(e.opts.PageSize)
	default:
		e.fill.add(page)
	}
	if e.fill.n == FrameSize || e.pages == e.opts.PageCount {
		e.pipe.send(e.fill)
		e.fill = nil
	}
	if err := e.pipe.failure(); err != nil {
		return fmt.Errorf("encode backup of %s: %w", e.opts.Table, err)
	}
	return nil
}

// Close writes what follows the data: page sums, manifest and seek table. Of m
// it keeps rows, schema, versions, modes and state; the rest it knows itself.
// It gives the manifest as written. It does not close the writer below. An
// encoder closes once; the pages must be complete.
func (e *Encoder) Close(m Manifest) (Manifest, error) {
	m, err := e.finish(m)
	if err != nil {
		return Manifest{}, fmt.Errorf("encode backup of %s: %w", e.opts.Table, err)
	}
	return m, nil
}

var errClosed = errors.New("already closed")

// finish writes the frames that zstd passes over, and ends the encryption.
func (e *Encoder) finish(m Manifest) (Manifest, error) {
	if err := e.pipe.wait(); err != nil {
		return Manifest{}, err
	}
	if e.pages != e.opts.PageCount {
		return Manifest{}, fmt.Errorf("%d pages of the %d announced", e.pages, e.opts.PageCount)
	}
	// Whatever comes of it, it is not done twice.
	e.pipe.fail(errClosed)
	sum := sha256.New()
	if err := e.writeSums(sum); err != nil {
		return Manifest{}, fmt.Errorf("write page sums: %w", err)
	}
	m = e.complete(m)
	m.SumsSHA256 = hex.EncodeToString(sum.Sum(nil))
	payload, err := m.payload()
	if err != nil {
		return Manifest{}, err
	}
	if err := e.pipe.writeSkippable(manifestMagic, payload); err != nil {
		return Manifest{}, fmt.Errorf("write manifest: %w", err)
	}
	if err := e.writeEnd(); err != nil {
		return Manifest{}, fmt.Errorf("write seek table: %w", err)
	}
	return m, nil
}

// complete fills in what the encoder knows.
func (e *Encoder) complete(m Manifest) Manifest {
	m = m.clone()
	m.Format = Format
	m.Table, m.Created = e.opts.Table, e.opts.Created.UTC()
	m.PageSize, m.PageCount, m.FreePages = e.opts.PageSize, e.pages, e.free
	m.Size = e.pages * int64(e.opts.PageSize)
	m.SHA256 = hex.EncodeToString(e.pipe.hash.Sum(nil))
	if e.opts.ToolVersion != "" {
		m.ToolVersion = e.opts.ToolVersion
	}
	return m
}

// writeSums writes the page sums in frames, and to sum as one.
func (e *Encoder) writeSums(sum io.Writer) error {
	for part := range slices.Chunk(e.pipe.sums, sumsFrame/ledger.SumSize) {
		payload := part.Bytes()
		if _, err := sum.Write(payload); err != nil {
			return err
		}
		if err := e.pipe.writeSkippable(sumsMagic, payload); err != nil {
			return err
		}
	}
	return nil
}

func (e *Encoder) writeEnd() error {
	end, err := e.pipe.table.bytes()
	if err != nil {
		return err
	}
	if _, err := e.pipe.out.Write(end); err != nil {
		return err
	}
	if e.sealed == nil {
		return nil
	}
	return e.sealed.Close()
}

// Sums are the checksums of the pages as written. They are complete after Close.
func (e *Encoder) Sums() ledger.Sums { return e.pipe.sums }
