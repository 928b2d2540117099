package buckettest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/thanos-io/objstore"

	"tablekeeper/storage/bucket"
)

// RunThanos runs the acceptance test of thanos-io/objstore, which has an eye of its own for what a bucket must do. It puts an object of 200 MiB.
func RunThanos(t *testing.T, b bucket.Bucket) {
	objstore.AcceptanceTest(t, thanos{b})
}

// thanos shows a bucket as objstore has it: with folders.
type thanos struct{ b bucket.Bucket }

func (t thanos) Provider() objstore.ObjProvider                { return objstore.FILESYSTEM }
func (t thanos) Name() string                                  { return "buckettest" }
func (t thanos) Close() error                                  { return nil }
func (t thanos) IsObjNotFoundErr(err error) bool               { return errors.Is(err, fs.ErrNotExist) }
func (t thanos) IsAccessDeniedErr(err error) bool              { return errors.Is(err, bucket.ErrDenied) }
func (t thanos) Delete(ctx context.Context, name string) error { return t.b.Delete(ctx, name) }

func (t thanos) SupportedIterOptions() []objstore.IterOptionType {
	return []objstore.IterOptionType{objstore.Recursive}
}

func (t thanos) Iter(ctx context.Context, folder string, f func(string) error, options ...objstore.IterOption) error {
	recursive := objstore.ApplyIterOptions(options...).Recursive
	if folder != "" {
		folder = strings.TrimSuffix(folder, "/") + "/"
	}
	last := ""
	for info, err := range t.b.List(ctx, folder, "") {
		if err != nil {
			return err
		}
		name := info.Key
		if i := strings.IndexByte(name[len(folder):], '/'); i >= 0 && !recursive {
			name = name[:len(folder)+i+1]
		}
		if name == last {
			continue
		}
		if last = name; f(name) != nil {
			return fmt.Errorf("stopped at %s", name)
		}
	}
	return nil
}

func (t thanos) IterWithAttributes(ctx context.Context, folder string, f func(objstore.IterObjectAttributes) error, options ...objstore.IterOption) error {
	if err := objstore.ValidateIterOptions(t.SupportedIterOptions(), options...); err != nil {
		return err
	}
	return t.Iter(ctx, folder, func(name string) error { return f(objstore.IterObjectAttributes{Name: name}) }, options...)
}

func (t thanos) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	return t.GetRange(ctx, name, 0, -1)
}

func (t thanos) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	rc, err := t.b.Get(ctx, name, off, length)
	if err != nil {
		return nil, err
	}
	from, to := bucket.Span(rc.(bucket.Body).Info().Size, off, length)
	return objstore.ObjectSizerReadCloser{ReadCloser: rc, Size: func() (int64, error) { return to - from, nil }}, nil
}

func (t thanos) Exists(ctx context.Context, name string) (bool, error) {
	_, err := t.b.Head(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (t thanos) Attributes(ctx context.Context, name string) (objstore.ObjectAttributes, error) {
	info, err := t.b.Head(ctx, name)
	return objstore.ObjectAttributes{Size: info.Size, LastModified: info.Modified}, err
}

func (t thanos) Upload(ctx context.Context, name string, r io.Reader, _ ...objstore.ObjectUploadOption) error {
	_, err := bucket.Put(ctx, t.b, name, r, bucket.PutOptions{})
	return err
}

func (t thanos) GetAndReplace(ctx context.Context, name string, f func(io.ReadCloser) (io.ReadCloser, error)) error {
	return fmt.Errorf("replace %s: %w", name, errors.ErrUnsupported)
}
