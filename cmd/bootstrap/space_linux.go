package main

import "syscall"

// freeSpace is how many bytes may still be written to the disk that dir is on.
func freeSpace(dir string) (int64, bool) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		return 0, false
	}
	return int64(stat.Bavail) * stat.Bsize, true
}
