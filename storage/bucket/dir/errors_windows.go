package dir

import "syscall"

// errDiskFull is ERROR_DISK_FULL of winerror.h.
const errDiskFull = syscall.Errno(112)
