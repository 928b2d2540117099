//go:build !linux

package table

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"syscall"
)

// sole is the proof that nobody else has a file open. See sole.go.
type sole struct {
	id fileID
}

// lockSole takes no lock on this platform.
func lockSole(_ disk, path string) (*sole, error) {
	id, err := identify(path)
	if err != nil {
		return nil, err
	}
	return &sole{id: id}, nil
}

// prove is for those who know by other means that nobody has the file open; on Windows the rename itself is the proof.
func prove(d disk, path string, accept bool, since Token) (*sole, error) {
	if !accept && runtime.GOOS != "windows" {
		return nil, unproven(path, "not on "+runtime.GOOS)
	}
	if err := since.still(path); err != nil {
		return nil, err
	}
	return lockSole(d, path)
}

func (s *sole) undisturbed() error                 { return nil }
func (s *sole) release() error                     { return nil }
func (s *sole) releaseAlone(context.Context) error { return nil }

// refused explains a rename that failed: Windows refuses it while SQLite has the file open.
func refused(path string, err error) error {
	const sharingViolation = syscall.Errno(32)
	if runtime.GOOS == "windows" && (errors.Is(err, sharingViolation) || errors.Is(err, fs.ErrPermission)) {
		return errors.Join(inUse(path, 0), err)
	}
	return err
}
