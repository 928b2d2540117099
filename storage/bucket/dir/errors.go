package dir

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"tablekeeper/storage/bucket"
)

// errnos says what the errors of a file system mean to a bucket's user.
var errnos = []struct {
	errno error
	means error
}{
	{syscall.ENOSPC, bucket.ErrFull},
	{syscall.EDQUOT, bucket.ErrFull},
	{errDiskFull, bucket.ErrFull},
	{syscall.EROFS, bucket.ErrDenied},
	{fs.ErrPermission, bucket.ErrDenied},
	{syscall.ESTALE, bucket.ErrUnreachable},
	{syscall.ENOTCONN, bucket.ErrUnreachable},
	{syscall.EHOSTDOWN, bucket.ErrUnreachable},
	{syscall.ETIMEDOUT, bucket.ErrUnreachable},
}

// explain adds the bucket's word for an error of the file system.
func explain(err error) error {
	var source *sourceError
	if errors.As(err, &source) {
		return err
	}
	for _, e := range errnos {
		if errors.Is(err, e.errno) && !errors.Is(err, e.means) {
			return fmt.Errorf("%w: %w", e.means, err)
		}
	}
	if errors.Is(err, syscall.EXDEV) {
		return fmt.Errorf("%w (a folder of the bucket is on another file system; one bucket needs one)", err)
	}
	return err
}

// wrap says what was being done to which key.
func wrap(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", op, key, explain(err))
}

// notFolder is whether a path was taken through a file.
func notFolder(err error) bool { return errors.Is(err, syscall.ENOTDIR) }

// sourceError is an error of the reader that was to be put. It says nothing about this disk, even if it is a disk's.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }
