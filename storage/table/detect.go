package table

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync/atomic"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// Cause says how damage was noticed.
type Cause string

// The causes of damage.
const (
	CauseSQLite    Cause = "sqlite"    // SQLite stumbled over it
	CausePage      Cause = "page"      // a page fails its sum
	CauseCheck     Cause = "check"     // the integrity check found it
	CauseHeader    Cause = "header"    // the file does not begin like a database
	CauseTruncated Cause = "truncated" // the file is shorter than it was
	CauseReplaced  Cause = "replaced"  // another file has the table's name
	CauseMissing   Cause = "missing"   // no file has it
	CauseJournal   Cause = "journal"   // a journal that is not the table's lies beside it
	CauseWAL       Cause = "wal"       // committed frames of the WAL cannot be read any more
	CauseReported  Cause = "reported"  // somebody said so
)

// Report says what is wrong with an owned table. One is made for each incident.
type Report struct {
	Path  string
	Cause Cause
	// Pages are the damaged pages, ascending, as far as they are known one by one.
	Pages []uint32
	// InFlight are those of Pages that have a newer version in the WAL which may have been made from the damaged page: it has
	// taken the damage over, with a right sum. Findings has all of them.
	InFlight []uint32
	Err      error // ErrCorrupt
	At       time.Time
}

// damage is an error that makes a table suspect. It is ErrCorrupt.
type damage struct {
	Cause    Cause
	Pages    []uint32
	InFlight []uint32
	Err      error
}

func (d *damage) Error() string {
	if len(d.Pages) == 0 {
		return fmt.Sprintf("%v (%s): %v", ErrCorrupt, d.Cause, d.Err)
	}
	return fmt.Sprintf("%v (%s): %d pages, the first is %d: %v", ErrCorrupt, d.Cause, len(d.Pages), d.Pages[0], d.Err)
}

func (d *damage) Is(target error) bool { return target == ErrCorrupt }
func (d *damage) Unwrap() error        { return d.Err }

// pagesDamage is damage to these pages, one by one.
func pagesDamage(pages []uint32) *damage {
	slices.Sort(pages)
	return &damage{Cause: CausePage, Pages: slices.Compact(pages), Err: errSum}
}

var errSum = errors.New("the content does not match the sum in the ledger")

// asDamage decides, in one place, which errors are damage to this table. nil: err is none.
func asDamage(err error) *damage {
	var d *damage
	switch {
	case err == nil || isOwned(err):
		return nil
	case errors.As(err, &d):
		return d
	case errors.Is(err, ErrForeignJournal):
		return &damage{Cause: CauseJournal, Err: err}
	}
	switch code := sqliteCode(err); {
	case code == sqlite3.SQLITE_READONLY|4<<8: // SQLITE_READONLY_DBMOVED
		return &damage{Cause: CauseReplaced, Err: err}
	case code&0xff == sqlite3.SQLITE_CORRUPT, code == codeDataChecksum, code == codeCorruptFS,
		code == sqlite3.SQLITE_IOERR|1<<8, code == sqlite3.SQLITE_IOERR|2<<8, code == codeInPage: // READ, SHORT_READ
		return &damage{Cause: CauseSQLite, Err: err}
	case code&0xff == sqlite3.SQLITE_NOTADB:
		return &damage{Cause: CauseHeader, Err: err}
	}
	if errors.Is(err, ErrNotDatabase) {
		return &damage{Cause: CauseHeader, Err: err}
	}
	return nil
}

// diagnose says whether err is damage, and looks at the files for a better cause than SQLite has.
func (t *Table) diagnose(ctx context.Context, err error) *damage {
	found := asDamage(err)
	if s := t.gate.current(); s != nil && found == nil && !isOwned(err) && sqliteCode(err) != 0 {
		return asDamage(s.sameFile()) // SQLite says anything of a file that has lost its name, even that there is no such SQL table
	}
	if found == nil || found.Cause != CauseSQLite && found.Cause != CauseHeader {
		return found
	}
	if s := t.gate.current(); s != nil {
		if seen := asDamage(s.probe(ctx)); seen != nil {
			seen.Err = fmt.Errorf("%w; %w", err, seen.Err)
			return seen
		}
	}
	return found
}

// incident makes the table suspect and reports it, unless that has happened already.
func (t *Table) incident(ctx context.Context, found *damage) {
	if t.gate.to(suspicious, serving) {
		t.report(ctx, found)
	}
}

func (t *Table) report(ctx context.Context, found *damage) {
	r := Report{Path: t.path, Cause: found.Cause, Pages: found.Pages, InFlight: found.InFlight, Err: found, At: t.opts.Clock()}
	t.log.Error("the table is damaged", "cause", string(r.Cause), "pages", len(r.Pages), "error", found)
	ctx = context.WithoutCancel(ctx) // the operation that met it may end before its recovery does
	go t.opts.OnCorrupt(ctx, r)
}

// Suspect reports damage that was noticed outside: by a snapshot, by the program that uses the table, by a person. It
// does nothing if the table is not serving. Without OnCorrupt it does nothing either.
func (t *Table) Suspect(ctx context.Context, pages []uint32, cause error) {
	if t.opts.OnCorrupt != nil && cause != nil {
		t.incident(ctx, &damage{Cause: CauseReported, Pages: pages, Err: cause})
	}
}

// sameFile: a file that was deleted or replaced beneath its users takes their commits with it.
func (s *session) sameFile() error {
	if s.retired.Load() {
		return nil // replaced by us
	}
	for {
		pages, revision := s.ledger.Certain()
		id, size, err := lookAt(s.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return &damage{Cause: CauseMissing, Err: err}
		case err != nil:
			return fmt.Errorf("look at the file: %w", err)
		case id != s.id:
			return &damage{Cause: CauseReplaced, Err: errors.New("another file has taken the table's name")}
		case size >= int64(pages)*s.pageSize:
			return nil
		}
		// A checkpoint may have cut the file between the two looks.
		if _, now := s.ledger.Certain(); now == revision {
			return &damage{Cause: CauseTruncated, Err: fmt.Errorf("the file has %d bytes, the ledger knows %d pages of %d", size, pages, s.pageSize)}
		}
	}
}

// probe looks at what can be seen without reading the table: its name, size, first page, WAL, and what lies beside it.
func (s *session) probe(ctx context.Context) error {
	if err := s.sameFile(); err != nil || s.retired.Load() {
		return err
	}
	if hotJournal(s.path + "-journal") {
		return &damage{Cause: CauseJournal, Err: fmt.Errorf("%w: a rollback journal beside a table in WAL mode", ErrForeignJournal)}
	}
	if named, err := os.Lstat(s.path + "-wal"); err == nil || errors.Is(err, fs.ErrNotExist) {
		if open, statErr := s.tail.file.Stat(); statErr == nil && (err != nil || !os.SameFile(named, open)) {
			return &damage{Cause: CauseWAL, Err: errors.New("the WAL was removed or replaced while it was in use")}
		}
	}
	// A checkpoint may be writing the page at this moment.
	const tries = 3
	for range tries {
		sum, err := s.readSum(1)
		if err != nil {
			return err
		}
		if s.ledger.Accepts(1, sum) {
			return nil
		}
	}
	return s.confirm(ctx, []uint32{1})
}

// throttle lets something happen once in a while.
type throttle struct{ last atomic.Int64 }

const probeGap = 250 * time.Millisecond

func (t *throttle) due() bool {
	now := time.Now().UnixNano()
	last := t.last.Load()
	return now-last > int64(probeGap) && t.last.CompareAndSwap(last, now)
}
