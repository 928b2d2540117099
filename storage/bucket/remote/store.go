// Package remote is the half of an S3 bucket that does not depend on the library that speaks to it: the URL, keys under a prefix,
// ranges, conditions, uploads in parts, and what the answers of a store mean. Packages minio and awss3 give it single requests ([API])
// and get the whole contract of package bucket for them ([Store]).
//
// An upload goes in parts of 8 MiB, three of which are in memory at most; the parts grow for objects that would need more than 10,000.
// Each part carries its SHA-256 (in the signature) and CRC-32C, and the whole a CRC-32C that the store compares with its own. An upload
// that fails is aborted. Of requests, only those of an upload are repeated here; the rest is for bucket.Steady.
//
// Retried conditional requests are ambiguous: the first may have been done and its answer lost, and then the second finds our own object in
// the way. So a refusal that is not of the first attempt is checked against the object's head before it is believed.
package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"

	"tablekeeper/storage/bucket"
)

// API is what a library that speaks S3 can do, one request a call, tried once. Keys are complete. An answer that is not a success is a
// *AnswerError; other errors mean that there was no answer.
type API interface {
	// Get asks for a Range header's bytes ("" for all), of the version etag if that is not empty.
	Get(ctx context.Context, key, etag, byteRange string) (Object, error)
	Head(ctx context.Context, key string) (bucket.Info, error)
	// List yields in order, by pages of at most max.
	List(ctx context.Context, prefix, after string, max int) iter.Seq2[bucket.Info, error]
	Tags(ctx context.Context, key string) (map[string]string, error)
	SetTags(ctx context.Context, key string, tags map[string]string) error // an empty map removes all
	Delete(ctx context.Context, key string) error
	Put(ctx context.Context, key string, p Part, c Conditions) (etag string, err error)
	Begin(ctx context.Context, key string, c Conditions) (id string, err error)
	PutPart(ctx context.Context, key, id string, p Part) (etag string, err error)
	Complete(ctx context.Context, key, id string, parts []Part, whole Part, c Conditions) (etag string, err error)
	Abort(ctx context.Context, key, id string) error
	Lifecycle(ctx context.Context) ([]Rule, error)
}

// Object is the answer to a Get.
type Object struct {
	Body         io.ReadCloser
	Info         bucket.Info // Size is the length of the body
	ContentRange string      // the header, "" if there was none
}

// Part is a piece of an upload, or all of it.
type Part struct {
	Number int    // from 1
	Data   []byte // nil where only the sums count
	Size   int64
	CRC32C uint32
	ETag   string // once it is there
}

// Conditions are those of a Put, and the tags.
type Conditions struct {
	IfAbsent bool
	IfMatch  string
	Tags     map[string]string
}

// Rule is an enabled lifecycle rule that expires current versions of objects.
type Rule struct {
	ID       string
	Prefix   string
	Tag      string // key=value, "" if it selects by none
	MoreTags bool
}

// Store is an S3 bucket, or the keys of one under a prefix.
type Store struct {
	api  API
	loc  Location
	opts Options
}

var (
	_ bucket.Bucket     = (*Store)(nil)
	_ bucket.Versioned  = (*Store)(nil)
	_ bucket.Lifecycler = (*Store)(nil)
)

// New makes a bucket of requests.
func New(api API, loc Location, opts Options) *Store {
	if opts.PartSize <= 0 {
		opts.PartSize = 8 << 20
	}
	if opts.Concurrency <= 0 {
		opts.Concurrency = 2
	}
	if opts.ListPage <= 0 {
		opts.ListPage = 1000
	}
	return &Store{api, loc, opts}
}

// String is the bucket's URL without parameters.
func (s *Store) String() string { return s.loc.String() }

// full is the key with the prefix of the location.
func (s *Store) full(key string) string {
	if s.loc.Prefix == "" {
		return key
	}
	return s.loc.Prefix + "/" + key
}

// check refuses keys, also those that are too long only with the prefix.
func (s *Store) check(key string) error {
	if err := bucket.CheckKey(key); err != nil {
		return err
	}
	return bucket.CheckKey(s.full(key))
}

// wrap says what was being done to which key, and what the error means.
func wrap(ctx context.Context, op, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", op, key, explain(ctx, err))
}

// Head implements bucket.Reader.
func (s *Store) Head(ctx context.Context, key string) (bucket.Info, error) {
	info, err := s.head(ctx, key)
	return info, wrap(ctx, "head", key, err)
}

func (s *Store) head(ctx context.Context, key string) (bucket.Info, error) {
	if err := s.check(key); err != nil {
		return bucket.Info{}, err
	}
	info, err := s.api.Head(ctx, s.full(key))
	if err != nil {
		return bucket.Info{}, s.missing(ctx, key, err)
	}
	info.Key = key
	return info, nil
}

// missing asks again why an object cannot be had: the answer to a HEAD has no room to say that it is the bucket, or our account, that is not
// known.
func (s *Store) missing(ctx context.Context, key string, err error) error {
	err = explain(ctx, err)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	object, why := s.api.Get(ctx, s.full(key), "", "bytes=0-0")
	if why == nil {
		return errors.Join(err, object.Body.Close()) // it came just now
	}
	if why = explain(ctx, why); errors.Is(why, bucket.ErrNoBucket) || errors.Is(why, bucket.ErrDenied) {
		return why
	}
	return err
}

