//go:build !windows

package history

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// heldFile is a file that this process has locked.
type heldFile struct {
	path string
	file *os.File
}

// lockFile makes the file if need be and locks it; errHeld if another has it. Never used on a database file.
func lockFile(path string) (*heldFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errHeld
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &heldFile{path, f}, nil
}

func (h *heldFile) release() error { return h.file.Close() }
