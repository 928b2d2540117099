package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cenkalti/backoff/v5"
)

func (s *steady) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	return s.GetVersion(ctx, key, "", off, n)
}

// GetVersion with an empty etag is Get.
func (s *steady) GetVersion(ctx context.Context, key, etag string, off, n int64) (io.ReadCloser, error) {
	if off == 0 && n < 0 {
		return s.getWhole(ctx, key, etag)
	}
	b := &steadyBody{s: s, ctx: ctx, key: key, info: Info{Key: key, ETag: etag}, waits: s.opts.Backoff.waits()}
	described, err := b.open(off, n)
	if err != nil {
		return nil, err
	}
	if !described {
		if b.info, err = s.describe(ctx, key, etag); err != nil {
			return nil, errors.Join(err, b.drop())
		}
	}
	b.next, b.end = Span(b.info.Size, off, n)
	return b, nil
}

// getWhole asks for the head first: the length that comes with a whole body is only what the body's sender says of it.
func (s *steady) getWhole(ctx context.Context, key, etag string) (io.ReadCloser, error) {
	var err error
	for range s.opts.Backoff.attempts() {
		var info Info
		if info, err = s.describe(ctx, key, etag); err != nil {
			return nil, err
		}
		b := &steadyBody{s: s, ctx: ctx, key: key, info: info, end: info.Size, waits: s.opts.Backoff.waits(), digest: NewDigest()}
		if info.Size == 0 {
			return b, nil
		}
		if _, err = b.open(0, -1); err == nil {
			return b, nil
		}
		// Without a version asked for, one that was replaced after its head is simply read anew.
		if etag != "" || !errors.Is(err, ErrPrecondition) {
			break
		}
	}
	return nil, err
}

func (s *steady) describe(ctx context.Context, key, etag string) (Info, error) {
	info, err := s.Head(ctx, key)
	if err == nil && etag != "" && info.ETag != etag {
		err = fmt.Errorf("get %s: %w: ETag %s instead of %s", key, ErrPrecondition, info.ETag, etag)
	}
	return info, err
}

// version opens one version of an object, also where the store itself cannot.
func (s *steady) version(ctx context.Context, key, etag string, off, n int64) (io.ReadCloser, error) {
	if etag == "" {
		return s.b.Get(ctx, key, off, n)
	}
	if v, ok := s.b.(Versioned); ok {
		return v.GetVersion(ctx, key, etag, off, n)
	}
	if _, err := s.describe(ctx, key, etag); err != nil {
		return nil, err
	}
	return s.b.Get(ctx, key, off, n)
}

// steadyBody reads bytes [next, end) of one version of an object, through as many bodies as it takes. It keeps the
// context because the body that it stands for does.
type steadyBody struct {
	s         *steady
	ctx       context.Context
	key       string
	info      Info
	next, end int64
	digest    *Digest // of whole objects only

	current  io.ReadCloser
	watched  context.Context
	dog      *watchdog
	waits    *backoff.ExponentialBackOff
	failures int // since the last byte
	err      error
}

func (b *steadyBody) Info() Info { return b.info }

// open gets the body of a range and says whether the store described the object with it.
func (b *steadyBody) open(off, n int64) (described bool, err error) {
	err = b.s.opts.Backoff.Retry(b.ctx, func() error {
		b.watched, b.dog = watch(b.ctx, b.s.opts.IdleTimeout)
		b.dog.start()
		current, err := b.s.version(b.watched, b.key, b.info.ETag, off, n)
		b.dog.stop()
		if err != nil {
			b.dog.end()
			return stalled(b.watched, err, "get", b.key, b.s.opts.IdleTimeout)
		}
		b.current = current
		return nil
	}, b.s.notify(b.ctx, "get", b.key))
	if err != nil {
		return false, err
	}
	body, described := b.current.(Body)
	if described && b.digest == nil {
		if etag := b.info.ETag; etag != "" && body.Info().ETag != etag {
			return true, errors.Join(fmt.Errorf("get %s: %w: ETag %s instead of %s", b.key, ErrPrecondition, body.Info().ETag, etag), b.drop())
		}
		b.info = body.Info()
	}
	return described, nil
}

func (b *steadyBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for b.err == nil {
		if b.next >= b.end {
			b.err = b.finish()
			break
		}
		if n := b.some(p[:min(int64(len(p)), b.end-b.next)]); n > 0 {
			return n, nil
		}
	}
	return 0, b.err
}

// some reads from the current body, or makes one; what stopped it is kept in b.err if nothing can be done about it.
func (b *steadyBody) some(p []byte) int {
	if b.current == nil {
		if _, err := b.open(b.next, b.end-b.next); err != nil {
			b.err = err
			return 0
		}
	}
	b.dog.start()
	n, err := b.current.Read(p)
	b.dog.stop()
	if n > 0 {
		b.next += int64(n)
		b.failures = 0
		b.waits.Reset()
		if b.digest != nil {
			_, _ = b.digest.Write(p[:n]) // a Digest's Write never fails
		}
	}
	if err != nil && b.next < b.end {
		b.fail(err)
	}
	return n
}

// fail drops the body that broke and waits before the next, or gives up.
func (b *steadyBody) fail(err error) {
	err = stalled(b.watched, err, "read", b.key, b.s.opts.IdleTimeout)
	_ = b.drop() // it is broken already
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	b.failures++
	switch {
	case b.ctx.Err() != nil:
		b.err = context.Cause(b.ctx)
	case errors.Is(err, ErrPrecondition), errors.Is(err, ErrDenied):
		b.err = err
	case b.failures >= b.s.opts.Backoff.attempts():
		b.err = fmt.Errorf("get %s: %w: stopped at byte %d of %d: %w", b.key, ErrUnreachable, b.next, b.end, err)
	default:
		b.wait(err)
	}
}

func (b *steadyBody) wait(err error) {
	wait := b.waits.NextBackOff()
	b.s.notify(b.ctx, "read", b.key)(err, wait)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.ctx.Done():
		b.err = context.Cause(b.ctx)
	}
}

func (b *steadyBody) finish() error {
	if b.digest == nil {
		return io.EOF
	}
	if err := b.digest.Compare(b.info); err != nil {
		return fmt.Errorf("get %s: %w: %w", b.key, ErrBody, err)
	}
	return io.EOF
}

func (b *steadyBody) drop() error {
	if b.current == nil {
		return nil
	}
	err := b.current.Close()
	b.dog.end()
	b.current = nil
	return err
}

// Close never waits for the rest of the body.
func (b *steadyBody) Close() error {
	if b.err == nil {
		b.err = fmt.Errorf("get %s: read after close: %w", b.key, io.ErrClosedPipe)
	}
	return b.drop()
}
