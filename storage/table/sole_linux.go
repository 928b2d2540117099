package table

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// sole is the proof that nobody else has a file open, as long as it is not disturbed. See sole.go.
type sole struct {
	d      disk
	path   string // for messages; the file may have another name by now
	file   *os.File
	id     fileID
	leased bool
}

// lockSole opens a file and takes SQLite's EXCLUSIVE lock on it: whoever else opens it can neither read nor write.
func lockSole(d disk, path string) (*sole, error) {
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.EAGAIN) { // somebody else's lease
		return nil, inUse(path, 0)
	}
	if err != nil {
		return nil, err
	}
	s := &sole{d: d, path: path, file: file}
	err = d.do("lock", func() error {
		lock := unix.Flock_t{Type: unix.F_WRLCK, Start: lockBytesStart, Len: lockBytesLen}
		return unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &lock)
	}, path)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		err = inUse(path, 1)
	}
	var info os.FileInfo
	if err == nil {
		info, err = file.Stat()
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	s.id = fileIDOf(info)
	return s, nil
}

// prove takes the proof. accept is for those who know by other means that nobody has the file open, where it cannot be
// proved. ErrChanged if the table is not as it was since: looked at under the lock, when nobody can commit any more, and before the lease, which
// the look would break.
func prove(d disk, path string, accept bool, since Token) (*sole, error) {
	s, err := lockSole(d, path)
	if err != nil {
		return nil, err
	}
	if err = since.still(path); err == nil {
		err = s.lease()
	}
	if errors.Is(err, ErrUnproven) && accept {
		err = nil
	}
	if err != nil {
		return nil, errors.Join(err, s.release())
	}
	return s, nil
}

func (s *sole) lease() error {
	err := s.d.do("lease", func() error {
		_, err := unix.FcntlInt(s.file.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
		return err
	}, s.path)
	switch {
	case err == nil:
		s.leased = true
		return nil
	case errors.Is(err, unix.EAGAIN):
		return inUse(s.path, 1)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOTSUP):
		return s.look()
	}
	return fmt.Errorf("take a write lease on %s: %w", s.path, err)
}

// look is the second best: nobody, ourselves included, has the file open that /proc knows of.
func (s *sole) look() error {
	open, err := ScanOpen()
	if err != nil && !errors.Is(err, ErrUnseen) {
		return err
	}
	if n := len(open.byFile[s.id]); n > 1 {
		return inUse(s.path, 1)
	}
	if err != nil {
		return unproven(s.path, fmt.Sprintf("no lease on this file system, and %v", err))
	}
	return nil
}

// undisturbed returns ErrInUse if anybody has tried to open the file since the proof was taken.
func (s *sole) undisturbed() error {
	return s.d.do("undisturbed", func() error {
		if !s.leased {
			if err := s.look(); !errors.Is(err, ErrUnproven) {
				return err
			}
			return nil // accepted before
		}
		lease, err := unix.FcntlInt(s.file.Fd(), unix.F_GETLEASE, 0)
		if err != nil {
			return fmt.Errorf("look at the lease on %s: %w", s.path, err)
		}
		if lease != unix.F_WRLCK {
			return &InUseError{Path: s.path} // it waits in open(2), and has no descriptor yet to be found by
		}
		return nil
	}, s.path)
}

// release gives lock and lease back. Closing the descriptor would do, were it not for the moment in which a process that we
// start has a copy of it.
func (s *sole) release() error {
	lock := unix.Flock_t{Type: unix.F_UNLCK, Start: lockBytesStart, Len: lockBytesLen}
	err := unix.FcntlFlock(s.file.Fd(), unix.F_OFD_SETLK, &lock)
	if s.leased {
		_, unleased := unix.FcntlInt(s.file.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		if !errors.Is(unleased, unix.EAGAIN) { // the kernel has broken it meanwhile
			err = errors.Join(err, unleased)
		}
	}
	return errors.Join(err, s.file.Close())
}

// releaseAlone keeps the lock until nobody else has the file open, at most strayWait.
func (s *sole) releaseAlone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), strayWait)
	defer cancel()
	for errors.Is(s.lease(), ErrInUse) && pause(ctx, lockPoll) == nil {
	}
	return s.release()
}

// refused explains a rename that failed: here it is never because somebody has the file open.
func refused(_ string, err error) error { return err }
