package remote

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"tablekeeper/storage/bucket"
)

const (
	maxParts      = 10_000 // of an upload, by S3
	plannedParts  = 9_000  // what a hint is divided by, so that a hint may be too small
	abortTimeout  = 30 * time.Second
	firstBuffer   = 64 << 10
	growEvery     = 1_000 // parts, without a hint
	growEveryLate = 100   // parts, past those planned
	megabyte      = 1 << 20
	largestPart   = min(5<<30, math.MaxInt) // by S3
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Put implements bucket.Bucket.
func (s *Store) Put(ctx context.Context, key string, r io.Reader, opts bucket.PutOptions) (bucket.Info, error) {
	info, err := s.put(ctx, key, r, opts)
	if err == nil {
		return info, nil
	}
	err = explain(ctx, err)
	if opts.IfAbsent && errors.Is(err, bucket.ErrPrecondition) {
		err = fmt.Errorf("%w: %w", bucket.ErrExists, err)
	}
	if opts.IfMatch != "" && errors.Is(err, fs.ErrNotExist) && !errors.Is(err, bucket.ErrPrecondition) {
		err = fmt.Errorf("%w: the object is not there: %w", bucket.ErrPrecondition, err)
	}
	return bucket.Info{}, fmt.Errorf("put %s: %w", key, err)
}

func (s *Store) put(ctx context.Context, key string, r io.Reader, opts bucket.PutOptions) (bucket.Info, error) {
	if err := errors.Join(s.check(key), bucket.CheckTags(opts.Tags)); err != nil {
		return bucket.Info{}, err
	}
	if ctx.Err() != nil {
		return bucket.Info{}, context.Cause(ctx)
	}
	u := &upload{s: s, key: key, hint: opts.SizeHint, source: r, conditions: Conditions{opts.IfAbsent, opts.IfMatch, opts.Tags}}
	first, err := u.firstPart(ctx)
	if err != nil {
		return bucket.Info{}, err
	}
	var etag string
	if u.ended {
		etag, err = u.whole(ctx, first)
	} else {
		etag, err = u.inParts(ctx, first)
	}
	if err != nil {
		return bucket.Info{}, err
	}
	info := bucket.Info{Key: key, Size: u.size, ETag: etag}
	if !s.loc.NoChecksum {
		info.CRC32C = fmt.Sprintf("%08x", u.crc32c)
	}
	return info, nil
}

// upload is one Put on its way.
type upload struct {
	s          *Store
	key        string
	hint       int64
	source     io.Reader
	conditions Conditions

	id     string // of an upload in parts
	size   int64  // of what was read so far
	crc32c uint32 // of the same
	number int    // of the part read last
	ended  bool   // the source has no more
}

// partSize is the size of a part by its number: so that the parts of an object of hint bytes suffice, those of one ten times
// as large too, and if there is no hint those of any object that S3 takes (5 TiB).
func (u *upload) partSize(number int) int {
	base := int64(u.s.opts.PartSize)
	grown := (number - 1) / growEvery
	if u.hint > 0 {
		needed := (u.hint + plannedParts - 1) / plannedParts
		base = max(base, (needed+megabyte-1)/megabyte*megabyte)
		grown = max(0, number-1-plannedParts) / growEveryLate
	}
	return int(min(base<<min(grown, 16), largestPart))
}

// firstPart reads into a buffer that grows: most objects are small.
func (u *upload) firstPart(ctx context.Context) (Part, error) {
	size := u.partSize(1)
	length := min(size, firstBuffer)
	if u.hint > 0 {
		length = int(min(int64(size), u.hint+1))
	}
	buffer := make([]byte, length)
	filled := 0
	for {
		n, err := u.fill(ctx, buffer[filled:])
		filled += n
		if err != nil || u.ended || filled == size {
			return u.part(buffer[:filled]), err
		}
		grown := make([]byte, min(size, 4*len(buffer)))
		copy(grown, buffer[:filled])
		buffer = grown
	}
}

// fill reads until p is full or the source has ended.
func (u *upload) fill(ctx context.Context, p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if ctx.Err() != nil {
			return n, context.Cause(ctx)
		}
		m, err := u.source.Read(p[n:])
		n += m
		if err == io.EOF {
			u.ended = true
			return n, nil
		}
		if err != nil {
			return n, &sourceError{err}
		}
	}
	return n, nil
}

// part numbers and sums what was read.
func (u *upload) part(data []byte) Part {
	u.number++
	u.size += int64(len(data))
	u.crc32c = crc32.Update(u.crc32c, castagnoli, data)
	return Part{Number: u.number, Data: data, Size: int64(len(data)), CRC32C: crc32.Checksum(data, castagnoli)}
}

// whole puts an object in one request.
func (u *upload) whole(ctx context.Context, p Part) (string, error) {
	return u.decide(ctx, func() (string, error) { return u.s.api.Put(ctx, u.s.full(u.key), p, u.conditions) })
}

