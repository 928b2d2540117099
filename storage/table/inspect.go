package table

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tablekeeper/storage/ledger"
)

// trust says what the ledger proves about a file that nobody has opened yet.
type trust int

const (
	// absent: there is no ledger, or none that can be read. The file is taken as it is, if it passes SQLite's check.
	absent trust = iota
	// doubtful: somebody may have written to the file while it was not ours. What differs from the ledger cannot be told
	// from damage, unless SQLite's check finds it; it counts as unproven from then on.
	doubtful
	// certain: nobody has. What differs from the ledger is damaged.
	certain
)

// found is what lies at a table's path, before SQLite has seen it.
type found struct {
	main   *os.File
	info   fs.FileInfo
	id     fileID
	header header // zero if fresh
	fresh  bool   // an empty file: a new table
	ledger *ledger.Ledger
	trust  trust
	moved  bool // the ledger is of another inode
}

func (f *found) close() error {
	err := f.main.Close()
	if f.ledger != nil {
		err = errors.Join(err, f.ledger.Close())
	}
	return err
}

func ledgerPath(path string) string { return statePath(path, ".ledger") }

// inspect looks at the files. Nothing is changed but that a new table gets its empty file.
func (t *Table) inspect(ctx context.Context) (f *found, err error) {
	f = &found{}
	f.ledger, err = t.readLedger()
	if err != nil {
		return nil, err
	}
	if err := t.findMain(f); err != nil {
		if f.ledger != nil {
			err = errors.Join(err, f.ledger.Close())
		}
		return nil, err
	}
	if err := t.appraise(ctx, f); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// readLedger returns nil if there is no ledger, or none to be trusted.
func (t *Table) readLedger() (*ledger.Ledger, error) {
	l, err := ledger.Open(ledgerPath(t.path), nil)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, ledger.ErrDamaged):
		t.log.Warn("the ledger is lost, and will be made anew", "error", err)
		return nil, nil
	}
	return l, err
}

func (t *Table) findMain(f *found) error {
	main, info, err := openFile(t.path)
	known := f.ledger != nil && f.ledger.Pages() > 0
	switch {
	case errors.Is(err, fs.ErrNotExist) && known:
		return &damage{Cause: CauseMissing, Err: err}
	case errors.Is(err, fs.ErrNotExist) && !t.opts.MustExist:
		main, info, err = makeFile(t.path)
	}
	if err != nil {
		return err
	}
	f.main, f.info = main, info
	f.id, err = identify(t.path)
	if err == nil {
		f.header, err = headerOf(main, info)
	}
	switch {
	case errors.Is(err, ErrEmpty) && !known:
		f.fresh = true
		return nil
	case err != nil:
		return errors.Join(&damage{Cause: CauseHeader, Err: err}, main.Close())
	}
	return nil
}

func makeFile(path string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if err != nil {
		return nil, nil, err
	}
	if err := errors.Join(f.Close(), disk{}.syncDir(filepath.Dir(path))); err != nil {
		return nil, nil, err
	}
	return openFile(path)
}

// appraise decides what the ledger proves, and refuses what SQLite must not touch.
func (t *Table) appraise(ctx context.Context, f *found) error {
	if err := refuseNetworkFS(t.path, fileSystem); err != nil {
		return err
	}
	if f.ledger == nil || f.ledger.Inode() != f.id.Ino {
		if err := t.successor(f); err != nil {
			return err
		}
	}
	if f.ledger != nil && f.ledger.Inode() == f.id.Ino {
		// The swap that it was for did not happen; another file may get the same inode.
		if err := (disk{}).remove(nextLedger(t.path)); err != nil {
			return err
		}
	}
	if f.ledger == nil || f.fresh {
		return t.appraiseAlone(ctx, f)
	}
	if hotJournal(t.path + "-journal") {
		return &damage{Cause: CauseJournal, Err: fmt.Errorf("%w: a rollback journal beside a table in WAL mode", ErrForeignJournal)}
	}
	if int64(f.ledger.PageSize()) != f.header.pageSize {
		return &damage{Cause: CauseReplaced, Err: fmt.Errorf("its pages have %d bytes, those in the ledger %d", f.header.pageSize, f.ledger.PageSize())}
	}
	if f.trust != absent {
		return nil
	}
	var err error
	f.trust, err = t.weigh(f)
	return err
}

// appraiseAlone is for a file without a ledger.
func (t *Table) appraiseAlone(ctx context.Context, f *found) error {
	if f.ledger != nil {
		err := f.ledger.Close()
		f.ledger = nil
		if err != nil {
			return err
		}
	}
	f.trust = absent
	if f.fresh {
		return nil
	}
	_, _, err := besides(ctx, t.path)
	return err
}

// weigh reads the evidence.
func (t *Table) weigh(f *found) (trust, error) {
	clean := f.ledger.Clean()
	if t.left.id == f.id {
		clean = t.left.clean
	}
	wal, _, err := openBeside(t.path + "-wal")
	if err != nil {
		return doubtful, err
	}
	if wal == nil {
		if untouched(t.path, f.info, clean) {
			return certain, nil
		}
		return doubtful, nil
	}
	defer func() { _ = wal.Close() }() // only read
	return t.weighWAL(f, wal)
}

// untouched tells whether nobody opened the table at path, or at least nobody wrote to it, since it was closed in good order.
func untouched(path string, main fs.FileInfo, clean ledger.Clean) bool {
	if clean == (ledger.Clean{}) {
		return false
	}
	info, err := os.Lstat(path + "-wal")
	if err == nil && (info.Size() > 0 || clean.WALInode == fileIDOf(info).Ino && clean.WALTime == info.ModTime().UnixNano()) {
		return info.Size() == 0
	}
	return clean.MainTime == main.ModTime().UnixNano()
}

func (t *Table) weighWAL(f *found, wal *os.File) (trust, error) {
	head, sum, err := walHead(wal)
	if err != nil {
		return doubtful, err
	}
	gen, _ := f.ledger.Position()
	switch {
	case sum == nil && len(head) == walHeaderSize && gen != (ledger.Generation{}):
		return doubtful, &damage{Cause: CauseWAL, Err: errors.New("the header of the WAL is damaged: SQLite would drop every transaction in it")}
	case f.ledger.LostTail() || sum == nil || gen == (ledger.Generation{}) || generation(head) != gen:
		return doubtful, nil
	}
	return certain, nil
}

// Forget removes the ledger of the table at path, which no Table may have open: what lies there, a file put in place by hand, is
// taken for the table at the next Open, if it passes SQLite's check.
func Forget(path string) error {
	real, err := realPath(path)
	if err != nil {
		return fmt.Errorf("forget the ledger of %s: %w", path, err)
	}
	d := disk{}
	if err := errors.Join(d.remove(ledgerPath(real)), d.remove(nextLedger(real))); err != nil {
		return fmt.Errorf("forget the ledger of %s: %w", path, err)
	}
	return nil
}
