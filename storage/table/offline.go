package table

import (
	"context"
	"fmt"

	"tablekeeper/storage/ledger"
)

// Compared is a main file beside its ledger.
type Compared struct {
	Sums     ledger.Sums // what the file should hold; 0 where that is not known
	Bad      []uint32    // pages that hold something else, ascending
	Unproven int         // pages whose sums were once read from the file
	PageSize int64       // of the ledger, in bytes
	Own      bool        // the ledger is of this very file, not of one that had its name before
}

// CompareLedger compares the main file of the table at path, which no Table has open or which is detached, with its ledger. It
// opens nothing with SQLite and changes nothing. A page that is missing is bad.
//
// Errors: fs.ErrNotExist if there is no ledger or no file, ledger.ErrDamaged.
func CompareLedger(ctx context.Context, path string) (Compared, error) {
	c, err := compareLedger(ctx, path)
	if err != nil {
		return c, fmt.Errorf("compare %s with its ledger: %w", path, err)
	}
	return c, nil
}

func compareLedger(ctx context.Context, path string) (c Compared, err error) {
	real, err := realPath(path)
	if err != nil {
		return c, err
	}
	l, err := ledger.Open(ledgerPath(real), nil)
	if err != nil {
		return c, err
	}
	defer func() { _ = l.Close() }() // only read
	c.Sums, c.PageSize = l.Sums(), int64(l.PageSize())
	c.Unproven, _ = l.Unproven()
	f, info, err := openFile(real)
	if err != nil {
		return c, err
	}
	defer func() { _ = f.Close() }() // only read
	c.Own = fileIDOf(info).Ino == l.Inode()
	s := session{main: f, pageSize: int64(l.PageSize())}
	buf := make([]byte, s.pageSize)
	for p := uint32(1); p <= l.Pages(); p++ {
		if p%1024 == 0 && ctx.Err() != nil {
			return c, ctx.Err()
		}
		sum, err := s.sumInto(p, buf)
		if err != nil || !l.Accepts(p, sum) {
			c.Bad = append(c.Bad, p)
		}
	}
	return c, nil
}

// Expect returns what a snapshot of the table may find: whether a page of the main file may have a sum. To be called inside the
// snapshot's read transaction: from then on until its end no page that it reads from the main file changes. A page that it
// reads from the WAL is accepted with any sum that was committed.
func (t *Table) Expect(ctx context.Context) (func(page, sum uint32) bool, error) {
	var accepts func(page, sum uint32) bool
	err := t.operate(ctx, func(s *session) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, err := s.advance(context.WithoutCancel(ctx), true); err != nil {
			return err
		}
		accepts = s.ledger.Freeze()
		return nil
	})
	return accepts, err
}
