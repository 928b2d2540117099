package table

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// backgroundNice is how far the work of a compaction stands behind the writers for the processor.
const backgroundNice = 5

// inBackground runs f on a thread of its own that gives way to all others.
func inBackground(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: without privilege a priority cannot be raised again, so the thread ends with the goroutine.
		runtime.LockOSThread()
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), backgroundNice) // it is a courtesy
		done <- f()
	}()
	return <-done
}
