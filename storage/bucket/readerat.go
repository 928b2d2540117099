package bucket

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

const (
	defaultBlock = 1 << 20 // bytes
	cachedBlocks = 16
	readAttempts = 4 // without a byte of progress
)

// NewReaderAt reads an object of size bytes at random, by ranged Gets of block bytes (0 means 1 MiB). Of small reads the last 16
// blocks are kept, and a block that several want at once is fetched once; a read of a block's size or more goes to the bucket directly.
// It may be used by many goroutines. A body that ends early is continued; what stays short is io.ErrUnexpectedEOF. If the object is
// replaced between two Gets the read fails with ErrPrecondition, where the bucket's bodies tell their version. All reads end with
// ctx, which is kept because io.ReaderAt has no place for one.
func NewReaderAt(ctx context.Context, r Reader, key string, size int64, block int) io.ReaderAt {
	if block <= 0 {
		block = defaultBlock
	}
	return &readerAt{ctx: ctx, r: r, key: key, size: size, block: int64(block), blocks: map[int64]*list.Element{}, recent: list.New()}
}

type readerAt struct {
	ctx   context.Context
	r     Reader
	key   string
	size  int64
	block int64

	mu     sync.Mutex
	etag   string // of the first body, "" until there is one
	blocks map[int64]*list.Element
	recent *list.List // of *cached, most recent first
}

// cached is a block that is there, or on its way until done is closed.
type cached struct {
	index int64
	done  chan struct{}
	data  []byte
	err   error
}

func (r *readerAt) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("get %s: negative offset %d", r.key, off)
	}
	want := p[:max(0, min(int64(len(p)), r.size-off))]
	n, err := r.read(want, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (r *readerAt) read(p []byte, off int64) (int, error) {
	if int64(len(p)) >= r.block {
		return r.fetch(p, off)
	}
	read := 0
	for read < len(p) {
		at := off + int64(read)
		data, err := r.blockAt(at / r.block)
		if err != nil {
			return read, err
		}
		read += copy(p[read:], data[at%r.block:])
	}
	return read, nil
}

// blockAt returns a block, from the cache if it is there.
func (r *readerAt) blockAt(index int64) ([]byte, error) {
	r.mu.Lock()
	if e, ok := r.blocks[index]; ok {
		r.recent.MoveToFront(e)
		r.mu.Unlock()
		c := e.Value.(*cached)
		<-c.done
		return c.data, c.err
	}
	c := &cached{index: index, done: make(chan struct{})}
	e := r.recent.PushFront(c)
	r.blocks[index] = e
	r.evict()
	r.mu.Unlock()

	data := make([]byte, min(r.block, r.size-index*r.block))
	if _, c.err = r.fetch(data, index*r.block); c.err == nil {
		c.data = data
	} else {
		r.forget(e)
	}
	close(c.done)
	return c.data, c.err
}

func (r *readerAt) evict() {
	for r.recent.Len() > cachedBlocks {
		oldest := r.recent.Back()
		delete(r.blocks, oldest.Value.(*cached).index)
		r.recent.Remove(oldest)
	}
}

// forget lets the next reader of a block that failed try again.
func (r *readerAt) forget(e *list.Element) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if index := e.Value.(*cached).index; r.blocks[index] == e {
		delete(r.blocks, index)
		r.recent.Remove(e)
	}
}

// fetch fills p from off, going on where a body broke off as long as each brings something.
func (r *readerAt) fetch(p []byte, off int64) (int, error) {
	read := 0
	var err error
	for failures := 0; read < len(p) && failures < readAttempts; failures++ {
		var n int
		if n, err = r.fetchOnce(p[read:], off+int64(read)); n > 0 {
			read, failures = read+n, 0
		}
		if r.ctx.Err() != nil {
			err = context.Cause(r.ctx)
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrUnreachable) {
			break
		}
	}
	if read == len(p) {
		return read, nil
	}
	return read, fmt.Errorf("get %s: bytes %d to %d: %w", r.key, off+int64(read), off+int64(len(p)), err)
}

func (r *readerAt) fetchOnce(p []byte, off int64) (int, error) {
	rc, err := r.open(off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(rc, p)
	closed := rc.Close()
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return n, io.ErrUnexpectedEOF
	case errors.Is(err, ErrPrecondition) || errors.Is(err, ErrDenied):
		return n, errors.Join(err, closed)
	}
	// Whatever broke the body, a new one may hold.
	return n, fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// open gets a range of the version that the first range was of.
func (r *readerAt) open(off, n int64) (io.ReadCloser, error) {
	r.mu.Lock()
	etag := r.etag
	r.mu.Unlock()
	var rc io.ReadCloser
	var err error
	if v, ok := r.r.(Versioned); ok && etag != "" {
		rc, err = v.GetVersion(r.ctx, r.key, etag, off, n)
	} else {
		rc, err = r.r.Get(r.ctx, r.key, off, n)
	}
	if err != nil {
		return nil, err
	}
	if err := r.pin(rc); err != nil {
		return nil, errors.Join(err, rc.Close())
	}
	return rc, nil
}

// pin compares a body's version and size with what they must be.
func (r *readerAt) pin(rc io.ReadCloser) error {
	body, ok := rc.(Body)
	if !ok {
		return nil
	}
	info := body.Info()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.etag == "" {
		r.etag = info.ETag
	}
	if info.ETag != r.etag {
		return fmt.Errorf("%w: ETag %s instead of %s", ErrPrecondition, info.ETag, r.etag)
	}
	if info.Size != r.size {
		return fmt.Errorf("%w: it has %d bytes instead of %d", ErrPrecondition, info.Size, r.size)
	}
	return nil
}
