package buckettest

import (
	"os/exec"
	"syscall"
)

// endWithParent has the kernel end a server whose test was killed.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
