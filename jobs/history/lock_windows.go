package history

import (
	"errors"
	"fmt"
	"syscall"
)

const errorSharingViolation syscall.Errno = 32

// heldFile is a file that this process has open alone.
type heldFile struct {
	path   string
	handle syscall.Handle
}

// lockFile opens the file without sharing it, which is a lock that ends with the process; errHeld if another has it.
func lockFile(path string) (*heldFile, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	h, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil, syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if errors.Is(err, errorSharingViolation) {
		return nil, errHeld
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &heldFile{path, h}, nil
}

func (h *heldFile) release() error { return syscall.CloseHandle(h.handle) }
