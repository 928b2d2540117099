package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"tablekeeper/storage/bucket"
)

// Head implements bucket.Reader. The checksums are those taken when the object was put.
func (b *Bucket) Head(ctx context.Context, key string) (bucket.Info, error) {
	info, err := b.head(ctx, key)
	return info, wrap("head", key, err)
}

func (b *Bucket) head(ctx context.Context, key string) (bucket.Info, error) {
	if err := bucket.CheckKey(key); err != nil {
		return bucket.Info{}, err
	}
	d, err := b.enter(ctx)
	if err != nil {
		return bucket.Info{}, err
	}
	defer d.Close()
	return b.describe(d, key)
}

func (b *Bucket) describe(d disk, key string) (bucket.Info, error) {
	// Between the file's state and its record another version may come: then the record does not fit, and both are read again.
	for try := 0; ; try++ {
		file, err := b.plain(d, key)
		if err != nil {
			return bucket.Info{}, b.missing(d, err)
		}
		r, err := readRecord(d, key, file)
		if err != nil {
			return bucket.Info{}, err
		}
		if r.SHA256 != "" || try == 2 {
			return r.info(key), nil
		}
	}
}

// missing makes sure that it is the object that is missing, not the bucket around it.
func (b *Bucket) missing(d disk, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		if gone := b.recognise(d); gone != nil {
			return gone
		}
		return fs.ErrNotExist
	}
	return err
}

// Tags implements bucket.Reader.
func (b *Bucket) Tags(ctx context.Context, key string) (map[string]string, error) {
	info, err := b.head(ctx, key)
	return info.Tags, wrap("tags", key, err)
}

// Get implements bucket.Reader. The body is a bucket.Body; a reader that hangs in the file system itself cannot be
// interrupted.
func (b *Bucket) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	return b.GetVersion(ctx, key, "", off, n)
}

// GetVersion implements bucket.Versioned; an empty etag is any version.
func (b *Bucket) GetVersion(ctx context.Context, key, etag string, off, n int64) (io.ReadCloser, error) {
	body, err := b.get(ctx, key, etag, off, n)
	if err != nil {
		return nil, wrap("get", key, err)
	}
	return body, nil
}

func (b *Bucket) get(ctx context.Context, key, etag string, off, n int64) (io.ReadCloser, error) {
	if err := bucket.CheckKey(key); err != nil {
		return nil, err
	}
	d, err := b.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if _, err := b.plain(d, key); err != nil {
		return nil, b.missing(d, err)
	}
	f, err := d.Open(key)
	if err != nil {
		return nil, b.missing(d, err)
	}
	body, err := openBody(ctx, d, f, key, etag, off, n)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return body, nil
}

// openBody describes the very file that was opened: whatever replaces it, the body is of one version.
func openBody(ctx context.Context, d disk, f file, key, etag string, off, n int64) (io.ReadCloser, error) {
	file, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !file.Mode().IsRegular() {
		return nil, odd(key, file)
	}
	r, err := readRecord(d, key, file)
	if err != nil {
		return nil, err
	}
	if etag != "" && r.etag() != etag {
		return nil, fmt.Errorf("%w: ETag %s instead of %s", bucket.ErrPrecondition, r.etag(), etag)
	}
	from, to := bucket.Span(file.Size(), off, n)
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, err
	}
	return bucket.NewBody(ctx, &bodyFile{f, to - from}, r.info(key)), nil
}

// bodyFile reads the next left bytes of a file.
type bodyFile struct {
	f    file
	left int64
}

func (b *bodyFile) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.f.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if errors.Is(err, io.EOF) && b.left > 0 {
		err = io.ErrUnexpectedEOF // cut by someone while we read
	}
	return n, err
}

func (b *bodyFile) Close() error { return b.f.Close() }
