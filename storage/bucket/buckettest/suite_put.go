package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"testing"

	"tablekeeper/storage/bucket"
)

func (s *suite) replaces(t *testing.T) {
	b := s.Open(t)
	put(t, b, "k", random(1, s.Large), bucket.PutOptions{Tags: map[string]string{"of": "the first"}})
	for i, size := range []int{10, s.Large + 7, 0, 10} {
		content := random(uint64(i+2), size)
		put(t, b, "k", content, bucket.PutOptions{})
		holds(t, b, "k", content)
		if tags, err := b.Tags(t.Context(), "k"); err != nil || len(tags) > 0 {
			t.Errorf("Tags after a Put without tags = %v, %v", tags, err)
		}
	}
	if got := keys(t, b, "", ""); len(got) != 1 {
		t.Errorf("List = %q", got)
	}
	s.clean(t)
}

func (s *suite) ifAbsent(t *testing.T) {
	b := s.Open(t)
	for _, size := range []int{5, s.Large} {
		key := fmt.Sprintf("absent/%d", size)
		first := random(1, size)
		put(t, b, key, first, bucket.PutOptions{IfAbsent: true, Tags: map[string]string{"n": "1"}})
		for _, second := range [][]byte{random(2, size), first, random(3, 5), random(3, s.Large)} {
			_, err := b.Put(t.Context(), key, bytes.NewReader(second), bucket.PutOptions{IfAbsent: true})
			wantError(t, "Put if absent over "+key, err, bucket.ErrExists)
		}
		holds(t, b, key, first)
		if tags, err := b.Tags(t.Context(), key); err != nil || tags["n"] != "1" {
			t.Errorf("Tags = %v, %v", tags, err)
		}
		if err := b.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		put(t, b, key, first, bucket.PutOptions{IfAbsent: true})
	}
	s.clean(t)
}

func (s *suite) ifMatch(t *testing.T) {
	b := s.Open(t)
	_, err := b.Put(t.Context(), "k", bytes.NewReader(nil), bucket.PutOptions{IfMatch: "abc"})
	wantError(t, "Put if match of a missing object", err, bucket.ErrPrecondition)
	for _, size := range []int{5, s.Large} {
		old := put(t, b, "k", random(1, 20), bucket.PutOptions{})
		content := random(2, size)
		current := put(t, b, "k", content, bucket.PutOptions{IfMatch: old.ETag})
		for _, more := range []int{6, s.Large + 1} {
			_, err := b.Put(t.Context(), "k", bytes.NewReader(random(3, more)), bucket.PutOptions{IfMatch: old.ETag})
			wantError(t, "Put if match of the version before", err, bucket.ErrPrecondition)
		}
		holds(t, b, "k", content)
		if head, err := b.Head(t.Context(), "k"); err != nil || head.ETag != current.ETag {
			t.Errorf("Head = %+v, %v, want ETag %s", head, err, current.ETag)
		}
	}
	s.clean(t)
}

var errReader = errors.New("this reader fails")

// failing gives n bytes and then fails.
func failing(n int) io.Reader {
	return io.MultiReader(bytes.NewReader(random(9, n)), errorReader{})
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, errReader }

func (s *suite) failingReader(t *testing.T) {
	b := s.Open(t)
	put(t, b, "there", []byte("before"), bucket.PutOptions{Tags: map[string]string{"a": "b"}})
	for _, n := range []int{0, 1, 5000, s.Large / 2, s.Large + 5} {
		for _, key := range []string{"there", "new"} {
			_, err := b.Put(t.Context(), key, failing(n), bucket.PutOptions{SizeHint: int64(s.Large)})
			wantError(t, fmt.Sprintf("Put(%s) of a reader that fails after %d bytes", key, n), err, errReader)
		}
		holds(t, b, "there", []byte("before"))
		_, err := b.Head(t.Context(), "new")
		wantError(t, "Head of what was not put", err, fs.ErrNotExist)
	}
	if tags, err := b.Tags(t.Context(), "there"); err != nil || tags["a"] != "b" {
		t.Errorf("Tags = %v, %v", tags, err)
	}
	if got := keys(t, b, "", ""); len(got) != 1 {
		t.Errorf("List = %q", got)
	}
	s.clean(t)
}

// cancelling ends a context after n bytes, and goes on giving bytes for ever.
type cancelling struct {
	left   int
	cancel context.CancelFunc
}

func (c *cancelling) Read(p []byte) (int, error) {
	if c.left -= len(p); c.left <= 0 {
		c.cancel()
	}
	return len(p), nil
}

