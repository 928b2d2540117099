package table

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"

	"tablekeeper/storage/ledger"
)

// Compared is a table's files beside its ledger. What is in the WAL counts for what is in the main file: that is where it goes.
type Compared struct {
	Sums ledger.Sums // what the pages should hold; 0 where that is not known
	// Bad are the pages, ascending, that hold something else in the main file and are not in the WAL, or have taken damage over into it.
	Bad      []uint32
	Carried  []uint32 // those of Bad that have taken damage over: no content of them is known to be right
	Unproven int      // pages whose sums were once read from the file
	PageSize int64    // of the ledger, in bytes
	Own      bool     // the ledger is of this very file, not of one that had its name before
	// Certain: nobody has written to the table that the ledger does not know of. Else a page that is bad may have been written by others.
	Certain bool
	// Short: commits that the ledger knows are neither in the main file nor in the WAL. The sums are those of the commits before.
	Short bool
}

// CompareLedger compares the files of the table at path, which no Table has open or which is detached, with its ledger. It opens
// nothing with SQLite and changes nothing. A page that is missing is bad.
//
// Errors: fs.ErrNotExist if there is no ledger or no file, with what is known all the same; ledger.ErrDamaged.
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
	c.PageSize = int64(l.PageSize())
	c.Unproven, _ = l.Unproven()
	o, walSize, closing, err := overlayBeside(real, c.PageSize)
	if err != nil {
		return c, err
	}
	defer closing()
	gen, staged := l.Position()
	more, same := o.frames, o.tail.gen == gen && gen != (ledger.Generation{})
	if same {
		more = o.frames[min(len(o.frames), int(staged)):]
	}
	c.Sums = l.Final(math.MaxUint32, more)
	f, info, err := openFile(real)
	if err != nil {
		return c, err
	}
	defer func() { _ = f.Close() }() // only read
	c.Own = fileIDOf(info).Ino == l.Inode()
	c.Certain = same && !l.LostTail() || walSize == 0 && untouched(real, info, l.Clean())
	c.Carried = o.carriers(f, l, o.pages())
	torn := same || o.tail.gen == (ledger.Generation{})
	if c.Bad, err = o.differs(ctx, f, c.Sums); err != nil || len(c.Bad) == 0 || !torn || len(o.frames) >= int(staged) {
		c.Bad = union(c.Bad, c.Carried)
		return c, err
	}
	// The WAL, or its end, is lost. If the checkpoint had not come so far, the commits before it are all there.
	before := l.Final(uint32(len(o.frames)), nil)
	bad, err := o.differs(ctx, f, before)
	if len(bad) < len(c.Bad) {
		c.Sums, c.Bad, c.Short = before, bad, true
	}
	c.Bad = union(c.Bad, c.Carried)
	return c, err
}

// differs lists the pages that are not what they should be, once the WAL is in the main file.
func (o *overlay) differs(ctx context.Context, main *os.File, want ledger.Sums) ([]uint32, error) {
	s := session{main: main, pageSize: o.pageSize}
	buf := make([]byte, s.pageSize)
	var bad []uint32
	for i, sum := range want {
		p := uint32(i + 1)
		if p%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		is, ok := o.sum(p)
		if !ok {
			var err error
			if is, err = s.sumInto(p, buf); err != nil {
				is = ^sum // what cannot be read differs
			}
		}
		if sum != 0 && is != sum {
			bad = append(bad, p)
		}
	}
	return bad, nil
}

func union(a, b []uint32) []uint32 {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
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
