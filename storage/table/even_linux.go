package table

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	evenBytes = 4 << 20
	evenPoll  = 2 * time.Millisecond
)

// evenOut has a file that is being written sent to the disk little by little, until the returned function is called. Left alone,
// the kernel keeps hundreds of megabytes of it in memory, and the next fsync of anybody on the file system waits for all of them.
// sync_file_range (unlike fsync) waits for no journal.
func evenOut(path string) (end func() error) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var f *os.File
		var sent int64
		for tick := time.NewTicker(evenPoll); ; {
			select {
			case <-stop:
				tick.Stop()
				if f != nil {
					_ = f.Close() // only read
				}
				return
			case <-tick.C:
			}
			if f == nil {
				f, _ = os.Open(path) // it is there soon
				continue
			}
			if info, err := f.Stat(); err == nil && info.Size()-sent >= evenBytes {
				const how = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
				_ = unix.SyncFileRange(int(f.Fd()), sent, info.Size()-sent, how) // advice
				sent = info.Size()
			}
		}
	}()
	return func() error {
		close(stop)
		<-done
		return nil
	}
}

// flush sends what was written to a file to the disk now, when nobody waits for it: the next sync has less to do.
func flush(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
