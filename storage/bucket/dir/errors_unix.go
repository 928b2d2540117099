//go:build !windows

package dir

import "syscall"

const errDiskFull = syscall.ENOSPC