// Get implements bucket.Reader. The body is a bucket.Body.
func (s *Store) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	return s.GetVersion(ctx, key, "", off, n)
}

// GetVersion implements bucket.Versioned; an empty etag is any version.
func (s *Store) GetVersion(ctx context.Context, key, etag string, off, n int64) (io.ReadCloser, error) {
	body, err := s.get(ctx, key, etag, off, n)
	if err != nil {
		return nil, wrap(ctx, "get", key, err)
	}
	return body, nil
}

func (s *Store) get(ctx context.Context, key, etag string, off, n int64) (io.ReadCloser, error) {
	if err := s.check(key); err != nil {
		return nil, err
	}
	if off >= 0 && n == 0 {
		return s.nothing(ctx, key, etag, off, n)
	}
	object, err := s.api.Get(ctx, s.full(key), etag, rangeHeader(off, n))
	if notSatisfiable(err) {
		return s.nothing(ctx, key, etag, off, n)
	}
	if err != nil {
		return nil, err
	}
	if object.Info.Size == 0 && (off != 0 || n > 0) {
		// Of an empty object no range can be described, and stores differ in what they say of one.
		if err := object.Body.Close(); err != nil {
			return nil, err
		}
		return s.nothing(ctx, key, etag, off, n)
	}
	object.Info.Key = key
	if err := object.check(etag, off, n); err != nil {
		return nil, errors.Join(err, object.Body.Close())
	}
	return bucket.NewBody(ctx, object.Body, object.Info), nil
}

// nothing is the body of a range without bytes, for which S3 has no request.
func (s *Store) nothing(ctx context.Context, key, etag string, off, n int64) (io.ReadCloser, error) {
	info, err := s.head(ctx, key)
	if err != nil {
		return nil, err
	}
	if etag != "" && info.ETag != etag {
		return nil, fmt.Errorf("%w: ETag %s instead of %s", bucket.ErrPrecondition, info.ETag, etag)
	}
	if from, to := bucket.Span(info.Size, off, n); from < to {
		return nil, fmt.Errorf("%w: nothing for bytes %d to %d of %d", bucket.ErrBody, from, to-1, info.Size)
	}
	return bucket.NewBody(ctx, io.NopCloser(strings.NewReader("")), info), nil
}

// Tags implements bucket.Reader.
func (s *Store) Tags(ctx context.Context, key string) (map[string]string, error) {
	if err := s.check(key); err != nil {
		return nil, wrap(ctx, "tags", key, err)
	}
	tags, err := s.api.Tags(ctx, s.full(key))
	if err != nil {
		return nil, wrap(ctx, "tags", key, err)
	}
	if tags == nil {
		tags = map[string]string{}
	}
	return tags, nil
}

// SetTags implements bucket.Bucket.
func (s *Store) SetTags(ctx context.Context, key string, tags map[string]string) error {
	err := errors.Join(s.check(key), bucket.CheckTags(tags))
	if err == nil {
		err = s.api.SetTags(ctx, s.full(key), tags)
	}
	return wrap(ctx, "set tags", key, err)
}

// Delete implements bucket.Bucket.
func (s *Store) Delete(ctx context.Context, key string) error {
	err := s.check(key)
	if err == nil {
		err = explain(ctx, s.api.Delete(ctx, s.full(key)))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return wrap(ctx, "delete", key, err)
}

// List implements bucket.Reader, without checksums and tags.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		if err := bucket.CheckPrefix(prefix); err != nil {
			yield(bucket.Info{}, wrap(ctx, "list", prefix, err))
			return
		}
		cut := ""
		if s.loc.Prefix != "" {
			cut = s.loc.Prefix + "/"
		}
		from := ""
		if after != "" {
			from = cut + after
		}
		for info, err := range s.api.List(ctx, cut+prefix, from, s.opts.ListPage) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(bucket.Info{}, wrap(ctx, "list", prefix, err))
				return
			}
			var ours bool
			info.Key, ours = strings.CutPrefix(info.Key, cut)
			if !ours || info.Key <= after || bucket.CheckKey(info.Key) != nil {
				continue
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Lifecycle implements bucket.Lifecycler: the rules that expire superseded objects under our prefix.
func (s *Store) Lifecycle(ctx context.Context) ([]string, error) {
	rules, err := s.api.Lifecycle(ctx)
	var failure *AnswerError
	if errors.As(err, &failure) && (failure.Code == "NoSuchLifecycleConfiguration" || failure.Status == 501) {
		return nil, nil
	}
	if err != nil {
		return nil, wrap(ctx, "lifecycle", s.String(), err)
	}
	var names []string
	for _, r := range rules {
		// A rule without a tag would expire the last good copy too: that is none of those asked for.
		covers := strings.HasPrefix(s.full(""), r.Prefix)
		if covers && !r.MoreTags && r.Tag == bucket.SupersededTag+"="+bucket.SupersededValue {
			names = append(names, r.ID)
		}
	}
	return names, nil
}
