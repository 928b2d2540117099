//go:build unix

package shelf

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// syncDir makes the names in dir survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// inode is the identity of a file on this machine, by which two names of it are known for one.
type inode struct{ device, number uint64 }

func inodeOf(info fs.FileInfo) (inode, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}, false
	}
	return inode{device: uint64(stat.Dev), number: stat.Ino}, true //nolint:unconvert // Dev is an int32 on some systems
}
