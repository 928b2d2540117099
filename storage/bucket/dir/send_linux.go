package dir

import "golang.org/x/sys/unix"

// send has the kernel begin to send a range of the file to the disk, and does not wait.
func (f osFile) send(off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE) // advice
}
