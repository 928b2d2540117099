package faulty

import (
	"context"
	"errors"
	"fmt"
	"io"

	"tablekeeper/storage/bucket"
)

// Get implements bucket.Reader.
func (f *Bucket) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	return f.get(ctx, key, func() (io.ReadCloser, error) { return f.b.Get(ctx, key, off, n) })
}

// GetVersion implements bucket.Versioned, counted as get.
func (f *Bucket) GetVersion(ctx context.Context, key, etag string, off, n int64) (io.ReadCloser, error) {
	return f.get(ctx, key, func() (io.ReadCloser, error) {
		v, ok := f.b.(bucket.Versioned)
		if !ok {
			return nil, fmt.Errorf("get a version of %s: %w", key, errors.ErrUnsupported)
		}
		return v.GetVersion(ctx, key, etag, off, n)
	})
}

func (f *Bucket) get(ctx context.Context, key string, open func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	fault := f.next("get", key)
	if fault.Kind != Stall {
		if err := before(ctx, fault, "get", key); err != nil {
			return nil, err
		}
	}
	rc, err := open()
	if err != nil {
		return nil, err
	}
	s := &stream{ctx: ctx, r: rc, c: rc, fault: fault}
	if b, ok := rc.(bucket.Body); ok {
		return bucket.NewBody(ctx, s, b.Info()), nil
	}
	return s, nil
}

// stream is a body, or what is put, with a fault in it.
type stream struct {
	ctx   context.Context
	r     io.Reader
	c     io.Closer
	at    int64
	fault Fault
}

func (s *stream) Read(p []byte) (int, error) {
	switch s.fault.Kind {
	case Empty:
		return 0, io.EOF
	case Cut, Short, Stall:
		left := s.fault.Byte - s.at
		if left <= 0 {
			return 0, s.end()
		}
		p = p[:min(int64(len(p)), left)]
	default: // all of it is there
	}
	n, err := s.r.Read(p)
	s.spoil(p[:n])
	s.at += int64(n)
	return n, err
}

func (s *stream) end() error {
	switch s.fault.Kind {
	case Short:
		return io.EOF
	case Stall:
		<-s.ctx.Done()
		return context.Cause(s.ctx)
	default:
		return fmt.Errorf("%w: %w", ErrInjected, io.ErrUnexpectedEOF)
	}
}

func (s *stream) spoil(p []byte) {
	first := max(0, s.fault.Byte-s.at)
	if first >= int64(len(p)) {
		return
	}
	switch s.fault.Kind {
	case Flip:
		if s.at <= s.fault.Byte {
			p[first] ^= 1
		}
	case Zeros:
		clear(p[first:])
	default: // all of it is true
	}
}

// Close implements io.Closer.
func (s *stream) Close() error { return s.c.Close() }
