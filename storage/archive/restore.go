package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"tablekeeper/storage/ledger"
)

// Frames are fetched in spans: one ranged read each, large enough to be worth
// a request, some of them ahead.
const (
	spanBytes  = 4 << 20
	spanFrames = 64
	spansAhead = 4
)

// Sparse is a target whose unwritten bytes read as zeros, such as a file just
// created: Restore leaves runs of zeros unwritten, as holes, and sets the
// length at the end.
type Sparse struct {
	Target interface {
		io.WriterAt
		Truncate(size int64) error
	}
}

// WriteAt writes to the target.
func (s Sparse) WriteAt(p []byte, off int64) (int, error) { return s.Target.WriteAt(p, off) }

// Restore writes the SQLite file to w, fetching and decoding in parallel. Every
// page is compared with its sum before it is written, and the whole with the
// manifest's SHA-256; after an error, what is in w is no table. Nothing is
// written past Manifest().Size. Free pages are zeros. If w is Sparse, runs of
// zeros become holes. progress, if not nil, is told the bytes done, in order,
// by one goroutine at a time.
func (r *Reader) Restore(ctx context.Context, w io.WriterAt, progress func(done, total int64)) error {
	if err := r.restore(ctx, w, progress); err != nil {
		return fmt.Errorf("restore backup of %s: %w", r.manifest.Table, err)
	}
	return nil
}

func (r *Reader) restore(ctx context.Context, w io.WriterAt, progress func(done, total int64)) error {
	sums, err := r.Sums()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	run := &restoring{
		r: r, g: g, w: w, sums: sums, progress: progress,
		zeros: make([]byte, r.manifest.PageSize), hash: sha256.New(),
		spare: emptyBuffers(2*r.workers + 2), ahead: emptyBuffers(spansAhead),
	}
	run.target, run.sparse = w.(Sparse)
	g.Go(func() error { return run.dispatch(ctx) })
	if err := g.Wait(); err != nil {
		return err
	}
	if got := hex.EncodeToString(run.hash.Sum(nil)); got != r.manifest.SHA256 {
		return fmt.Errorf("%w: SHA-256 is %s, the manifest says %s", ErrSum, got, r.manifest.SHA256)
	}
	if run.sparse {
		return run.target.Target.Truncate(r.manifest.Size)
	}
	return nil
}

// restoring is one run of Restore.
type restoring struct {
	r        *Reader
	g        *errgroup.Group
	w        io.WriterAt
	target   Sparse
	sparse   bool
	sums     ledger.Sums
	progress func(done, total int64)
	zeros    []byte
	hash     hash.Hash
	done     int64

	// Buffers are handed out in the order of the frames, so the earliest frame
	// always has its own and nothing can wait in a circle.
	spare chan []byte // of a frame
	ahead chan []byte // of a span
}

// span is a run of frames, fetched at once.
type span struct {
	first, end int64 // frames first <= i < end
	comp       []byte
	fetched    chan struct{}
	left       atomic.Int64 // frames yet to be decoded; then comp is free
}

// emptyBuffers gives n buffers, each to be allocated when it is first used.
func emptyBuffers(n int) chan []byte {
	c := make(chan []byte, n)
	for range n {
		c <- nil
	}
	return c
}

// dispatch sends spans and frames on their way, in order.
func (run *restoring) dispatch(ctx context.Context) error {
	spans := make(chan *span, spansAhead)
	run.g.Go(func() error { return run.fetchAll(ctx, spans) })
	turn := closedChan()
	for s := range spans {
		if err := wait(ctx, s.fetched); err != nil {
			return err
		}
		for i := s.first; i < s.end; i++ {
			next, err := run.startFrame(ctx, s, i, turn)
			if err != nil {
				return err
			}
			turn = next
		}
	}
	return wait(ctx, turn)
}

