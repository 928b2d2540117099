package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"tablekeeper/storage/bucket"
)

// NewEncoder begins a backup on w, encrypted to the catalogue's recipients.
func (c *Catalogue) NewEncoder(w io.Writer, opts EncoderOptions) (*Encoder, error) {
	opts.Recipients = c.opts.Recipients
	return NewEncoder(w, opts)
}

// Put stores what fill writes under key, which must be free (bucket.ErrExists).
// fill runs in the caller's goroutine and gives the manifest of the Encoder that
// it closed. If it returns an error, nothing appears under key, and that error
// is what Put's wraps. The object's length and checksums are compared with the
// bucket's after the upload.
func (c *Catalogue) Put(ctx context.Context, key Key, fill func(w io.Writer) (Manifest, error)) (Backup, Manifest, error) {
	return c.PutSized(ctx, key, 0, fill)
}

// PutSized is Put with the expected length of the object in bytes, which very
// large uploads need to choose the size of their parts; 0 if unknown.
func (c *Catalogue) PutSized(ctx context.Context, key Key, size int64, fill func(w io.Writer) (Manifest, error)) (Backup, Manifest, error) {
	if err := key.check(); err != nil {
		return Backup{}, Manifest{}, err
	}
	up := c.startUpload(ctx, key, size)
	m, err := up.fill(key, fill)
	if err != nil {
		return Backup{}, Manifest{}, fmt.Errorf("put backup %s: %w", key, err)
	}
	return Backup{Key: key, Size: up.info.Size}, m, nil
}

// upload is a Put of the bucket that reads from a pipe.
type upload struct {
	w    *io.PipeWriter
	done chan struct{}
	info bucket.Info // after done
	err  error       // after done
}

func (c *Catalogue) startUpload(ctx context.Context, key Key, size int64) *upload {
	r, w := io.Pipe()
	up := &upload{w: w, done: make(chan struct{})}
	go func() {
		defer close(up.done)
		up.info, up.err = bucket.Put(ctx, c.b, key.String(), r, bucket.PutOptions{IfAbsent: true, SizeHint: size})
		err := up.err
		if err == nil {
			err = io.ErrClosedPipe
		}
		r.CloseWithError(err)
	}()
	return up
}

var errAbandoned = errors.New("backup was abandoned")

// fill runs fill to its end and waits for the upload's.
func (up *upload) fill(key Key, fill func(w io.Writer) (Manifest, error)) (Manifest, error) {
	// If fill panics, what it has written must not become a backup.
	defer func() {
		up.w.CloseWithError(errAbandoned)
		<-up.done
	}()
	w := &checkedWriter{w: up.w, encrypted: key.Encrypted}
	m, err := fill(w)
	if err == nil {
		err = w.check(m, key)
	}
	if err != nil {
		up.w.CloseWithError(err)
		<-up.done
		return Manifest{}, up.cause(err)
	}
	up.w.Close()
	<-up.done
	if up.err == nil && up.info.Size != w.n {
		up.err = fmt.Errorf("%w: %d bytes of %d", bucket.ErrNotStored, up.info.Size, w.n)
	}
	return m, up.err
}

// cause is the first of two errors: that of fill, or that of the upload, which
// each makes the other fail.
func (up *upload) cause(err error) error {
	if up.err == nil || errors.Is(up.err, err) || errors.Is(err, up.err) {
		return err
	}
	return errors.Join(up.err, err)
}

// checkedWriter sees that what is named encrypted is, and what is not is not.
type checkedWriter struct {
	w         io.Writer
	encrypted bool
	head      []byte // the first bytes
	n         int64
}

func (w *checkedWriter) Write(p []byte) (int, error) {
	if missing := len(ageIntro) - len(w.head); missing > 0 {
		w.head = append(w.head, p[:min(missing, len(p))]...)
		if err := w.checkHead(); err != nil {
			return 0, err
		}
	}
	n, err := w.w.Write(p)
	w.n += int64(n)
	return n, err
}

func (w *checkedWriter) checkHead() error {
	if sealed := bytes.HasPrefix([]byte(ageIntro), w.head); sealed != w.encrypted {
		return fmt.Errorf("content is encrypted: %t, its key says %t", sealed, w.encrypted)
	}
	return nil
}

func (w *checkedWriter) check(m Manifest, key Key) error {
	if err := m.check(); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	if m.Table != key.Table {
		return fmt.Errorf("backup is of table %s", m.Table)
	}
	return nil
}
