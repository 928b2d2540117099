// Package table works on one SQLite file: it opens, measures, checks, snapshots, compacts and swaps it.
//
// A table is one SQLite file, anywhere; "SQL table" is a table inside it. The package knows nothing of names, folders of
// tables, schedules, backups or buckets: storage/shelf, storage/archive and the functions do.
//
// # Attached tables
//
// The functions that take a path (Stat, ReadToken, Check, TakeSnapshot, Compact) work on a file that other processes may
// have open, in any language. They use SQLite's own locks, change nothing but what they say, and stop when the pause that
// the file's users accept is spent. They treat the file as untrusted:
//
//   - It is never created, and must be a regular file with SQLite's header: no symbolic link (its -wal would be looked for
//     beside the link), no FIFO, no socket, no directory. This is settled before SQLite sees the path.
//   - Its schema may not call functions with side effects (trusted_schema=OFF), may not be turned against the file
//     (defensive), cells are checked against their pages (cell_size_check=ON), and no file is mapped into memory, where a
//     bad disk block would kill the process (mmap_size=0).
//   - WAL mode on a network file system is refused: its shared memory does not exist there.
//   - A -wal or -journal beside the file that cannot belong to it is refused before SQLite replays it into the file.
//     See [ErrForeignJournal] and journal.go for what can be known.
//
// # Locks and descriptors
//
// POSIX locks belong to (process, inode): closing any descriptor of a file drops them all. Importing this package
// switches the SQLite driver to OFD locks, on Linux, for the whole process. The locks on the -shm file stay POSIX locks, so
// nothing in this package opens a -shm file.
package table
