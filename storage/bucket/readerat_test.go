package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sync/errgroup"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/faulty"
)

func randomObject(t *testing.T, b bucket.Bucket, n int) []byte {
	t.Helper()
	content := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content) // never fails
	if _, err := b.Put(t.Context(), "k", bytes.NewReader(content), bucket.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	return content
}

func TestReaderAt(t *testing.T) {
	b := openDir(t)
	for _, size := range []int{0, 1, 9, 10, 11, 95, 100} {
		content := randomObject(t, b, size)
		for _, block := range []int{0, 1, 7, 10, 1000} {
			r := bucket.NewReaderAt(t.Context(), b, "k", int64(size), block)
			if err := iotest.TestReader(io.NewSectionReader(r, 0, int64(size)), content); err != nil {
				t.Errorf("size %d, block %d: %v", size, block, err)
			}
			for off := -1; off <= size+1; off++ {
				for _, n := range []int{0, 1, 10, 200} {
					p := make([]byte, n)
					got, err := r.ReadAt(p, int64(off))
					want, wantErr := bytes.NewReader(content).ReadAt(p, int64(off))
					if got != want || (err == nil) != (wantErr == nil) && n > 0 || off >= 0 && !bytes.Equal(p[:got], content[min(off, size):min(off, size)+got]) {
						t.Errorf("size %d, block %d: ReadAt(%d bytes at %d) = %d, %v, want %d, %v", size, block, n, off, got, err, want, wantErr)
					}
				}
			}
		}
	}
}

// TestReaderAtRequests: small reads share blocks, large ones take one request, and what was evicted is fetched again.
func TestReaderAtRequests(t *testing.T) {
	f := faulty.Wrap(openDir(t))
	content := randomObject(t, f, 10_000)
	r := bucket.NewReaderAt(t.Context(), f, "k", 10_000, 100)
	gets := func(do func()) int {
		before := len(f.Calls())
		do()
		return len(f.Calls()) - before
	}
	at := func(off, n int) func() {
		return func() {
			p := make([]byte, n)
			if _, err := r.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, content[off:off+n]) {
				t.Errorf("ReadAt(%d, %d): %v", off, n, err)
			}
		}
	}
	for _, test := range []struct{ off, n, gets int }{{0, 10, 1}, {20, 10, 0}, {95, 10, 1}, {150, 20, 0}, {3000, 5000, 1}, {3000, 10, 1}} {
		if got := gets(at(test.off, test.n)); got != test.gets {
			t.Errorf("ReadAt(%d, %d) took %d requests, want %d", test.off, test.n, got, test.gets)
		}
	}
	for block := range 20 {
		at(5000+100*block, 1)()
	}
	if got := gets(at(0, 10)); got != 1 {
		t.Errorf("an evicted block took %d requests", got)
	}
	if got := gets(at(6900, 10)); got != 0 {
		t.Errorf("a recent block took %d requests", got)
	}
}

func TestReaderAtConcurrent(t *testing.T) {
	f := faulty.Wrap(openDir(t))
	content := randomObject(t, f, 50_000)
	r := bucket.NewReaderAt(t.Context(), f, "k", 50_000, 1000)
	var g errgroup.Group
	for i := range 16 {
		g.Go(func() error {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for range 200 {
				off, n := random.IntN(49_000), random.IntN(1000)
				p := make([]byte, n)
				if _, err := r.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, content[off:off+n]) {
					return fmt.Errorf("ReadAt(%d, %d): %w", off, n, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// TestReaderAtUnderFaults: each read is right or an error, and a block that failed is tried again by the next read.
func TestReaderAtUnderFaults(t *testing.T) {
	f := faulty.Wrap(openDir(t))
	content := randomObject(t, f, 5000)
	for _, kind := range []faulty.Kind{faulty.Fail, faulty.Temporary, faulty.Denied, faulty.Cut, faulty.Short, faulty.Empty} {
		for n := 0; ; n++ {
			hits := f.Hits()
			f.At(len(f.Calls())+n, faulty.Fault{Kind: kind, Byte: 10})
			r := bucket.NewReaderAt(t.Context(), f, "k", 5000, 500)
			for _, size := range []int{10, 700, 5000} {
				p := make([]byte, size)
				_, err := r.ReadAt(p, 0)
				mended := kind != faulty.Fail && kind != faulty.Denied
				if err == nil && !bytes.Equal(p, content[:size]) || mended && err != nil {
					t.Errorf("%s at call %d: ReadAt(%d bytes): %v", kind, n, size, err)
				}
				if err != nil {
					if _, err := r.ReadAt(p, 0); err != nil {
						t.Errorf("%s at call %d: read again: %v", kind, n, err)
					}
				}
			}
			if f.Hits() == hits {
				break
			}
		}
	}
	f.Always("get", faulty.Fault{Kind: faulty.Short})
	if _, err := bucket.NewReaderAt(t.Context(), f, "k", 5000, 500).ReadAt(make([]byte, 10), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("always short: %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

func TestReaderAtReplaced(t *testing.T) {
	b := openDir(t)
	randomObject(t, b, 1000)
	r := bucket.NewReaderAt(t.Context(), b, "k", 1000, 100)
	p := make([]byte, 10)
	if _, err := r.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), "k", strings.NewReader(strings.Repeat("n", 1000)), bucket.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadAt(p, 500); !errors.Is(err, bucket.ErrPrecondition) {
		t.Errorf("a block of another version: %v, want %v", err, bucket.ErrPrecondition)
	}
	if _, err := bucket.NewReaderAt(t.Context(), b, "k", 999, 100).ReadAt(p, 500); !errors.Is(err, bucket.ErrPrecondition) {
		t.Errorf("an object of another size: %v, want %v", err, bucket.ErrPrecondition)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := bucket.NewReaderAt(ctx, b, "k", 1000, 100).ReadAt(p, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}
