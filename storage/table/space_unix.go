//go:build linux || darwin || freebsd

package table

import (
	"golang.org/x/sys/unix"
)

// freeSpace is what is free for this user on the file system of dir, in bytes, and which file system that is.
func freeSpace(dir string) (free int64, device uint64, err error) {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, 0, err
	}
	if err := unix.Stat(dir, &st); err != nil {
		return 0, 0, err
	}
	return int64(fs.Bavail) * int64(fs.Bsize), uint64(st.Dev), nil //nolint:unconvert // the types differ between systems
}
