package dir

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"tablekeeper/storage/bucket"
)

// disk is all that this package does to a file system, so that tests can make any call fail. Names are relative, with slashes.
type disk interface {
	Mkdir(name string) error
	Create(name string) (file, error) // must not exist
	Open(name string) (file, error)
	Lstat(name string) (fs.FileInfo, error)
	Chtimes(name string, modified time.Time) error
	Link(old, new string) error
	Rename(old, new string) error
	Remove(name string) error
	SyncDir(name string) error
	Close() error
}

type file interface {
	io.ReadWriteCloser
	io.Seeker
	Stat() (fs.FileInfo, error)
	Sync() error
	ReadDir(n int) ([]fs.DirEntry, error)
	Hold() (bool, error) // locks the file against removal as stale; false if another has it
}

// root is the real disk. os.Root keeps every name inside the folder, whatever links are made meanwhile.
type root struct{ r *os.Root }

func openRoot(path string) (disk, error) {
	r, err := os.OpenRoot(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the folder %s is not there", bucket.ErrNoBucket, path)
	}
	if err != nil {
		return nil, err
	}
	return root{r}, nil
}

func (r root) Mkdir(name string) error                { return r.r.Mkdir(name, 0o750) }
func (r root) Lstat(name string) (fs.FileInfo, error) { return r.r.Lstat(name) }
func (r root) Chtimes(name string, t time.Time) error { return r.r.Chtimes(name, t, t) }
func (r root) Link(old, new string) error             { return r.r.Link(old, new) }
func (r root) Rename(old, new string) error           { return r.r.Rename(old, new) }
func (r root) Remove(name string) error               { return r.r.Remove(name) }
func (r root) Close() error                           { return r.r.Close() }

func (r root) Create(name string) (file, error) {
	f, err := r.r.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	return osFile{f}, err
}

func (r root) Open(name string) (file, error) {
	f, err := r.r.Open(name)
	return osFile{f}, err
}

func (r root) SyncDir(name string) error {
	if runtime.GOOS == "windows" {
		return nil // folders cannot be synced there; NTFS orders its own journal
	}
	f, err := r.r.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

type osFile struct{ *os.File }

func (f osFile) Hold() (bool, error) { return hold(f.File) }

const markFormat = "tablekeeper bucket 1\n"

func readMark(d disk) (string, error) {
	text, err := readAll(d, markName, 256)
	if err != nil {
		return "", err
	}
	mark, ok := strings.CutPrefix(string(text), markFormat)
	if !ok || len(mark) < 2 {
		return "", fmt.Errorf("%s is not a mark that this version knows", markName)
	}
	return strings.TrimSpace(mark), nil
}

// writeMark returns the mark that is there in the end, also if another process was faster; "" on media that cannot be written.
func writeMark(d disk) (string, error) {
	for _, folder := range []string{ours, tempName} {
		if err := makeFolder(d, folder); errors.Is(explain(err), bucket.ErrDenied) {
			return "", nil
		} else if err != nil {
			return "", err
		}
	}
	temp, err := writeTemp(d, "mark", []byte(markFormat+rand.Text()+"\n"))
	if err != nil {
		return "", err
	}
	err = publish(d, temp, markName)
	if err == nil || errors.Is(err, fs.ErrExist) {
		err = d.SyncDir(ours)
	}
	if err := errors.Join(err, discard(d, temp)); err != nil {
		return "", err
	}
	return readMark(d)
}

// publish gives a finished temporary file its name, if nobody has that name. The temporary name may stay.
func publish(d disk, temp, name string) error {
	err := d.Link(temp, name)
	if err == nil || !linkless(err) {
		return err
	}
	// No hard links here: only the lock that commits hold keeps others out between these two.
	if _, missing := d.Lstat(name); !errors.Is(missing, fs.ErrNotExist) {
		return errors.Join(missing, fs.ErrExist)
	}
	return d.Rename(temp, name)
}

// linkless is whether a file system said that it has no hard links.
func linkless(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission)
}

// makeFolder makes one folder durably; that it exists is no error.
func makeFolder(d disk, name string) error {
	err := d.Mkdir(name)
	if errors.Is(err, fs.ErrExist) {
		return isFolder(d, name)
	}
	if err != nil {
		return err
	}
	return d.SyncDir(folderOf(name))
}

func isFolder(d disk, name string) error {
	file, err := d.Lstat(name)
	switch {
	case err != nil:
		return err
	case file.Mode().IsRegular():
		return fmt.Errorf("%w: %s is an object, and can be no folder of others", fs.ErrInvalid, name)
	case !file.IsDir():
		return odd(name, file)
	}
	return nil
}

// discard removes what may be gone already.
func discard(d disk, name string) error {
	if err := d.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func folderOf(name string) string {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i]
	}
	return "."
}

// writeTemp writes a small file, durable but for its folder, and returns its name.
func writeTemp(d disk, kind string, content []byte) (string, error) {
	name := newTemp(kind)
	f, err := d.Create(name)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(f, bytes.NewReader(content))
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return "", errors.Join(err, d.Remove(name))
	}
	return name, nil
}

func readAll(d disk, name string, limit int64) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return content, err
}
