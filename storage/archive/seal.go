package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"filippo.io/age"
)

// ageIntro is how every binary age file begins (https://age-encryption.org/v1).
const ageIntro = "age-encryption.org/v1\n"

type kind int

const (
	kindOther kind = iota
	kindZstd
	kindAge
)

// sniff tells by its first bytes what an object is. An empty one is kindZstd:
// cut short.
func sniff(r io.ReaderAt, size int64) (kind, error) {
	b := make([]byte, min(size, int64(len(ageIntro))))
	if err := readFull(r, b, 0); err != nil {
		return kindOther, err
	}
	return kindOf(b), nil
}

// kindOf goes by as much as there is: what is cut short is still of its kind.
func kindOf(b []byte) kind {
	zstdMagic := binary.LittleEndian.AppendUint32(nil, dataMagic)
	switch {
	case hasPrefixOrIs(b, zstdMagic):
		return kindZstd
	case hasPrefixOrIs(b, []byte(ageIntro)):
		return kindAge
	default:
		return kindOther
	}
}

func hasPrefixOrIs(b, prefix []byte) bool {
	return bytes.HasPrefix(prefix, b[:min(len(b), len(prefix))])
}

// openSealed opens a zstd stream encrypted with age.
func openSealed(r io.ReaderAt, size int64, opts OpenOptions) (*Reader, error) {
	src := &failingReaderAt{r: r}
	plain, n, err := decrypt(src, size, opts.Identities)
	if cause := src.failure(); err != nil && cause != nil {
		return nil, cause
	}
	if err != nil {
		return nil, err
	}
	return openPlain(&authenticated{r: plain, src: src}, n, opts)
}

func decrypt(src io.ReaderAt, size int64, ids []age.Identity) (io.ReaderAt, int64, error) {
	// Parsed apart to tell why decryption fails. age bounds it: 2 MiB.
	header, err := age.ExtractHeader(io.NewSectionReader(src, 0, size))
	switch {
	case err != nil && (endsEarly(err) || size < int64(len(ageIntro))):
		return nil, 0, fmt.Errorf("%w: within the header of the encryption", ErrTruncated)
	case err != nil:
		return nil, 0, formatError("header of the encryption: %v", err)
	case len(ids) == 0:
		return nil, 0, ErrWrongKey
	}
	plain, n, err := age.DecryptReaderAt(src, size, ids...)
	if err == nil {
		return plain, n, nil
	}
	if noMatch := (*age.NoIdentityMatchError)(nil); errors.As(err, &noMatch) {
		return nil, 0, fmt.Errorf("%w (%d tried)", ErrWrongKey, len(ids))
	}
	if _, keyErr := age.DecryptHeader(header, ids...); keyErr != nil {
		return nil, 0, formatError("header of the encryption: %v", keyErr)
	}
	// The key fits, and the last chunk, which says that it is the last, does not.
	return nil, 0, fmt.Errorf("%w, or its end was changed: %w", ErrTruncated, err)
}

func endsEarly(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// failingReaderAt remembers why a read failed: age does not keep the cause
// apart from its own verdict.
type failingReaderAt struct {
	r   io.ReaderAt
	mu  sync.Mutex
	err error
}

func (f *failingReaderAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.r.ReadAt(p, off)
	if err != nil && !endsEarly(err) {
		f.mu.Lock()
		f.err = err
		f.mu.Unlock()
	}
	return n, err
}

func (f *failingReaderAt) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// authenticated says ErrSum where age refuses a chunk.
type authenticated struct {
	r   io.ReaderAt
	src *failingReaderAt
}

func (a *authenticated) ReadAt(p []byte, off int64) (int, error) {
	n, err := a.r.ReadAt(p, off)
	switch {
	case n == len(p), err == nil, errors.Is(err, io.EOF):
		return n, err
	case endsEarly(err):
		return n, io.ErrUnexpectedEOF
	case a.src.failure() != nil && errors.Is(err, a.src.failure()):
		return n, err
	default:
		return n, fmt.Errorf("%w: %w", ErrSum, err)
	}
}
