//go:build unix && !solaris && !aix

package dir

import (
	"errors"
	"os"
	"syscall"
)

// hold takes the advisory lock of an open file, without waiting. It ends with the descriptor, so also with the process.
func hold(f *os.File) (bool, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	var locked error
	if err := conn.Control(func(fd uintptr) { locked = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB) }); err != nil {
		return false, err
	}
	if errors.Is(locked, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return locked == nil, locked
}
