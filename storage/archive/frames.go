package archive

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"sync"

	"tablekeeper/storage/ledger"
)

// pipeline hashes, sums, compresses and writes frames: compression in parallel,
// the rest in order. Its goroutines end by themselves.
type pipeline struct {
	pageSize int
	out      io.Writer
	table    seekTable
	sums     ledger.Sums

	zstd  *compressor
	zero  zeroFrame
	spare chan *frame // bounds the frames in flight

	hash   hash.Hash
	hashed chan struct{} // closed when the newest frame has been hashed
	wrote  chan struct{} // closed when the newest frame has been written

	mu  sync.Mutex
	err error // the first one
}

// frame is one MiB of the file on its way through the pipeline.
type frame struct {
	raw   []byte
	n     int    // filled
	zero  bool   // only zeros so far; raw is stale then
	out   []byte // compressed
	first int64  // index of its first page
	group *group // that it is compressed with
	leads bool   // it is the first of them
	busy  sync.WaitGroup
}

// zeroFrame is a full frame of zeros. Half of a table may be free.
type zeroFrame struct {
	raw  []byte
	sum  uint32 // of a page
	comp func() []byte
}

func newPipeline(out io.Writer, opts EncoderOptions) (*pipeline, error) {
	n := opts.concurrency()
	full := int(min(FrameSize, opts.PageCount*int64(opts.PageSize)))
	compressor, err := newCompressor(n, full)
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, full)
	p := &pipeline{
		pageSize: opts.PageSize, out: out, zstd: compressor,
		sums: make(ledger.Sums, opts.PageCount), spare: make(chan *frame, framesInFlight(n)),
		hash: sha256.New(), hashed: closedChan(), wrote: closedChan(),
		zero: zeroFrame{
			raw: zeros, sum: ledger.Sum(zeros[:opts.PageSize]),
			comp: sync.OnceValue(func() []byte { return compressor.coded.EncodeAll(zeros, nil) }),
		},
	}
	for range cap(p.spare) {
		p.spare <- &frame{}
	}
	return p, nil
}

// framesInFlight is how many frames n compressors are kept busy with.
func framesInFlight(n int) int { return 2*n + 2 }

// take waits until a frame has left the pipeline. first is the index of the
// page that it will begin with.
func (p *pipeline) take(first int64) *frame {
	f := <-p.spare
	if f.raw == nil {
		f.raw = make([]byte, len(p.zero.raw))
	}
	f.n, f.zero, f.first = 0, true, first
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

// send puts a frame on its way: it is hashed and compressed at once, and
// written when the frame before it has been.
func (p *pipeline) send(f *frame) {
	hashTurn, writeTurn := p.hashed, p.wrote
	hashed, wrote := make(chan struct{}), make(chan struct{})
	p.hashed, p.wrote = hashed, wrote
	if !p.isZeroFrame(f) {
		f.group, f.leads = p.zstd.join()
	}

	f.busy.Go(func() {
		<-hashTurn
		p.hash.Write(p.content(f))
		close(hashed)
	})
	go func() {
		data := p.compress(f)
		<-writeTurn
		p.write(data, f.n)
		close(wrote)
		f.busy.Wait()
		p.spare <- f
	}()
}

func (p *pipeline) content(f *frame) []byte {
	if f.zero {
		return p.zero.raw[:f.n]
	}
	return f.raw[:f.n]
}

// compress takes the page sums too: the content is in the processor's cache.
func (p *pipeline) compress(f *frame) []byte {
	raw := p.content(f)
	sums := p.sums[f.first:][:f.n/p.pageSize]
	for i := range sums {
		if f.zero {
			sums[i] = p.zero.sum
		} else {
			sums[i] = ledger.Sum(raw[i*p.pageSize:][:p.pageSize])
		}
	}
	if p.isZeroFrame(f) {
		return p.zero.comp()
	}
	f.out = p.zstd.compress(f.group, f.leads, raw, f.out[:0])
	return f.out
}

func (p *pipeline) isZeroFrame(f *frame) bool { return f.zero && f.n == len(p.zero.raw) }

// write is called by one goroutine at a time, in order.
func (p *pipeline) write(data []byte, decompressed int) {
	if p.failure() != nil {
		return
	}
	p.table.add(len(data), decompressed)
	if _, err := p.out.Write(data); err != nil {
		p.fail(fmt.Errorf("write frame %d: %w", len(p.table.entries)-1, err))
	}
}

// wait is for all frames sent. It gives the first error.
func (p *pipeline) wait() error {
	<-p.hashed
	<-p.wrote
	return p.failure()
}

// writeSkippable writes a frame that zstd passes over, after all others.
func (p *pipeline) writeSkippable(magic uint32, payload []byte) error {
	b := appendSkippable(nil, magic, payload)
	p.table.add(len(b), 0)
	_, err := p.out.Write(b)
	return err
}

func (p *pipeline) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *pipeline) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

func closedChan() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
