package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/buckettest"
	"tablekeeper/storage/bucket/faulty"
)

// TestSuite: a bucket under Steady keeps the same law.
func TestSuite(t *testing.T) {
	buckettest.Run(t, buckettest.Options{
		Open:    func(t *testing.T) bucket.Bucket { return bucket.Steady(openDir(t), quick) },
		Missing: func(t *testing.T) bucket.Bucket { return bucket.Steady(removed(t), quick) },
		Large:   100_000,
	})
}

// memory is a bucket of one object that lives in a bubble of time: it waits for nothing but its context.
type memory struct {
	bucket.Bucket
	content func() string
}

func (m *memory) info(text string) bucket.Info {
	d := bucket.NewDigest()
	_, _ = d.Write([]byte(text)) // never fails
	return bucket.Info{Key: "k", Size: d.Size(), ETag: d.CRC32C(), SHA256: d.SHA256()}
}

func (m *memory) Head(context.Context, string) (bucket.Info, error) {
	return m.info(m.content()), nil
}

func (m *memory) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	return m.GetVersion(ctx, key, "", off, n)
}

func (m *memory) GetVersion(ctx context.Context, _, etag string, off, n int64) (io.ReadCloser, error) {
	text := m.content()
	info := m.info(text)
	if etag != "" && etag != info.ETag {
		return nil, bucket.ErrPrecondition
	}
	from, to := bucket.Span(info.Size, off, n)
	return bucket.NewBody(ctx, io.NopCloser(strings.NewReader(text[from:to])), info), nil
}

func (m *memory) List(context.Context, string, string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) { yield(m.info(m.content()), nil) }
}

func (m *memory) Tags(context.Context, string) (map[string]string, error) {
	return map[string]string{}, nil
}

// TestSteadyStalls: a body or a call on which nothing comes is given up after its time and made again; if nothing ever comes, so it is said.
func TestSteadyStalls(t *testing.T) {
	text := strings.Repeat("0123456789", 1000)
	calls := map[string]func(*testing.T, bucket.Bucket) error{
		"get": func(t *testing.T, b bucket.Bucket) error {
			got, err := read(t, b, "k", 0, -1)
			if err == nil && got != text {
				err = errors.New("other content")
			}
			return err
		},
		"get range": func(t *testing.T, b bucket.Bucket) error {
			got, err := read(t, b, "k", 50, 5000)
			if err == nil && got != text[50:5050] {
				err = errors.New("other content")
			}
			return err
		},
		"head": func(t *testing.T, b bucket.Bucket) error { _, err := b.Head(t.Context(), "k"); return err },
		"tags": func(t *testing.T, b bucket.Bucket) error { _, err := b.Tags(t.Context(), "k"); return err },
		"list": func(t *testing.T, b bucket.Bucket) error {
			for _, err := range b.List(t.Context(), "", "") {
				return err
			}
			return errors.New("an empty listing")
		},
	}
	for name, call := range calls {
		for _, at := range []int64{0, 1, 4000} {
			for n := range 3 {
				synctest.Test(t, func(t *testing.T) {
					f := faulty.Wrap(&memory{content: func() string { return text }})
					f.At(n, faulty.Fault{Kind: faulty.Stall, Byte: at})
					if err := call(t, bucket.Steady(f, bucket.SteadyOptions{})); err != nil {
						t.Errorf("%s, call %d stalls at %d: %v", name, n, at, err)
					}
				})
			}
			synctest.Test(t, func(t *testing.T) {
				f := faulty.Wrap(&memory{content: func() string { return text }})
				f.Decide(func(faulty.Call) faulty.Fault { return faulty.Fault{Kind: faulty.Stall} })
				started := time.Now()
				err := call(t, bucket.Steady(f, bucket.SteadyOptions{}))
				if !errors.Is(err, bucket.ErrUnreachable) {
					t.Errorf("%s, all stall: %v, want %v", name, err, bucket.ErrUnreachable)
				}
				if waited := time.Since(started); waited < 5*30*time.Second {
					t.Errorf("%s, all stall: given up after %s", name, waited)
				}
			})
		}
	}
}