// decide makes a request that creates the object, again if need be. Once an attempt may have been done without our knowing,
// a refusal may be due to our own object.
func (u *upload) decide(ctx context.Context, request func() (string, error)) (etag string, err error) {
	attempt := 0
	err = u.s.opts.Backoff.Retry(ctx, func() error {
		attempt++
		etag, err = request()
		err = explain(ctx, err)
		refused := errors.Is(err, bucket.ErrPrecondition) || errors.Is(err, errNoUpload) || errors.Is(err, fs.ErrNotExist)
		if attempt > 1 && refused {
			etag, err = u.ours(ctx, err)
		}
		return err
	}, nil)
	return etag, err
}

// ours looks whether the object that is there is the one being put.
func (u *upload) ours(ctx context.Context, refusal error) (string, error) {
	head, err := u.s.head(ctx, u.key)
	if err != nil {
		return "", errors.Join(refusal, err)
	}
	if head.Size != u.size || head.CRC32C != fmt.Sprintf("%08x", u.crc32c) {
		return "", refusal
	}
	return head.ETag, nil
}

// inParts puts an object that does not fit one part, and aborts the upload if it fails, even if the context has ended.
func (u *upload) inParts(ctx context.Context, first Part) (etag string, err error) {
	if err := u.permitted(ctx); err != nil {
		return "", err
	}
	err = u.s.opts.Backoff.Retry(ctx, func() error {
		u.id, err = u.s.api.Begin(ctx, u.s.full(u.key), u.conditions)
		return explain(ctx, err)
	}, nil)
	if err != nil {
		return "", err
	}
	parts, err := u.sendAll(ctx, first)
	if err == nil {
		whole := Part{Size: u.size, CRC32C: u.crc32c}
		etag, err = u.decide(ctx, func() (string, error) {
			return u.s.api.Complete(ctx, u.s.full(u.key), u.id, parts, whole, u.conditions)
		})
	}
	if err != nil {
		return "", errors.Join(explain(ctx, err), u.abort(ctx))
	}
	return etag, nil
}

// permitted spares the sending of many parts that the conditions forbid; they are checked by the store in the end all the same.
func (u *upload) permitted(ctx context.Context) error {
	if !u.conditions.IfAbsent && u.conditions.IfMatch == "" {
		return nil
	}
	head, err := u.s.head(ctx, u.key)
	switch {
	case errors.Is(err, fs.ErrNotExist) && u.conditions.IfAbsent:
		return nil
	case errors.Is(err, bucket.ErrDenied):
		return nil // we may be allowed to write and not to look
	case err != nil:
		return err
	case u.conditions.IfAbsent:
		return bucket.ErrExists
	case head.ETag != u.conditions.IfMatch:
		return fmt.Errorf("%w: ETag %s instead of %s", bucket.ErrPrecondition, head.ETag, u.conditions.IfMatch)
	}
	return nil
}

func (u *upload) abort(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	err := u.s.opts.Backoff.Retry(ctx, func() error { return explain(ctx, u.s.api.Abort(ctx, u.s.full(u.key), u.id)) }, nil)
	if err == nil || errors.Is(err, errNoUpload) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("abort the upload, whose parts stay: %w", err)
}

// sendAll reads parts in order and sends some at a time, in buffers that are used again.
func (u *upload) sendAll(ctx context.Context, first Part) ([]Part, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	g, sending := errgroup.WithContext(ctx)
	free := make(chan []byte, u.s.opts.Concurrency+1)
	for range u.s.opts.Concurrency {
		free <- nil
	}
	var parts []*Part
	send := func(p Part) {
		parts = append(parts, &p)
		g.Go(func() error {
			err := u.send(sending, &p)
			free <- p.Data[:cap(p.Data)]
			p.Data = nil
			return err
		})
	}
	send(first)
	err := u.readRest(sending, free, send)
	if err != nil && sending.Err() == nil {
		stop(err) // nobody needs the parts that are on their way
		_ = g.Wait()
		return nil, err
	}
	if sent := g.Wait(); sent != nil {
		err = sent
	}
	if err != nil {
		return nil, err
	}
	done := make([]Part, len(parts))
	for i, p := range parts {
		done[i] = *p
	}
	return done, nil
}

func (u *upload) readRest(ctx context.Context, free chan []byte, send func(Part)) error {
	for !u.ended {
		if u.number == maxParts {
			return fmt.Errorf("%w: more than %d parts; give a larger size hint", bucket.ErrFull, maxParts)
		}
		var buffer []byte
		select {
		case buffer = <-free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if size := u.partSize(u.number + 1); len(buffer) < size {
			buffer = make([]byte, size)
		} else {
			buffer = buffer[:size]
		}
		n, err := u.fill(ctx, buffer)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		send(u.part(buffer[:n]))
	}
	return nil
}

// send puts one part; a part may be put again as often as need be.
func (u *upload) send(ctx context.Context, p *Part) error {
	return u.s.opts.Backoff.Retry(ctx, func() (err error) {
		p.ETag, err = u.s.api.PutPart(ctx, u.s.full(u.key), u.id, *p)
		return explain(ctx, err)
	}, nil)
}
