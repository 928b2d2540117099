package ledger

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// Disk is what a ledger needs of a file system. OS is the real one; tests put a disk that loses power here.
type Disk interface {
	// Create makes an empty file, or empties the one that is there.
	Create(name string) (File, error)
	// Open opens an existing file for reading and writing: fs.ErrNotExist.
	Open(name string) (File, error)
	// Rename puts old in the place of new, and makes that durable.
	Rename(old, new string) error
}

// File is an open file of a Disk.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Sync() error
}

// OS is the file system of the operating system.
func OS() Disk { return osDisk{} }

type osDisk struct{}

type osFile struct{ *os.File }

func (osDisk) Create(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osDisk) Open(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osDisk) Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
