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

	mu     sync.Mutex
	err    error
	unsent stretch
}

// WriteAt writes to the file.
func (l *localFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := l.file.WriteAt(p, off)
	l.note(err)
	if l.durable && err == nil {
		l.send(off, int64(n))
	}
	return n, err
}

// send has the kernel begin to send to the disk what has been written, several megabytes at a time.
func (l *localFile) send(off, n int64) {
	l.mu.Lock()
	whole, enough := l.unsent.add(off, n)
	l.mu.Unlock()
	if enough {
		startWriting(l.file, whole.first, whole.end-whole.first)
	}
}

// sendBytes is how much is written before the kernel is told: telling it of each piece, which between free pages may be a single page, costs half
// as much as writing it.
const sendBytes = 8 << 20

// stretch is where writes went that come in about the order of the file.
type stretch struct {
	first, end int64 // the range that has them all
	bytes      int64 // how many they are
}

// add takes a write in. When they are enough, it gives the range that has them all, and starts anew.
func (s *stretch) add(off, n int64) (whole stretch, enough bool) {
	if s.bytes == 0 {
		s.first, s.end = off, off
	}
	s.first, s.end, s.bytes = min(s.first, off), max(s.end, off+n), s.bytes+n
	if s.bytes < sendBytes {
		return stretch{}, false
	}
	whole, *s = *s, stretch{}
	return whole, true
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
