package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
)

// Stream gives the SQLite file's bytes in order. Each page is compared with its
// sum before it comes out; in place of io.EOF comes ErrSum if the whole differs
// from the manifest's SHA-256. It works one frame at a time; Restore is the
// faster way into a file.
func (r *Reader) Stream(ctx context.Context) io.Reader {
	return &stream{
		r: r, hash: sha256.New(), buf: make([]byte, r.rawSize(0)),
		cancelled: func() error { return context.Cause(ctx) },
	}
}

type stream struct {
	r         *Reader
	cancelled func() error

	frame int64  // the next
	end   int64  // of the span in comp
	comp  []byte // what is left of a span

	buf    []byte
	unread []byte
	hash   hash.Hash
	err    error
}

func (s *stream) Read(p []byte) (int, error) {
	for len(s.unread) == 0 && s.err == nil {
		s.err = s.advance()
	}
	n := copy(p, s.unread)
	s.unread = s.unread[n:]
	if n == 0 && len(p) > 0 {
		return 0, s.err
	}
	return n, nil
}

// advance decodes the next frame, or checks the whole after the last.
func (s *stream) advance() error {
	if s.frame == s.r.frames() {
		return s.finish()
	}
	err := s.cancelled()
	if err == nil {
		err = s.decodeNext()
	}
	if err != nil {
		return fmt.Errorf("stream backup of %s: %w", s.r.manifest.Table, err)
	}
	s.hash.Write(s.unread)
	return nil
}

func (s *stream) decodeNext() error {
	i := s.frame
	if i == s.end {
		if err := s.fetch(); err != nil {
			return err
		}
	}
	n := s.r.offsets[i+1] - s.r.offsets[i]
	raw, err := s.r.decode(i, s.comp[:n], s.buf)
	if err != nil {
		return err
	}
	sums, err := s.r.Sums()
	if err != nil {
		return err
	}
	if err := s.r.checkPages(i, raw, sums[i*s.r.pagesPerFrame():]); err != nil {
		return err
	}
	s.comp, s.unread, s.frame = s.comp[n:], raw, i+1
	return nil
}

// fetch reads the span that begins with the next frame.
func (s *stream) fetch() error {
	end := s.r.spanEnd(s.frame)
	comp := make([]byte, s.r.offsets[end]-s.r.offsets[s.frame])
	if err := readFull(s.r.src, comp, s.r.offsets[s.frame]); err != nil {
		return err
	}
	s.comp, s.end = comp, end
	return nil
}

func (s *stream) finish() error {
	if got := hex.EncodeToString(s.hash.Sum(nil)); got != s.r.manifest.SHA256 {
		return fmt.Errorf("stream backup of %s: %w: SHA-256 is %s, the manifest says %s",
			s.r.manifest.Table, ErrSum, got, s.r.manifest.SHA256)
	}
	return io.EOF
}