func (s *suite) cancelled(t *testing.T) {
	b := s.Open(t)
	for _, n := range []int{0, 100, s.Large + 1000} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := b.Put(ctx, "k", &cancelling{n, cancel}, bucket.PutOptions{})
		wantError(t, fmt.Sprintf("Put cancelled after %d bytes", n), err, context.Canceled)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for op, err := range everyCall(ctx, b, "k") {
		wantError(t, op+" with an ended context", err, context.Canceled)
	}
	if got := keys(t, b, "", ""); len(got) > 0 {
		t.Errorf("List = %q", got)
	}
	s.clean(t)
}

func (s *suite) proved(t *testing.T) {
	b := s.Open(t)
	for _, size := range []int{0, 77, s.Large} {
		content := random(uint64(size), size)
		info, err := bucket.Put(t.Context(), b, fmt.Sprintf("p/%d", size), bytes.NewReader(content), bucket.PutOptions{IfAbsent: true})
		if err != nil || info.Size != int64(size) {
			t.Errorf("bucket.Put(%d bytes) = %+v, %v", size, info, err)
		}
	}
	s.clean(t)
}

func (s *suite) deletes(t *testing.T) {
	b := s.Open(t)
	put(t, b, "a/b/c", []byte("1"), bucket.PutOptions{Tags: map[string]string{"a": "b"}})
	put(t, b, "a/b/d", []byte("2"), bucket.PutOptions{})
	for range 2 {
		if err := b.Delete(t.Context(), "a/b/c"); err != nil {
			t.Fatal(err)
		}
		_, err := b.Head(t.Context(), "a/b/c")
		wantError(t, "Head of a deleted object", err, fs.ErrNotExist)
		_, err = b.Tags(t.Context(), "a/b/c")
		wantError(t, "Tags of a deleted object", err, fs.ErrNotExist)
	}
	put(t, b, "a/b/c", []byte("3"), bucket.PutOptions{})
	if tags, err := b.Tags(t.Context(), "a/b/c"); err != nil || len(tags) > 0 {
		t.Errorf("a new object has the tags %v of the deleted one, %v", tags, err)
	}
	for _, key := range []string{"a/b/c", "a/b/d", "a/b", "a"} {
		if err := b.Delete(t.Context(), key); err != nil {
			t.Errorf("Delete(%s): %v", key, err)
		}
	}
	put(t, b, "a", []byte("an object where a folder was"), bucket.PutOptions{})
	s.clean(t)
}

func (s *suite) tags(t *testing.T) {
	b := s.Open(t)
	want := map[string]string{bucket.SupersededTag: bucket.SupersededValue, "tablekeeper-proved": "2026-11-22T19:33:00Z", "with space": "a+b=c@d/e:f_g.h-i", "empty": ""}
	before := put(t, b, "k", []byte("content"), bucket.PutOptions{Tags: want})
	check := func(want map[string]string) {
		t.Helper()
		got, err := b.Tags(t.Context(), "k")
		if err != nil || got == nil || !maps.Equal(got, want) {
			t.Errorf("Tags = %#v, %v, want %v", got, err, want)
		}
	}
	check(want)
	for _, tags := range []map[string]string{{"one": "1"}, {"two": "2", "Three": "3"}, {}, nil, {"last": "x"}} {
		if err := b.SetTags(t.Context(), "k", tags); err != nil {
			t.Fatalf("SetTags(%v): %v", tags, err)
		}
		check(tags)
	}
	large := put(t, b, "large", random(1, s.Large), bucket.PutOptions{Tags: want})
	if got, err := b.Tags(t.Context(), "large"); err != nil || !maps.Equal(got, want) {
		t.Errorf("Tags of a large object = %v, %v", got, err)
	}
	for key, info := range map[string]bucket.Info{"k": before, "large": large} {
		if head, err := b.Head(t.Context(), key); err != nil || head.ETag != info.ETag || head.Size != info.Size {
			t.Errorf("Head(%s) = %+v, %v: tags changed the object %+v", key, head, err, info)
		}
	}
	holds(t, b, "k", []byte("content"))
	for _, bad := range BadTags() {
		wantError(t, fmt.Sprintf("SetTags(%.80v)", bad), b.SetTags(t.Context(), "k", bad), bucket.ErrKey)
		_, err := b.Put(t.Context(), "other", bytes.NewReader(nil), bucket.PutOptions{Tags: bad})
		wantError(t, fmt.Sprintf("Put with tags %.80v", bad), err, bucket.ErrKey)
	}
	check(map[string]string{"last": "x"})
	s.clean(t)
}

// BadTags are tags that no bucket may accept.
func BadTags() []map[string]string {
	eleven := map[string]string{}
	for i := range 11 {
		eleven[fmt.Sprint(i)] = "x"
	}
	return []map[string]string{eleven, {"": "x"}, {string(make([]byte, 129)): "x"}, {"k": string(bytes.Repeat([]byte("v"), 257))}, {"a&b": "x"}, {"k": "<v>"}, {"k": "\xff"}, {"größe": "x"}}
}
