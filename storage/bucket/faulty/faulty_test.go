package faulty_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/dir"
	"tablekeeper/storage/bucket/faulty"
)

// work is a life of some objects: every method, with every condition. Each step checks what it can see.
func work(ctx context.Context, b bucket.Bucket) error {
	first, err := bucket.Put(ctx, b, "t/a", strings.NewReader("first content"), bucket.PutOptions{IfAbsent: true, Tags: map[string]string{"n": "1"}})
	if err != nil {
		return err
	}
	if _, err := bucket.Put(ctx, b, "t/b", strings.NewReader("b"), bucket.PutOptions{}); err != nil {
		return err
	}
	if _, err := bucket.Put(ctx, b, "t/a", strings.NewReader("second content"), bucket.PutOptions{IfMatch: first.ETag}); err != nil {
		return err
	}
	if err := expect(ctx, b, "t/a", 0, -1, "second content"); err != nil {
		return err
	}
	if err := expect(ctx, b, "t/a", 7, 100, "content"); err != nil {
		return err
	}
	if err := b.SetTags(ctx, "t/a", map[string]string{"n": "2"}); err != nil {
		return err
	}
	if tags, err := b.Tags(ctx, "t/a"); err != nil || tags["n"] != "2" {
		return fmt.Errorf("tags %v: %w", tags, errors.Join(err, errSeen))
	}
	if err := b.Delete(ctx, "t/b"); err != nil {
		return err
	}
	var listed []string
	for info, err := range b.List(ctx, "t/", "") {
		if err != nil {
			return err
		}
		listed = append(listed, info.Key)
	}
	if len(listed) != 1 || listed[0] != "t/a" {
		return fmt.Errorf("listed %q: %w", listed, errSeen)
	}
	return nil
}

// errSeen is in the errors of work's own checks.
var errSeen = errors.New("the fault was seen")

func expect(ctx context.Context, b bucket.Bucket, key string, off, n int64, want string) error {
	rc, err := b.Get(ctx, key, off, n)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(rc)
	if err := errors.Join(err, rc.Close()); err != nil {
		return err
	}
	if string(got) != want {
		return fmt.Errorf("%q instead of %q: %w", got, want, errSeen)
	}
	return nil
}

// TestEachCallFails runs the work with a fault at call 0, 1, 2, ... until a run is clean. No fault goes unseen, and whatever the work was
// stopped by, each object is one that was put, whole, and nothing else is in the folder.
func TestEachCallFails(t *testing.T) {
	put := map[string]bool{"first content": true, "second content": true, "b": true}
	clean := cleanRun(t)
	for _, kind := range faulty.Kinds() {
		for n, planned := range clean {
			if !matters(kind, planned.Op) {
				continue
			}
			path := t.TempDir()
			b, err := dir.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			f := faulty.Wrap(b)
			f.At(n, faulty.Fault{Kind: kind})
			ctx, cancel := context.WithCancelCause(t.Context())
			if kind == faulty.Stall {
				f.Decide(func(c faulty.Call) faulty.Fault {
					if c.N != n {
						return faulty.Fault{}
					}
					cancel(faulty.ErrInjected) // what stalls ends with its context
					return faulty.Fault{Kind: faulty.Stall}
				})
			}
			err = work(ctx, f)
			cancel(nil)
			call := f.Calls()[n]
			if call != planned {
				t.Fatalf("call %d is %v, and was %v in a clean run", n, call, planned)
			}
			if err == nil {
				t.Errorf("%s at call %d (%s %s) is not seen", kind, n, call.Op, call.Key)
			}
			for key, content := range objects(t, b) {
				half := kind == faulty.Half || kind == faulty.Flip // over an object that was there: seen, and not undone
				if !put[content] && !half {
					t.Errorf("%s at call %d (%s %s): %s has %q", kind, n, call.Op, call.Key, key, content)
				}
			}
			if temps, err := filepath.Glob(filepath.Join(path, ".bucket", "tmp", "*")); err != nil || len(temps) > 0 {
				t.Errorf("%s at call %d: left %q, %v", kind, n, temps, err)
			}
		}
	}
}

// cleanRun lists the calls that the work makes if all goes well.
func cleanRun(t *testing.T) []faulty.Call {
	t.Helper()
	b, err := dir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := faulty.Wrap(b)
	if err := work(t.Context(), f); err != nil {
		t.Fatalf("clean run: %v", err)
	}
	return f.Calls()
}

// matters is whether a kind of fault does anything to an operation.
func matters(kind faulty.Kind, op string) bool {
	switch kind {
	case faulty.LostReply:
		return op == "put" || op == "delete" || op == "set tags"
	case faulty.Cut, faulty.Short, faulty.Empty, faulty.Zeros:
		return op == "get"
	case faulty.Flip:
		return op == "get" || op == "put"
	case faulty.Lie:
		return op == "put" || op == "delete" || op == "set tags"
	case faulty.Half:
		return op == "put"
	case faulty.BreakList:
		return op == "list"
	default:
		return true
	}
}

func objects(t *testing.T, b bucket.Bucket) map[string]string {
	t.Helper()
	all := map[string]string{}
	for info, err := range b.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		rc, err := b.Get(t.Context(), info.Key, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(rc)
		if err := errors.Join(err, rc.Close()); err != nil {
			t.Fatal(err)
		}
		all[info.Key] = string(content)
	}
	return all
}

// TestKinds: each kind does what it says, at the byte it says.
func TestKinds(t *testing.T) {
	for _, test := range []struct {
		fault faulty.Fault
		want  string
		err   error
	}{
		{faulty.Fault{Kind: faulty.Cut, Byte: 3}, "con", io.ErrUnexpectedEOF},
		{faulty.Fault{Kind: faulty.Short, Byte: 3}, "con", nil},
		{faulty.Fault{Kind: faulty.Empty, Byte: 3}, "", nil},
		{faulty.Fault{Kind: faulty.Flip, Byte: 0}, "bontent", nil},
		{faulty.Fault{Kind: faulty.Flip, Byte: 6}, "contenu", nil},
		{faulty.Fault{Kind: faulty.Flip, Byte: 7}, "content", nil},
		{faulty.Fault{Kind: faulty.Zeros, Byte: 5}, "conte\x00\x00", nil},
	} {
		b, err := dir.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Put(t.Context(), "k", strings.NewReader("content"), bucket.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		f := faulty.Wrap(b)
		f.Always("get", test.fault)
		rc, err := f.Get(t.Context(), "k", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(rc)
		if string(got) != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s at %d: %q, %v, want %q, %v", test.fault.Kind, test.fault.Byte, got, err, test.want, test.err)
		}
		if err := rc.Close(); err != nil {
			t.Error(err)
		}
		_, err = f.GetVersion(t.Context(), "none", "x", 0, -1)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("GetVersion of a missing object: %v", err)
		}
	}
}
