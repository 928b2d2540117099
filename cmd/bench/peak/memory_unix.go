//go:build unix

package peak

import (
	"os"
	"runtime"
	"syscall"
)

// Memory is the largest resident set of a process that has ended, in bytes.
func Memory(state *os.ProcessState) int64 {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return int64(usage.Maxrss) //nolint:unconvert // it has 32 bits on some systems
	}
	return int64(usage.Maxrss) << 10 //nolint:unconvert // KiB, on Linux and the BSDs, and 32 bits on some
}
