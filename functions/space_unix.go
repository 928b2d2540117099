//go:build linux || darwin

package functions

import "syscall"

// freeSpace is how many bytes we may still write to the disk that dir is on.
func freeSpace(dir string) (free int64, known bool) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		return 0, false
	}
	return int64(stat.Bavail) * int64(stat.Bsize), true //nolint:unconvert // the types differ between systems
}