func wait(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func take(ctx context.Context, c <-chan []byte) ([]byte, error) {
	select {
	case b := <-c:
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// fetchAll starts the fetch of each span as soon as a buffer is free for it.
func (run *restoring) fetchAll(ctx context.Context, spans chan<- *span) error {
	defer close(spans)
	for first := int64(0); first < run.r.frames(); {
		buf, err := take(ctx, run.ahead)
		if err != nil {
			return err
		}
		s := &span{first: first, end: run.r.spanEnd(first), fetched: make(chan struct{})}
		s.left.Store(s.end - s.first)
		first = s.end
		run.g.Go(func() error { return run.fetch(s, buf) })
		select {
		case spans <- s:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// spanEnd is where the span that begins with frame first ends.
func (r *Reader) spanEnd(first int64) int64 {
	end := first + 1
	for end < r.frames() && end-first < spanFrames && r.offsets[end+1]-r.offsets[first] <= spanBytes {
		end++
	}
	return end
}

// fetch reads a span at once.
func (run *restoring) fetch(s *span, buf []byte) error {
	n := run.r.offsets[s.end] - run.r.offsets[s.first]
	if int64(cap(buf)) < n {
		buf = make([]byte, max(n, min(spanBytes, run.r.offsets[run.r.frames()])))
	}
	s.comp = buf[:n]
	if err := readFull(run.r.src, s.comp, run.r.offsets[s.first]); err != nil {
		return err
	}
	close(s.fetched)
	return nil
}

// startFrame decodes frame i on a goroutine of its own, which waits for its
// turn to be hashed. It gives the turn of the next.
func (run *restoring) startFrame(ctx context.Context, s *span, i int64, turn <-chan struct{}) (chan struct{}, error) {
	buf, err := take(ctx, run.spare)
	if err != nil {
		return nil, err
	}
	if buf == nil {
		buf = make([]byte, run.r.rawSize(0))
	}
	next := make(chan struct{})
	run.g.Go(func() error {
		raw, err := run.frame(ctx, s, i, buf)
		if s.left.Add(-1) == 0 {
			run.ahead <- s.comp
		}
		if err != nil {
			return err
		}
		if err := wait(ctx, turn); err != nil {
			return err
		}
		run.account(raw)
		close(next)
		run.spare <- buf
		return nil
	})
	return next, nil
}

// frame decodes, checks and writes one frame.
func (run *restoring) frame(ctx context.Context, s *span, i int64, buf []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	base := run.r.offsets[s.first]
	raw, err := run.r.decode(i, s.comp[run.r.offsets[i]-base:run.r.offsets[i+1]-base], buf)
	if err != nil {
		return nil, err
	}
	if err := run.r.checkPages(i, raw, run.sums[i*run.r.pagesPerFrame():]); err != nil {
		return nil, err
	}
	return raw, run.write(raw, i*FrameSize)
}

// account is called in the order of the frames, by one goroutine at a time.
func (run *restoring) account(raw []byte) {
	run.hash.Write(raw)
	run.done += int64(len(raw))
	if run.progress != nil {
		run.progress(run.done, run.r.manifest.Size)
	}
}

func (run *restoring) write(raw []byte, off int64) error {
	if !run.sparse {
		return writeAt(run.w, raw, off)
	}
	size := run.r.manifest.PageSize
	for at := 0; at < len(raw); {
		if run.isZero(raw[at:][:size]) {
			at += size
			continue
		}
		end := at + size
		for end < len(raw) && !run.isZero(raw[end:][:size]) {
			end += size
		}
		if err := writeAt(run.w, raw[at:end], off+int64(at)); err != nil {
			return err
		}
		at = end
	}
	return nil
}

func (run *restoring) isZero(page []byte) bool {
	return bytes.Equal(page, run.zeros)
}

func writeAt(w io.WriterAt, p []byte, off int64) error {
	if _, err := w.WriteAt(p, off); err != nil {
		return fmt.Errorf("write %d bytes at offset %d: %w", len(p), off, err)
	}
	return nil
}
