package functions

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriting has the kernel begin to send a range of a file to the disk, and does not wait: the fsync at the end finds little left to do.
func startWriting(file *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(file.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE) // advice
}
