package dir

import "syscall"

// diskFull is ERROR_DISK_FULL of winerror.h.
const diskFull = syscall.Errno(112)
