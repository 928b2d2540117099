package table

// The proof of sole ownership
//
// A file that another process has open must not be swapped: in WAL mode its later commits go to a deleted inode, without
// any error. No single means proves that nobody has it open:
//
//   - SQLite's own locks show a WAL connection, which keeps SHARED on the main file while open; but not an idle
//     connection to a table with a rollback journal, nor one that has opened the file and not read yet.
//   - /proc shows open files, idle or not; but not those of other containers, nor, without privilege, of other users; and
//     it is out of date when it has been read.
//   - A write lease (fcntl F_SETLEASE, F_WRLCK) is given by the kernel only if there is no other open file description of
//     the inode, whatever process, user or container it belongs to. While we have it, an open(2) of the inode waits, and is
//     seen: F_GETLEASE no longer says F_WRLCK. Needs Linux, a local file system, and our owning the file or CAP_LEASE.
//
// So on Linux a sole takes, on the same and only descriptor, SQLite's EXCLUSIVE lock and the write lease. From then on:
//
//  1. Nobody has the old inode open: the lease was given.
//  2. Nobody opens it before the rename unseen: the lease would be breaking. Nobody opens it after the rename at all: it
//     has no name but the one in quarantine.
//  3. So, if after the rename the lease is not breaking, the set of those with the old inode open is empty, for good. The
//     question is asked twice, before and after the folder's fsync: an open(2) that had looked the name up before the
//     rename, and had not reached the lease yet, has had the time of a disk write to do so.
//  4. If it is breaking, somebody waits in open(2) for the old inode. The old file goes back to its name before the lease
//     is given back: they get the table, as it was. Until then nobody has read or written the new inode, though it had
//     the name, since we hold SQLite's EXCLUSIVE lock on it as well, from before the rename to the last question.
//     (Whoever opened it in these microseconds keeps a descriptor of a file that is not the table: its lock is kept until they
//     have closed it, within strayWait. This needs two strangers in two windows of microseconds.)
//
// Where the file system has no leases, the lock and a complete look through /proc, before and after the rename, take its
// place; where /proc is not complete, ErrUnproven. What they cannot see: who opens the old inode after the first look and
// closes it before the second (harmless), and who is inside open(2) at that moment. In a table with a rollback journal
// that one's first write is refused by SQLite itself (SQLITE_READONLY_DBMOVED).
//
// On Windows a file that SQLite has open cannot be renamed over: the rename is the proof. On other systems there is none.

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// ErrUnproven: it cannot be proved on this platform or file system, or without more privilege, that nobody has the table
// open.
var ErrUnproven = errors.New("it cannot be proved that nobody has the file open")

// fileID names a file on this machine, as long as it exists.
type fileID struct {
	Dev uint64 `json:"dev"`
	Ino uint64 `json:"ino"`
}

// SQLite's lock bytes: PENDING, RESERVED and the SHARED range (https://sqlite.org/src/file/src/os.h). A write lock on all
// of them is EXCLUSIVE.
const (
	lockBytesStart = 0x40000000
	lockBytesLen   = 512
)

// strayWait bounds how long the lock on a file that was taken back is kept for those who opened it.
const strayWait = 5 * time.Second

func unproven(path, why string) error {
	return fmt.Errorf("%s: %w: %s; stop the programs that use it and say so, or overwrite it in place", path, ErrUnproven, why)
}

// isGone is for names that may be missing.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
