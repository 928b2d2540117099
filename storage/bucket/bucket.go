// Package bucket is the contract for places that keep backups: objects under string keys, written whole or not at all.
//
// Package dir keeps them in a folder, minio in any S3-compatible store, awss3 in AWS S3; buckettest holds all of
// them to the law written here, and faulty breaks it on purpose, for tests. This package has what every bucket's user
// needs on top: [Put] proves that an object arrived, [Steady] retries, [NewReaderAt] reads at random. What an object means
// (backups, manifests, retention) is left to storage/archive; which bucket a URL names is left to cmd.
//
// # The law
//
// Keys are checked by [CheckKey], in every method: what it refuses is [ErrKey] and touches nothing. A listing is input too:
// keys that CheckKey refuses are passed over.
//
// Missing: an object that is not there is [fs.ErrNotExist] to Get, Head, Tags and SetTags, nothing to Delete, and no item to
// List. So is a key that only begins others, up to a slash (what Tags and SetTags say of one is the store's affair). A bucket that is not there (no such folder, a mount that went away, no such S3 bucket) is [ErrNoBucket] to every
// method: it never looks like an empty bucket.
//
// Repeated: Put, Delete and SetTags may be called again with the same arguments, and the last call wins. A Put replaces
// content and tags together.
//
// Concurrent: all methods may be called from any number of goroutines and processes. A reader sees one version of an
// object from its first byte to its last, or an error; never a mixture. Of concurrent Puts with IfAbsent, or with IfMatch of one ETag,
// exactly one succeeds. What Put acknowledged is seen by every later Get, Head and List.
//
// Failed: an error means that the call may be made again by whoever still wants its effect. After a failed Put the key holds what it
// held before, with one exception that no store can avoid: [ErrUnreachable] may hide a success whose answer was lost. A failed Delete or
// SetTags may have taken effect.
// Clean-up (temporary files, parts of an upload) happens even if the context ended.
//
// What a bucket cannot see (a byte flipped in transit, an upload acknowledged and not kept) is the business of those who
// have the checksums: Put in this package, and storage/archive.
package bucket

import (
	"context"
	"io"
	"iter"
	"time"
)

// Info describes one object as its bucket knows it.
type Info struct {
	Key      string
	Size     int64             // bytes
	ETag     string            // names this version of the object; opaque, without quotes
	Modified time.Time         // the store's clock: never a source of order
	SHA256   string            // of the content, hex; "" if the store keeps none
	CRC32C   string            // of the content (Castagnoli), 8 hex digits; "" if the store keeps none
	Tags     map[string]string // nil unless the store returns them for free
}

// PutOptions are the conditions and extras of a Put. The zero value replaces whatever is there.
type PutOptions struct {
	IfAbsent bool              // ErrExists if the key is there
	IfMatch  string            // ErrPrecondition unless the current ETag is this one
	Tags     map[string]string // as CheckTags allows
	SizeHint int64             // expected bytes, 0 if unknown: large ones need larger parts
}

// Reader is what reading asks of a bucket.
type Reader interface {
	// Get streams n bytes from off; to the end if n is negative; the last -off bytes if off is negative (n is then ignored).
	// A range is cut to the object: past its end there are no bytes, and that is no error. The body ends with the context. Bodies
	// of the buckets in this module are a [Body].
	Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)

	// Head describes the object without its content. The checksums are those that the store kept, not read again.
	Head(ctx context.Context, key string) (Info, error)

	// List yields the objects under prefix (any string that begins a key, "" for all) whose keys sort after `after` (a key, there or not, or ""), in the order of
	// the keys' bytes. Memory does not grow with the bucket. Checksums and tags may be missing. An error is
	// yielded last. Objects that come or go meanwhile may be seen or not; all others are seen once.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]

	// Tags returns the object's tags, never nil.
	Tags(ctx context.Context, key string) (map[string]string, error)
}

// Bucket is the whole contract; see the package's comment for what its methods promise together.
type Bucket interface {
	Reader

	// Put is all or nothing: if r fails, key does not appear (and r's error is what Put's error wraps). When it returns, the object is
	// as durable as the store makes it. Memory is bounded, whatever the size. The Info has at least Key, Size and ETag.
	Put(ctx context.Context, key string, r io.Reader, opts PutOptions) (Info, error)

	// Delete removes the object and its tags; missing is not an error.
	Delete(ctx context.Context, key string) error

	// SetTags replaces all tags; an empty map removes them. The content and its ETag stay.
	SetTags(ctx context.Context, key string, tags map[string]string) error
}

// Body is what Get returns where the store describes the object along with its content.
type Body interface {
	io.ReadCloser

	// Info has the ETag and the Size of the whole object, whatever range was asked for. Of a whole object the size is only what
	// the store announced with the body: compare it with Head's.
	Info() Info
}

// Versioned is an optional ability: to read one version of an object or nothing.
type Versioned interface {
	// GetVersion is Get, and ErrPrecondition if the object's ETag is another.
	GetVersion(ctx context.Context, key, etag string, off, n int64) (io.ReadCloser, error)
}

// Lifecycler is an optional ability: buckets that expire objects themselves.
type Lifecycler interface {
	// Lifecycle names the enabled rules that expire objects tagged SupersededTag=SupersededValue; none if there are none, or
	// if the store knows no rules.
	Lifecycle(ctx context.Context) (rules []string, err error)
}

// The tag that a retention rule selects by, in lifecycle rules and in our own sweep.
const (
	SupersededTag   = "tablekeeper"
	SupersededValue = "superseded"
)

// NewBody makes a Body of a stream and what is known of its object. It ends with ctx, also where the stream has bytes left that
// came before.
func NewBody(ctx context.Context, rc io.ReadCloser, info Info) Body { return &body{rc, ctx, info} }

type body struct {
	io.ReadCloser
	ctx  context.Context // of the Get that made the body
	info Info
}

func (b *body) Info() Info { return b.info }

func (b *body) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	return b.ReadCloser.Read(p)
}

// Span says which bytes [from, to) of an object of size bytes Get's off and n mean.
func Span(size, off, n int64) (from, to int64) {
	if off < 0 {
		return max(0, size+off), size
	}
	from = min(off, size)
	if n < 0 || n > size-from {
		return from, size
	}
	return from, from + n
}
