package table

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// bar keeps everybody from beginning to use a file: the proof for a file that readers of our own still have open, for which the
// kernel gives no lease.
//
// Whoever opens a database takes SQLite's SHARED lock before anything else, and for that, for a moment, a read lock of the PENDING
// byte (https://sqlite.org/lockingv3.html#writer_starvation). A bar has a write lock of that byte. A WAL connection that has SHARED
// keeps it, and is not disturbed. So once the bar is down, everybody else who can ever use the file has it open already, and
// a look through /proc finds them. Whoever opens it later only gets SQLITE_BUSY: the bar stays until they have gone.
type bar struct {
	file *os.File
	id   fileID
}

const pendingByte = 0x40000000

func barAll(d disk, path string) (*bar, error) {
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	err = d.do("bar", func() error {
		lock := unix.Flock_t{Type: unix.F_WRLCK, Start: pendingByte, Len: 1}
		return unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &lock)
	}, path)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		err = inUse(path, 1)
	}
	b := &bar{file: file}
	if err == nil {
		b.id, err = identify(path)
	}
	if err == nil {
		err = d.do("look", func() error { return b.others(path) }, path)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return b, nil
}

// others finds other processes that have the file open.
func (b *bar) others(path string) error {
	open, err := ScanOpen()
	if err != nil && !errors.Is(err, ErrUnseen) {
		return err
	}
	var found []Process
	for _, file := range open.byFile[b.id] {
		if file.pid != os.Getpid() {
			found = addProcess(found, file)
		}
	}
	if len(found) > 0 {
		return &InUseError{Path: path, Processes: found}
	}
	if err != nil {
		return unproven(path, fmt.Sprintf("readers of our own have it open, and %v", err))
	}
	return nil
}

func (b *bar) undisturbed() error { return nil }
func (b *bar) release() error     { return b.file.Close() }

// lift releases the bar once nobody else has the file open, at most after wait.
func (b *bar) lift(ctx context.Context, path string, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for errors.Is(b.others(path), ErrInUse) && pause(ctx, lockPoll) == nil {
	}
	return b.release()
}
