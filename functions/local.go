package functions

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"tablekeeper/storage/table"
)

// ErrHere is a failure of this machine: its disk, its memory, its SQLite. It says nothing about a backup.
var ErrHere = errors.New("this machine")

// localError marks an error of the disk here, and gives a full disk its name. nil stays nil.
func localError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w: %w", ErrHere, table.ErrNoSpace, err)
	}
	return fmt.Errorf("%w: %w", ErrHere, err)
}

// localFile is a restore's target that remembers that it was the disk here that failed, not the bucket there.
type localFile struct {
	file    *os.File
	durable bool // it is going to be synced

	mu  sync.Mutex
	err error
}

// WriteAt writes to the file.
func (l *localFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := l.file.WriteAt(p, off)
	l.note(err)
	if l.durable && err == nil {
		startWriting(l.file, off, int64(n))
	}
	return n, err
}

// Truncate sets the file's length.
func (l *localFile) Truncate(size int64) error {
	err := l.file.Truncate(size)
	l.note(err)
	return err
}

func (l *localFile) note(err error) {
	if err == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}

func (l *localFile) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
