// Package faulty wraps a bucket and makes chosen calls of it go wrong, in the ways that networks, disks and stores were seen to. It is
// for tests: a caller that survives every kind of fault at call 0, 1, 2, ... until a run is clean has no path that was never taken.
package faulty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"tablekeeper/storage/bucket"
)

// Kind is a way to go wrong.
type Kind int

// The kinds; each applies to the calls named, and is None to all others.
const (
	None      Kind = iota
	Fail           // any call: a plain error, before anything is done
	Temporary      // any call: bucket.ErrUnreachable, before anything is done
	Denied         // any call: bucket.ErrDenied
	LostReply      // Put, Delete, SetTags: it is done, and the answer is bucket.ErrUnreachable
	Stall          // any call: waits for the context to end; Get: its body does, from Byte on
	Cut            // Get: the body breaks off at Byte with io.ErrUnexpectedEOF
	Short          // Get: the body ends at Byte as if that were its end
	Empty          // Get: the body has no bytes
	Flip           // Get: one bit of the byte at Byte is inverted. Put: the same, in what is stored
	Zeros          // Get: the body's bytes are zero from Byte on
	Lie            // Put: reads everything, stores nothing, and says that it did. Delete, SetTags: does nothing
	Half           // Put: stores the first Byte bytes, and says that all is well
	BreakList      // List: bucket.ErrUnreachable after Byte items
)

var kinds = [...]string{"none", "fail", "temporary", "denied", "lost reply", "stall", "cut", "short", "empty", "flip", "zeros", "lie", "half", "break list"}

// String is the kind in words.
func (k Kind) String() string { return kinds[k] }

// Kinds lists every fault.
func Kinds() []Kind {
	all := make([]Kind, 0, len(kinds)-1)
	for k := Fail; k <= BreakList; k++ {
		all = append(all, k)
	}
	return all
}

// ErrInjected is in every error made here.
var ErrInjected = errors.New("injected fault")

// Fault is a kind and, where it needs one, a place: a byte of the stream, or an item of a listing.
type Fault struct {
	Kind Kind
	Byte int64
}

// Call is one call of the bucket.
type Call struct {
	N   int    // from 0
	Op  string // get, head, list, tags, put, delete, set tags
	Key string // or the prefix of a listing
}

// Bucket is the wrapped bucket. It has the ability bucket.Versioned as far as the one inside has.
type Bucket struct {
	b bucket.Bucket

	mu    sync.Mutex
	calls []Call
	fault func(Call) Fault
	hits  int
}

// Wrap makes a bucket whose calls are counted, and go well until told otherwise.
func Wrap(b bucket.Bucket) *Bucket {
	return &Bucket{b: b, fault: func(Call) Fault { return Fault{} }}
}

// At makes call n, counted from 0 over all methods, go wrong, and only that.
func (f *Bucket) At(n int, fault Fault) {
	f.Decide(func(c Call) Fault {
		if c.N == n {
			return fault
		}
		return Fault{}
	})
}

// Always makes every call of an operation go wrong.
func (f *Bucket) Always(op string, fault Fault) {
	f.Decide(func(c Call) Fault {
		if c.Op == op {
			return fault
		}
		return Fault{}
	})
}

// Decide asks fault about every further call. It is called by one goroutine at a time.
func (f *Bucket) Decide(fault func(Call) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// Calls lists the calls so far.
func (f *Bucket) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Call(nil), f.calls...)
}

// Hits is how many calls went wrong on purpose.
func (f *Bucket) Hits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hits
}

func (f *Bucket) next(op, key string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := Call{N: len(f.calls), Op: op, Key: key}
	f.calls = append(f.calls, c)
	fault := f.fault(c)
	if fault.Kind != None {
		f.hits++
	}
	return fault
}

