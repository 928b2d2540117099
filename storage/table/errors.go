package table

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// What a caller decides on. Each error of this package that is about one of these wraps it.
var (
	// ErrCorrupt: the file is damaged. *CorruptError says how.
	ErrCorrupt = errors.New("the database is damaged")
	// ErrNotDatabase: the path names something that is not an SQLite database file.
	ErrNotDatabase = errors.New("not an SQLite database")
	// ErrEmpty: a file of zero bytes. It wraps ErrNotDatabase.
	ErrEmpty = fmt.Errorf("%w: the file is empty", ErrNotDatabase)
	// ErrNetworkFS: a table in WAL mode on a network file system.
	ErrNetworkFS = errors.New("WAL mode on a network file system")
	// ErrForeignJournal: the -wal or -journal beside the file does not belong to it.
	ErrForeignJournal = errors.New("the journal beside the file does not belong to it")
	// ErrInUse: another process has the file open, and the operation needs it alone.
	ErrInUse = errors.New("another process has the file open")
	// ErrLocked: another tablekeeper works on the table.
	ErrLocked = errors.New("another tablekeeper works on the table")
	// ErrBusy: SQLite's own lock was not free for as long as we were willing to wait.
	ErrBusy = errors.New("the database is locked")
	// ErrWouldBlock: the work cannot be done within the pause that the table's users accept.
	ErrWouldBlock = errors.New("users of the table would wait too long")
	// ErrNoSpace: the disk is full, or would be.
	ErrNoSpace = errors.New("no space left on the disk")
	// ErrReadOnly: the file or its folder cannot be written.
	ErrReadOnly = errors.New("the database is read-only")
	// ErrUnsupported: the file is sound as far as can be told, but needs something that this program or platform
	// does not have: a collation, a function, a virtual table's module, a system call.
	ErrUnsupported = errors.New("unsupported")
	// ErrRecovering: an owned table is being recovered; try again later.
	ErrRecovering = errors.New("the table is being recovered")
)

// CorruptError says what is wrong with a damaged file. It is ErrCorrupt.
type CorruptError struct {
	Path     string
	Problems []string // in the words of SQLite's integrity_check, or of the part of SQLite that stumbled
}

// Error is one line with the first problem and how many more there are.
func (e *CorruptError) Error() string {
	switch lines := e.lines(); len(lines) {
	case 0:
		return fmt.Sprintf("%s: %v", e.Path, ErrCorrupt)
	case 1:
		return fmt.Sprintf("%s: %v: %s", e.Path, ErrCorrupt, lines[0])
	default:
		return fmt.Sprintf("%s: %v: %s (and %d more)", e.Path, ErrCorrupt, lines[0], len(lines)-1)
	}
}

// lines are the problems one by one: SQLite puts those that it finds in the b-trees of a database into one text, below a headline.
func (e *CorruptError) lines() []string {
	var lines []string
	for line := range strings.Lines(strings.Join(e.Problems, "\n")) {
		if line = strings.TrimSpace(line); line != "" && line != "*** in database main ***" {
			lines = append(lines, line)
		}
	}
	return lines
}

func (e *CorruptError) Unwrap() error { return ErrCorrupt }

// asCorrupt makes a *CorruptError of an error that is ErrCorrupt, and leaves any other alone.
func asCorrupt(path string, err error) error {
	var corrupt *CorruptError
	if !errors.Is(err, ErrCorrupt) || errors.As(err, &corrupt) {
		return err
	}
	return &CorruptError{path, []string{problem(err)}}
}

// problem is what an error that is ErrCorrupt says besides.
func problem(err error) string { return strings.TrimPrefix(err.Error(), ErrCorrupt.Error()+": ") }

// Extended result codes that the driver's lib package does not name (https://sqlite.org/rescode.html).
const (
	codeMissingCollation = sqlite3.SQLITE_ERROR | 1<<8
	codeDataChecksum     = sqlite3.SQLITE_IOERR | 32<<8
	codeCorruptFS        = sqlite3.SQLITE_IOERR | 33<<8
	codeInPage           = sqlite3.SQLITE_IOERR | 34<<8 // memory that stands for the -shm is gone: somebody has cut it
)

// sentinels maps SQLite's result codes to what a caller decides on: the extended code is looked up first, then the
// primary one (https://sqlite.org/rescode.html).
var sentinels = map[int]error{
	sqlite3.SQLITE_BUSY:     ErrBusy,
	sqlite3.SQLITE_LOCKED:   ErrBusy,
	sqlite3.SQLITE_CORRUPT:  ErrCorrupt,
	codeDataChecksum:        ErrCorrupt,
	codeCorruptFS:           ErrCorrupt,
	sqlite3.SQLITE_NOTADB:   ErrNotDatabase,
	sqlite3.SQLITE_FULL:     ErrNoSpace,
	sqlite3.SQLITE_READONLY: ErrReadOnly,
	sqlite3.SQLITE_PERM:     fs.ErrPermission,
	sqlite3.SQLITE_AUTH:     fs.ErrPermission,
	codeMissingCollation:    ErrUnsupported,
}

// sqliteCode returns the extended result code in err, or 0.
func sqliteCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// classify gives an error of the driver its sentinel, once, and leaves any other error alone. The driver's error stays
// in the chain.
func classify(err error) error {
	code := sqliteCode(err)
	if code == 0 {
		return err
	}
	sentinel, ok := sentinels[code]
	if !ok {
		sentinel, ok = sentinels[code&0xff]
	}
	if !ok || errors.Is(err, sentinel) {
		return err
	}
	return fmt.Errorf("%w: %w", sentinel, err)
}
