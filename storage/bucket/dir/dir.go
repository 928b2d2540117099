// Package dir keeps a bucket in a folder: the default, and what a disk, a mounted share or a synchronised folder needs.
//
// An object is a file whose path under the folder is its key, so that other programs (zstd -d, cp, rsync) work on it as it
// stands. What else there is to know of it (checksums, tags) is in a small JSON file in a folder named .bucket beside it. The
// top .bucket also has the bucket's mark (id), its lock, and tmp, where objects grow before they get their names.
//
// Everything is written under a temporary name, synced, and then linked or renamed, with the folders synced before anyone is told: after a
// power cut an object is there wholly or not at all. Commits of all processes exclude each other by a lock on .bucket/lock; readers take none.
// Temporary files of processes that died are removed by later Puts, once their lock is free and they are old.
//
// A file that some other program put there is an object too, with an ETag from its size and time; so is a changed one. Symbolic
// links, and whatever else is not a plain file or folder, are never followed: they are no objects, and in the way of one they are an error.
// Names beginning with a dot are ours or hidden.
//
// The mark is written when the folder is first opened. If it is missing later, or another, the folder is not the one that was
// opened (a mount that went away leaves such a folder) and every call is bucket.ErrNoBucket. File systems without flock are refused;
// those without hard links lose the last defence against writers that ignore the lock. A key cannot be both an object
// and a folder of others here; where case does not matter to the file system, it does not matter in keys.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"tablekeeper/storage/bucket"
)

// Names of our own, in the top folder and beside objects.
const (
	ours     = ".bucket"
	markName = ours + "/id"
	lockName = ours + "/lock"
	tempName = ours + "/tmp"
)

// Bucket is a folder as a bucket. It holds no descriptor open between calls.
type Bucket struct {
	path string
	mark string        // "" if the folder could not be marked (read-only media)
	busy chan struct{} // one commit at a time in this process, so that they need not poll for the lock
	open func() (disk, error)
}

var (
	_ bucket.Bucket    = (*Bucket)(nil)
	_ bucket.Versioned = (*Bucket)(nil)
)

// Open opens the folder at path, and marks it as a bucket if it was none. A missing folder is bucket.ErrNoBucket: it is not made, because
// it may be a mount that is not there now; see Create. A folder that cannot be written is opened for reading.
func Open(path string) (*Bucket, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", path, err)
	}
	return openOn(path, func() (disk, error) { return openRoot(path) })
}

// OpenMarked is Open for a folder that has been a bucket before: one without a mark is bucket.ErrNoBucket. An empty mount point is
// told from an empty bucket by this alone.
func OpenMarked(path string) (*Bucket, error) {
	if _, err := os.Lstat(filepath.Join(path, filepath.FromSlash(markName))); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open bucket %s: %w: the folder has no mark (%s); is the file system mounted?", path, bucket.ErrNoBucket, markName)
	}
	return Open(path)
}

// Create makes the folder, and those above it, if they are missing, and opens it.
func Create(path string) (*Bucket, error) {
	if err := os.MkdirAll(path, 0o750); err != nil {
		return nil, fmt.Errorf("create bucket %s: %w", path, explain(err))
	}
	return Open(path)
}

// Path is the folder that a URL such as file:///srv/backups names.
func Path(u *url.URL) (string, error) {
	switch {
	case u.Scheme != "file":
		return "", fmt.Errorf("bucket %s: the scheme is not file", u.Redacted())
	case u.Host != "" && u.Host != "localhost":
		return "", fmt.Errorf("bucket %s: %q is not this machine; a local folder is file:///path", u.Redacted(), u.Host)
	case u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("bucket %s: a folder has no parameters", u.Redacted())
	case u.Path == "" || u.Opaque != "":
		return "", fmt.Errorf("bucket %s: a folder is file:///path, with its whole path", u.Redacted())
	}
	path := u.Path
	if runtime.GOOS == "windows" {
		path = strings.TrimPrefix(path, "/")
	}
	return filepath.FromSlash(path), nil
}

func openOn(path string, open func() (disk, error)) (*Bucket, error) {
	b := &Bucket{path: path, busy: make(chan struct{}, 1), open: open}
	d, err := open()
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", path, explain(err))
	}
	defer d.Close()
	b.mark, err = readMark(d)
	if errors.Is(err, fs.ErrNotExist) {
		b.mark, err = writeMark(d)
	}
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", path, explain(err))
	}
	return b, nil
}

// Mark is a random text that tells this bucket from every other; "" if it could not be written.
func (b *Bucket) Mark() string { return b.mark }

// String is the folder's path.
func (b *Bucket) String() string { return b.path }

// enter opens the folder for one call and makes sure that it is still the one that was opened.
func (b *Bucket) enter(ctx context.Context) (disk, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	d, err := b.open()
	if err != nil {
		return nil, err
	}
	if err := b.recognise(d); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// enterToWrite is enter for calls that change the bucket.
func (b *Bucket) enterToWrite(ctx context.Context) (disk, error) {
	if b.mark == "" {
		return nil, fmt.Errorf("%w: %s could not be written when it was opened", bucket.ErrDenied, b.path)
	}
	return b.enter(ctx)
}

func (b *Bucket) recognise(d disk) error {
	if b.mark == "" {
		return nil
	}
	mark, err := readMark(d)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: the mark of %s is gone; is the file system mounted?", bucket.ErrNoBucket, b.path)
	}
	if err == nil && mark != b.mark {
		return fmt.Errorf("%w: another one is at %s now", bucket.ErrNoBucket, b.path)
	}
	return err
}

// plain is the file that holds an object, by the shape of the path to it: no symbolic links, no other kinds of files.
func (b *Bucket) plain(d disk, key string) (fs.FileInfo, error) {
	for i, c := range key {
		if c != '/' {
			continue
		}
		folder, err := d.Lstat(key[:i])
		if err != nil {
			return nil, err
		}
		if folder.Mode().IsRegular() {
			return nil, fs.ErrNotExist
		}
		if !folder.IsDir() {
			return nil, odd(key[:i], folder)
		}
	}
	file, err := d.Lstat(key)
	switch {
	case err != nil:
		return nil, err
	case file.IsDir():
		return nil, fs.ErrNotExist
	case !file.Mode().IsRegular():
		return nil, odd(key, file)
	}
	return file, nil
}

func odd(name string, file fs.FileInfo) error {
	return fmt.Errorf("%w: %s is neither a file nor a folder (%s)", fs.ErrInvalid, name, file.Mode().Type())
}
