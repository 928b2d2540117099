package table

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"tablekeeper/storage/ledger"
)

// A file that is to replace a table's gets its ledger before the swap, under another name and with its own inode. Whichever file has the
// table's name after a crash, one of the two ledgers is its own: nothing has to be swapped together.

func nextLedger(path string) string { return ledgerPath(path) + ".next" }

// StageLedger writes the ledger of newFile, which Swap is to put in place of the table at path: a complete and checked
// database that nobody has open. It holds until the next Attach or Open that does not find newFile in place. It returns the sums of its pages. If want is not nil, they must be these, or the error is
// ErrCorrupt: the file is not on disk as it was written.
func StageLedger(ctx context.Context, path, newFile string, want ledger.Sums) (ledger.Sums, error) {
	sums, err := stageLedger(ctx, path, newFile, want)
	if err != nil {
		return nil, fmt.Errorf("write the ledger of %s: %w", newFile, err)
	}
	return sums, nil
}

func stageLedger(ctx context.Context, path, newFile string, want ledger.Sums) (ledger.Sums, error) {
	real, err := realPath(path)
	if err != nil {
		return nil, err
	}
	if err := MakeStateDir(real); err != nil {
		return nil, err
	}
	f, info, err := openFile(newFile)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	h, err := headerOf(f, info)
	if err != nil {
		return nil, err
	}
	sums, first, err := sumFile(ctx, f, info.Size(), h.pageSize)
	if err != nil {
		return nil, err
	}
	if want != nil {
		if bad := differing(sums, want); len(bad) > 0 {
			return nil, pagesDamage(bad)
		}
	}
	staged := slices.Clone(sums)
	staged[0] = ledger.Sum(inWALMode(first)) // Swap gives the file the table's journal mode
	l, err := ledger.Create(nextLedger(real), ledger.Options{PageSize: uint32(h.pageSize), Inode: fileIDOf(info).Ino, Sums: staged})
	if err != nil {
		return nil, err
	}
	return sums, l.Close()
}

// sumFile returns the sums of a whole file, and its first page.
func sumFile(ctx context.Context, f io.ReaderAt, size, pageSize int64) (sums ledger.Sums, first []byte, err error) {
	chunk := make([]byte, max(tailChunk/pageSize, 1)*pageSize)
	r := io.NewSectionReader(f, 0, size)
	for {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		n, err := io.ReadFull(r, chunk)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, nil, err
		}
		for page := range slices.Chunk(chunk[:n], int(pageSize)) {
			if first == nil {
				first = slices.Clone(page)
			}
			sums = append(sums, ledger.Sum(page))
		}
		if n < len(chunk) {
			return sums, first, nil
		}
	}
}

// differing lists the pages in which two tables differ, the missing ones included.
func differing(a, b ledger.Sums) []uint32 {
	var pages []uint32
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			pages = append(pages, uint32(i+1))
		}
	}
	return pages
}

// inWALMode is page 1 with the bytes set by which a database says that it has a WAL.
func inWALMode(page []byte) []byte {
	page = slices.Clone(page)
	page[18], page[19] = 2, 2
	return page
}

// successor finds the ledger of a file that is not the one in the ledger at hand: the one that was staged for it, or the same if it
// is a copy of the table.
func (t *Table) successor(f *found) error {
	next, err := ledger.Open(nextLedger(t.path), nil)
	switch {
	case err == nil && next.Inode() == f.id.Ino && begins(f.main, next):
		return t.promote(f, next)
	case err == nil:
		err = next.Close()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, ledger.ErrDamaged):
		err = nil
	}
	if err != nil || f.fresh || f.ledger == nil {
		return err
	}
	if t.swapped(f.ledger.Inode()) {
		t.log.Warn("a swap brought no ledger with it: the pages it brought are unproven")
		return t.discard(f)
	}
	f.moved = true
	return nil
}

// begins tells whether the first page is the one in the ledger: inode numbers are used again.
func begins(main io.ReaderAt, l *ledger.Ledger) bool {
	page := make([]byte, l.PageSize())
	if _, err := main.ReadAt(page, 0); err != nil {
		return false
	}
	return l.Accepts(1, ledger.Sum(inWALMode(page)))
}

func (t *Table) discard(f *found) error {
	if f.ledger == nil {
		return nil
	}
	err := f.ledger.Close()
	f.ledger = nil
	return err
}

// promote puts the ledger that was staged in the place of the old one.
func (t *Table) promote(f *found, next *ledger.Ledger) error {
	if err := errors.Join(next.Close(), t.discard(f)); err != nil {
		return err
	}
	if err := ledger.OS().Rename(nextLedger(t.path), ledgerPath(t.path)); err != nil {
		return fmt.Errorf("put the new file's ledger in place: %w", err)
	}
	if err := setWALMode(t.path, true); err != nil {
		return err
	}
	f.header.walMode = true
	var err error
	f.ledger, err = ledger.Open(ledgerPath(t.path), nil)
	f.trust = certain
	if hasWAL(t.path) {
		f.trust = doubtful
	}
	return err
}

// swapped tells whether the file of that inode went to quarantine: it was replaced by a swap of ours, on purpose.
func (t *Table) swapped(inode uint64) bool {
	kept, _ := filepath.Glob(filepath.Join(escapeGlob(QuarantineDir(t.path)), "*", escapeGlob(filepath.Base(t.path))))
	return slices.ContainsFunc(kept, func(path string) bool {
		id, err := identify(path)
		return err == nil && id.Ino == inode
	})
}

func escapeGlob(s string) string {
	var out []byte
	for i := range len(s) {
		if c := s[i]; c == '*' || c == '?' || c == '[' || c == '\\' {
			out = append(out, '\\')
		}
		out = append(out, s[i])
	}
	return string(out)
}
