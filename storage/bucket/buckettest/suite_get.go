package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/iotest"

	"tablekeeper/storage/bucket"
)

func (s *suite) missingObject(t *testing.T) {
	b := s.Open(t)
	put(t, b, "a/other", []byte("x"), bucket.PutOptions{})
	for _, key := range []string{"a/missing", "missing", "a", "a/other/below"} {
		calls := everyCall(t.Context(), missingOnly{b}, key)
		for _, op := range []string{"Get", "Head", "Tags", "SetTags"} {
			if key == "a" && strings.HasSuffix(op, "Tags") {
				continue
			}
			wantError(t, op+" "+key, calls[op], fs.ErrNotExist)
			if errors.Is(calls[op], bucket.ErrNoBucket) {
				t.Errorf("%s %s: %v: the bucket is there", op, key, calls[op])
			}
		}
		if calls["Delete"] != nil {
			t.Errorf("Delete %s: %v, want none", key, calls["Delete"])
		}
		if rc, err := b.Get(t.Context(), key, 5, 5); err == nil {
			t.Errorf("Get of a range of %s: no error, want %v", key, fs.ErrNotExist)
			rc.Close()
		}
	}
	if got := keys(t, b, "missing", ""); len(got) > 0 {
		t.Errorf("List(missing) = %q", got)
	}
	holds(t, b, "a/other", []byte("x"))
}

// missingOnly leaves keys missing.
type missingOnly struct{ bucket.Bucket }

func (missingOnly) Put(context.Context, string, io.Reader, bucket.PutOptions) (bucket.Info, error) {
	return bucket.Info{}, nil
}

func (s *suite) missingBucket(t *testing.T) {
	for op, err := range everyCall(t.Context(), s.Missing(t), "a/b") {
		wantError(t, op, err, bucket.ErrNoBucket)
		if errors.Is(err, fs.ErrNotExist) && op != "Put" {
			t.Errorf("%s: %v: says that the object is missing, of which nothing is known", op, err)
		}
	}
}

func (s *suite) roundTrip(t *testing.T) {
	b := s.Open(t)
	for _, size := range []int{0, 1, 4095, 4096, 300_000, s.Large - 1, s.Large, s.Large + 1} {
		key := fmt.Sprintf("sizes/%d", size)
		content := random(uint64(size), size)
		info := put(t, b, key, content, bucket.PutOptions{SizeHint: int64(size)})
		holds(t, b, key, content)
		head, err := b.Head(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if head.Size != int64(size) || head.ETag != info.ETag || head.Key != key || head.Modified.IsZero() {
			t.Errorf("Head(%s) = %+v, Put said %+v", key, head, info)
		}
		digest := bucket.NewDigest()
		_, _ = digest.Write(content)
		if err := digest.Compare(head); err != nil {
			t.Errorf("Head(%s): %v", key, err)
		}
		if head.SHA256 == "" && head.CRC32C == "" {
			t.Errorf("Head(%s) = %+v: no checksum of the content", key, head)
		}
	}
	// A reader that gives a byte at a time, and one that ends without saying so at once.
	put1, err := b.Put(t.Context(), "slow", iotest.OneByteReader(strings.NewReader("slow reader")), bucket.PutOptions{})
	if err != nil || put1.Size != 11 {
		t.Errorf("Put of a slow reader = %+v, %v", put1, err)
	}
	put2, err := b.Put(t.Context(), "eager", iotest.DataErrReader(strings.NewReader("eager reader")), bucket.PutOptions{})
	if err != nil || put2.Size != 12 {
		t.Errorf("Put of a reader that ends with its data = %+v, %v", put2, err)
	}
	s.clean(t)
}

func (s *suite) ranges(t *testing.T) {
	b := s.Open(t)
	content := random(1, 1000)
	put(t, b, "r", content, bucket.PutOptions{})
	put(t, b, "empty", nil, bucket.PutOptions{})
	for _, r := range []struct{ off, n int64 }{
		{0, -1}, {0, 0}, {0, 1}, {0, 1000}, {0, 1001}, {1, -1}, {999, 1}, {999, 5}, {500, 0}, {1000, 1}, {1000, -1}, {5000, 10},
		{-1, -1}, {-1, 7}, {-1000, -1}, {-2000, -1}, {-500, 0}, {10, 1 << 40}, {0, 1 << 62}, {1 << 50, 1 << 60},
	} {
		from, to := bucket.Span(1000, r.off, r.n)
		if got := get(t, b, "r", r.off, r.n); !bytes.Equal(got, content[from:to]) {
			t.Errorf("Get(%d, %d) gave %d bytes, want bytes %d to %d", r.off, r.n, len(got), from, to)
		}
		if got := get(t, b, "empty", r.off, r.n); len(got) > 0 {
			t.Errorf("Get(%d, %d) of an empty object gave %d bytes", r.off, r.n, len(got))
		}
	}
	rc, err := b.Get(t.Context(), "r", 10, 20)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if body, ok := rc.(bucket.Body); !ok || body.Info().Size != 1000 || body.Info().ETag == "" {
		t.Errorf("the body of a range does not describe the whole object")
	}
}

func (s *suite) versions(t *testing.T) {
	b := s.Open(t)
	v, ok := b.(bucket.Versioned)
	if !ok {
		t.Fatal("bucket.Versioned is not implemented")
	}
	first := put(t, b, "v", []byte("first version"), bucket.PutOptions{})
	rc, err := v.GetVersion(t.Context(), "v", first.ETag, 6, 7)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(rc); err != nil || string(got) != "version" {
		t.Errorf("GetVersion = %q, %v", got, err)
	}
	if err := rc.Close(); err != nil {
		t.Error(err)
	}
	second := put(t, b, "v", []byte("other version"), bucket.PutOptions{})
	if first.ETag == second.ETag {
		t.Errorf("two contents share the ETag %s", first.ETag)
	}
	for _, r := range [][2]int64{{0, -1}, {6, 7}, {-3, -1}, {0, 0}, {100, 5}} {
		if _, err := v.GetVersion(t.Context(), "v", first.ETag, r[0], r[1]); !errors.Is(err, bucket.ErrPrecondition) {
			t.Errorf("GetVersion of a replaced version, range %v: %v, want %v", r, err, bucket.ErrPrecondition)
		}
	}
	_, err = v.GetVersion(t.Context(), "missing", first.ETag, 0, -1)
	wantError(t, "GetVersion of a missing object", err, fs.ErrNotExist)
}

func (s *suite) closedEarly(t *testing.T) {
	b := s.Open(t)
	content := random(2, s.Large)
	put(t, b, "big", content, bucket.PutOptions{})
	for range 20 {
		rc, err := b.Get(t.Context(), "big", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(rc, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		if err := rc.Close(); err != nil {
			t.Fatal(err)
		}
	}
	put(t, b, "small", []byte("it all came with the first read"), bucket.PutOptions{})
	for _, key := range []string{"big", "small"} {
		ctx, cancel := context.WithCancel(t.Context())
		rc, err := b.Get(ctx, key, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(rc, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		cancel()
		if n, err := rc.Read(make([]byte, 10)); n > 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("read of %s after its context ended: %d bytes, %v, want %v", key, n, err, context.Canceled)
		}
		_ = rc.Close() // the body is broken; what counts is that the bucket is not
	}
	holds(t, b, "big", content)
}
