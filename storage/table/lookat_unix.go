//go:build unix

package table

import (
	"io/fs"
	"syscall"
)

// lookAt is identify and the size, without the allocations of os.Lstat: it is paid for with every commit.
func lookAt(path string) (id fileID, size int64, err error) {
	var st syscall.Stat_t
	for {
		err = syscall.Lstat(path, &st)
		if err != syscall.EINTR { // a bare errno
			break
		}
	}
	if err != nil {
		return id, 0, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return fileID{Dev: uint64(st.Dev), Ino: uint64(st.Ino)}, st.Size, nil //nolint:unconvert // the types differ between systems
}