// TestSteadyReplaced: a body is never continued with another version of the object.
func TestSteadyReplaced(t *testing.T) {
	for _, whole := range []bool{true, false} {
		version := strings.Repeat("a", 1000)
		m := &memory{content: func() string { return version }}
		f := faulty.Wrap(m)
		b := bucket.Steady(f, quick)
		f.Always("get", faulty.Fault{Kind: faulty.Cut, Byte: 100})
		off := int64(1)
		if whole {
			off = 0
		}
		rc, err := b.Get(t.Context(), "k", off, -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(rc, make([]byte, 50)); err != nil {
			t.Fatal(err)
		}
		version = strings.Repeat("b", 1000)
		rest, err := io.ReadAll(rc)
		if !errors.Is(err, bucket.ErrPrecondition) || bytes.ContainsRune(rest, 'b') {
			t.Errorf("whole %v: %v after %q, want %v and nothing of the new version", whole, err, rest, bucket.ErrPrecondition)
		}
		if err := rc.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSteadyCutForEver: a body that breaks at once every time is given up; one that brings a byte each time is read to its end.
func TestSteadyCutForEver(t *testing.T) {
	text := strings.Repeat("x", 50)
	f := faulty.Wrap(&memory{content: func() string { return text }})
	b := bucket.Steady(f, quick)
	for _, kind := range []faulty.Kind{faulty.Cut, faulty.Short} {
		f.Always("get", faulty.Fault{Kind: kind, Byte: 0})
		if _, err := read(t, b, "k", 0, -1); !errors.Is(err, bucket.ErrUnreachable) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s at the first byte, for ever: %v", kind, err)
		}
		f.Always("get", faulty.Fault{Kind: kind, Byte: 1})
		if got, err := read(t, b, "k", 0, -1); got != text || err != nil {
			t.Errorf("%s after each byte: %d bytes, %v", kind, len(got), err)
		}
	}
}

// TestSteadyPermanent: what another attempt cannot mend is not tried again.
func TestSteadyPermanent(t *testing.T) {
	for _, kind := range []faulty.Kind{faulty.Fail, faulty.Denied} {
		f := faulty.Wrap(openDir(t))
		f.Decide(func(faulty.Call) faulty.Fault { return faulty.Fault{Kind: kind} })
		b := bucket.Steady(f, quick)
		_, head := b.Head(t.Context(), "k")
		_, get := b.Get(t.Context(), "k", 1, 2)
		_, put := b.Put(t.Context(), "k", strings.NewReader("x"), bucket.PutOptions{})
		for _, err := range []error{head, get, put, b.Delete(t.Context(), "k"), b.SetTags(t.Context(), "k", nil)} {
			if !errors.Is(err, faulty.ErrInjected) {
				t.Errorf("%s: %v", kind, err)
			}
		}
		if n := len(f.Calls()); n != 5 {
			t.Errorf("%s: %d calls for 5", kind, n)
		}
	}
}

func TestSteadyCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := faulty.Wrap(&memory{content: func() string { return "x" }})
		f.Decide(func(faulty.Call) faulty.Fault { return faulty.Fault{Kind: faulty.Temporary} })
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		_, err := bucket.Steady(f, bucket.SteadyOptions{}).Head(ctx, "k")
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, bucket.ErrUnreachable) {
			t.Errorf("cancelled while waiting to try again: %v, want both reasons", err)
		}
	})
}

func removed(t *testing.T) bucket.Bucket {
	b := openDir(t)
	if err := os.RemoveAll(b.String()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Head(t.Context(), "k"); errors.Is(err, fs.ErrNotExist) || err == nil {
		t.Fatalf("Head of a removed bucket: %v", err)
	}
	return b
}
