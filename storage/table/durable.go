package table

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// disk is every call by which this package itself changes names, or makes files and names durable. Nothing else in
// the package links, renames, removes or syncs; SQLite's own calls aside.
//
// before, if set, sees each call first: it may record it, fail it, or answer errSkip, which leaves the call out and
// reports it as done. Only tests set it.
type disk struct {
	before func(op string, paths ...string) error
}

// errSkip makes a mutant: a call that says it was made.
var errSkip = errors.New("skipped")

func (d disk) do(op string, call func() error, paths ...string) error {
	if d.before != nil {
		switch err := d.before(op, paths...); {
		case errors.Is(err, errSkip):
			return nil
		case err != nil:
			return diskFull(&fs.PathError{Op: op, Path: paths[0], Err: err})
		}
	}
	return diskFull(call())
}

// diskFull gives ENOSPC and EDQUOT their sentinel.
func diskFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

func (d disk) link(from, to string) error {
	return d.do("link", func() error { return os.Link(from, to) }, from, to)
}

func (d disk) rename(from, to string) error {
	return d.do("rename", func() error { return os.Rename(from, to) }, from, to)
}

// remove removes a name that may be gone already.
func (d disk) remove(path string) error {
	return d.do("remove", func() error {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}, path)
}

// mkdir makes one folder that must not be there, or must be a folder if there, and makes its name durable.
func (d disk) mkdir(path string, mode fs.FileMode) error {
	err := d.do("mkdir", func() error { return os.Mkdir(path, mode) }, path)
	if errors.Is(err, fs.ErrExist) {
		info, err := os.Lstat(path)
		if err == nil && !info.IsDir() {
			err = &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
		}
		return err
	}
	if err != nil {
		return err
	}
	return d.syncDir(filepath.Dir(path))
}

// sync makes the content of a file durable.
func (d disk) sync(path string) error {
	return d.do("sync", func() error {
		// Windows flushes only what is open for writing.
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	}, path)
}

// syncDir makes the names in a folder durable: without it a rename that has been told as done may be undone by a power cut.
func (d disk) syncDir(dir string) error {
	return d.do("syncdir", func() error {
		if runtime.GOOS == "windows" { // has no such call; NTFS journals its names
			return nil
		}
		f, err := os.Open(dir)
		if err != nil {
			return err
		}
		err = f.Sync()
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) { // file systems that have no such call
			err = nil
		}
		return errors.Join(err, f.Close())
	}, dir)
}

// write makes a new file with this content; it is not durable before sync.
func (d disk) write(path string, content []byte, mode fs.FileMode) error {
	return d.do("write", func() error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		_, err = f.Write(content)
		return errors.Join(err, f.Close())
	}, path)
}

// publish puts a small file in place of whatever had its name: all of it or nothing, durable when it returns.
// temporary is a name in the same folder.
func (d disk) publish(path, temporary string, content []byte, mode fs.FileMode) error {
	err := d.write(temporary, content, mode)
	if err == nil {
		err = d.sync(temporary)
	}
	if err == nil {
		err = d.rename(temporary, path)
	}
	if err != nil {
		return errors.Join(err, disk{}.remove(temporary))
	}
	return d.syncDir(filepath.Dir(path))
}
