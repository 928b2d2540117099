package bucket_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/dir"
	"tablekeeper/storage/bucket/faulty"
)

func openDir(t *testing.T) *dir.Bucket {
	t.Helper()
	b, err := dir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// quick has no waits worth the name.
var quick = bucket.SteadyOptions{Backoff: bucket.Backoff{First: time.Microsecond, Max: time.Microsecond}}

func read(t *testing.T, b bucket.Reader, key string, off, n int64) (string, error) {
	t.Helper()
	rc, err := b.Get(t.Context(), key, off, n)
	if err != nil {
		return "", err
	}
	content, err := io.ReadAll(rc)
	return string(content), errors.Join(err, rc.Close())
}

// TestPutProves: every way in which a store can acknowledge what it does not hold is found out, and nothing is left of it where the key was free.
func TestPutProves(t *testing.T) {
	text := strings.Repeat("content ", 1000)
	for _, fault := range []faulty.Fault{
		{Kind: faulty.Lie}, {Kind: faulty.Half, Byte: 0}, {Kind: faulty.Half, Byte: 1}, {Kind: faulty.Half, Byte: int64(len(text)) - 1}, {Kind: faulty.Flip, Byte: 0}, {Kind: faulty.Flip, Byte: 4000},
	} {
		for _, over := range []bool{false, true} {
			b := openDir(t)
			if over {
				if _, err := b.Put(t.Context(), "k", strings.NewReader(strings.Repeat("CONTENT ", 1000)), bucket.PutOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			f := faulty.Wrap(b)
			f.Always("put", fault)
			_, err := bucket.Put(t.Context(), f, "k", strings.NewReader(text), bucket.PutOptions{IfAbsent: !over})
			if !errors.Is(err, bucket.ErrNotStored) {
				t.Errorf("%v, over an object %v: %v, want %v", fault, over, err, bucket.ErrNotStored)
			}
			if _, err := b.Head(t.Context(), "k"); !over && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%v: it is still there: %v", fault, err)
			}
		}
	}
}

// TestPutUnderFaults: whatever goes wrong at any call, Put says so or the object is there whole; a conditional Put through Steady too.
func TestPutUnderFaults(t *testing.T) {
	text := strings.Repeat("content ", 1000)
	for _, kind := range faulty.Kinds() {
		if kind == faulty.Stall {
			continue // in steady_test.go
		}
		for n := 0; ; n++ {
			b := openDir(t)
			f := faulty.Wrap(b)
			f.At(n, faulty.Fault{Kind: kind, Byte: 100})
			info, err := bucket.Put(t.Context(), bucket.Steady(f, quick), "k", strings.NewReader(text), bucket.PutOptions{IfAbsent: true})
			got, missing := read(t, b, "k", 0, -1)
			if err == nil && (got != text || info.Size != int64(len(text))) {
				t.Errorf("%s at call %d: no error, and the object has %d bytes", kind, n, len(got))
			}
			if err != nil && missing == nil && got != text {
				t.Errorf("%s at call %d: %v, and something else stays", kind, n, err)
			}
			if (kind == faulty.Temporary || kind == faulty.LostReply) && err != nil {
				t.Errorf("%s at call %d is not mended: %v", kind, n, err)
			}
			if f.Hits() == 0 {
				if err != nil {
					t.Errorf("clean run: %v", err)
				}
				break
			}
		}
	}
}

// TestSteadyPutLostReply: a repeated conditional Put finds its own object in its way; another's it does not take for its own.
func TestSteadyPutLostReply(t *testing.T) {
	f := faulty.Wrap(openDir(t))
	b := bucket.Steady(f, quick)
	f.At(0, faulty.Fault{Kind: faulty.LostReply})
	first, err := b.Put(t.Context(), "k", strings.NewReader("one"), bucket.PutOptions{IfAbsent: true})
	if err != nil || first.Size != 3 {
		t.Fatalf("Put if absent, answer lost: %+v, %v", first, err)
	}
	f.At(len(f.Calls()), faulty.Fault{Kind: faulty.LostReply})
	second, err := b.Put(t.Context(), "k", strings.NewReader("two"), bucket.PutOptions{IfMatch: first.ETag})
	if err != nil || second.ETag == first.ETag {
		t.Fatalf("Put if match, answer lost: %+v, %v", second, err)
	}
	f.At(len(f.Calls()), faulty.Fault{Kind: faulty.Temporary})
	if _, err := b.Put(t.Context(), "k", strings.NewReader("three"), bucket.PutOptions{IfAbsent: true}); !errors.Is(err, bucket.ErrExists) {
		t.Errorf("Put if absent over another's, tried twice: %v", err)
	}
	f.At(len(f.Calls()), faulty.Fault{Kind: faulty.Temporary})
	if _, err := b.Put(t.Context(), "k", strings.NewReader("three"), bucket.PutOptions{IfMatch: first.ETag}); !errors.Is(err, bucket.ErrPrecondition) {
		t.Errorf("Put if match over another's, tried twice: %v", err)
	}
	if got, err := read(t, b, "k", 0, -1); got != "two" || err != nil {
		t.Errorf("the object has %q, %v", got, err)
	}
	// A reader that cannot start again is not repeated.
	f.At(len(f.Calls()), faulty.Fault{Kind: faulty.Temporary})
	if _, err := b.Put(t.Context(), "once", io.MultiReader(strings.NewReader("x")), bucket.PutOptions{}); !errors.Is(err, bucket.ErrUnreachable) {
		t.Errorf("Put of a stream: %v, want %v", err, bucket.ErrUnreachable)
	}
	// One that stands in the middle starts again in the middle.
	r := bytes.NewReader([]byte("skip this, put that"))
	if _, err := r.Seek(11, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	f.At(len(f.Calls()), faulty.Fault{Kind: faulty.LostReply})
	if _, err := bucket.Put(t.Context(), b, "rest", r, bucket.PutOptions{IfAbsent: true}); err != nil {
		t.Error(err)
	}
	if got, err := read(t, b, "rest", 0, -1); got != "put that" || err != nil {
		t.Errorf("the rest is %q, %v", got, err)
	}
}

// TestSumOnce: who asks for the sums of what is being summed already gets those, and they are of all that the asker reads.
func TestSumOnce(t *testing.T) {
	for name, r := range map[string]io.Reader{"a file": strings.NewReader("content"), "a stream": io.MultiReader(strings.NewReader("content"))} {
		t.Run(name, func(t *testing.T) {
			sums := bucket.Sum(r)
			if again := bucket.Sum(sums); again != sums {
				t.Errorf("Sum of %T makes another %T", sums, again)
			}
			first := make([]byte, 3)
			if _, err := io.ReadFull(sums, first); err != nil {
				t.Fatal(err)
			}
			rest := bucket.Sum(sums)
			if got, err := io.ReadAll(rest); string(got) != "tent" || err != nil {
				t.Fatalf("the rest is %q, %v", got, err)
			}
			for _, c := range []struct {
				sums bucket.Summed
				of   string
			}{{sums, "content"}, {rest, "tent"}} {
				want := bucket.NewDigest()
				_, _ = io.WriteString(want, c.of)
				if got := c.sums.Digest(); got.SHA256() != want.SHA256() || got.CRC32C() != want.CRC32C() || got.Size() != want.Size() {
					t.Errorf("the sums of %q are those of something else", c.of)
				}
			}
		})
	}
}

// asked remembers what Put was handed.
type asked struct {
	bucket.Bucket
	r io.Reader
}

func (a *asked) Put(ctx context.Context, key string, r io.Reader, opts bucket.PutOptions) (bucket.Info, error) {
	a.r = r
	return a.Bucket.Put(ctx, key, r, opts)
}

// TestPutHandsSumsOn: the store gets the sums that Put compares its answer with, through Steady too.
func TestPutHandsSumsOn(t *testing.T) {
	for name, r := range map[string]io.Reader{"a file": strings.NewReader("content"), "a stream": io.MultiReader(strings.NewReader("content"))} {
		t.Run(name, func(t *testing.T) {
			a := &asked{Bucket: openDir(t)}
			info, err := bucket.Put(t.Context(), bucket.Steady(a, quick), "k", r, bucket.PutOptions{IfAbsent: true})
			if err != nil {
				t.Fatal(err)
			}
			sums, ok := a.r.(bucket.Summed)
			if !ok || sums.Digest().Compare(info) != nil {
				t.Fatalf("the store was handed %T", a.r)
			}
			if want := sha256.Sum256([]byte("content")); info.SHA256 != hex.EncodeToString(want[:]) {
				t.Errorf("SHA-256 is %s, want %x", info.SHA256, want)
			}
		})
	}
}
