//go:build !windows

package dir

import "syscall"

const diskFull = syscall.ENOSPC