// before is what happens before a call that goes wrong as a whole.
func before(ctx context.Context, fault Fault, op, key string) error {
	switch fault.Kind {
	case Fail:
		return fmt.Errorf("%s %s: %w", op, key, ErrInjected)
	case Temporary:
		return fmt.Errorf("%s %s: %w: %w", op, key, bucket.ErrUnreachable, ErrInjected)
	case Denied:
		return fmt.Errorf("%s %s: %w: %w", op, key, bucket.ErrDenied, ErrInjected)
	case Stall:
		<-ctx.Done()
		return fmt.Errorf("%s %s: %w: %w", op, key, ErrInjected, context.Cause(ctx))
	default:
		return nil
	}
}

// after is what becomes of the answer to a call that went well.
func after(fault Fault, op, key string) error {
	if fault.Kind == LostReply {
		return fmt.Errorf("%s %s: %w: %w: the answer is lost", op, key, bucket.ErrUnreachable, ErrInjected)
	}
	return nil
}

// Head implements bucket.Reader.
func (f *Bucket) Head(ctx context.Context, key string) (bucket.Info, error) {
	if err := before(ctx, f.next("head", key), "head", key); err != nil {
		return bucket.Info{}, err
	}
	return f.b.Head(ctx, key)
}

// Tags implements bucket.Reader.
func (f *Bucket) Tags(ctx context.Context, key string) (map[string]string, error) {
	if err := before(ctx, f.next("tags", key), "tags", key); err != nil {
		return nil, err
	}
	return f.b.Tags(ctx, key)
}

// List implements bucket.Reader.
func (f *Bucket) List(ctx context.Context, prefix, from string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		fault := f.next("list", prefix)
		if err := before(ctx, fault, "list", prefix); err != nil {
			yield(bucket.Info{}, err)
			return
		}
		var items int64
		for info, err := range f.b.List(ctx, prefix, from) {
			if fault.Kind == BreakList && items >= fault.Byte {
				yield(bucket.Info{}, fmt.Errorf("list %s: %w: %w", prefix, bucket.ErrUnreachable, ErrInjected))
				return
			}
			if items++; !yield(info, err) {
				return
			}
		}
	}
}

// Delete implements bucket.Bucket.
func (f *Bucket) Delete(ctx context.Context, key string) error {
	return f.change(ctx, "delete", key, func() error { return f.b.Delete(ctx, key) })
}

// SetTags implements bucket.Bucket.
func (f *Bucket) SetTags(ctx context.Context, key string, tags map[string]string) error {
	return f.change(ctx, "set tags", key, func() error { return f.b.SetTags(ctx, key, tags) })
}

func (f *Bucket) change(ctx context.Context, op, key string, do func() error) error {
	fault := f.next(op, key)
	if err := before(ctx, fault, op, key); err != nil || fault.Kind == Lie {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return after(fault, op, key)
}

// Put implements bucket.Bucket.
func (f *Bucket) Put(ctx context.Context, key string, r io.Reader, opts bucket.PutOptions) (bucket.Info, error) {
	fault := f.next("put", key)
	if err := before(ctx, fault, "put", key); err != nil {
		return bucket.Info{}, err
	}
	info, err := f.put(ctx, key, r, opts, fault)
	if err != nil {
		return bucket.Info{}, err
	}
	return info, after(fault, "put", key)
}

func (f *Bucket) put(ctx context.Context, key string, r io.Reader, opts bucket.PutOptions, fault Fault) (bucket.Info, error) {
	digest := bucket.NewDigest()
	all := io.TeeReader(r, digest)
	claim := func() bucket.Info {
		return bucket.Info{Key: key, Size: digest.Size(), ETag: digest.SHA256(), SHA256: digest.SHA256(), CRC32C: digest.CRC32C()}
	}
	switch fault.Kind {
	case Lie:
		_, err := io.Copy(io.Discard, all)
		return claim(), err
	case Half:
		if _, err := f.b.Put(ctx, key, io.LimitReader(all, fault.Byte), opts); err != nil {
			return bucket.Info{}, err
		}
		_, err := io.Copy(io.Discard, all)
		return claim(), err
	case Flip:
		_, err := f.b.Put(ctx, key, &stream{r: all, fault: fault}, opts)
		return claim(), err
	default:
		return f.b.Put(ctx, key, r, opts)
	}
}
