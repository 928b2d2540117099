//go:build unix

package restore

import (
	"os"
	"syscall"
)

// adopt gives a file that replaces none the owner of the folder that it comes to. Else a restore that root runs would
// leave a table that its program cannot open. It is done as far as we may.
func adopt(file, dir string) {
	info, err := os.Stat(dir)
	if err != nil {
		return
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		_ = os.Chown(file, int(stat.Uid), int(stat.Gid))
	}
}
