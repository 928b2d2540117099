package recover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"tablekeeper/functions"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/ledger"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// scene is what is known of the damage.
type scene struct {
	report   table.Report
	rows     map[string]int64 // of each SQL table, as far as they can be counted
	want     ledger.Sums      // what the pages of the main file should be, 0: any; nil: nobody knows
	pageSize int64            // in bytes; 0 if want is nil
	bad      []uint32         // pages that are not, ascending
	// tainted pages have taken damage over from an older version, with a right sum: no backup has what they should be.
	tainted []uint32
	// others may have written to the table what its ledger does not know: a page that is not what it should be may be newer.
	others   bool
	short    bool        // commits that were acknowledged are nowhere any more
	made     table.Token // the state that was copied to be mended, "" if that cannot be told
	cold     string      // the backup of which the table was unchanged, if it is not owned; "": not known
	gone     bool        // no file has the table's name
	foreign  bool        // the file is not the one that the ledger is of
	original *os.File    // the file that lost its name, while it was open; nil: none
}

// open finds the file of an owned table that has lost its name, before the last descriptor of it is closed.
func (s *scene) open(r *recovery) {
	if r.handle != nil {
		s.original = nameless(r.handle.Path())
	}
}

func (s *scene) close() {
	if s.original != nil {
		_ = s.original.Close() // only read
		s.original = nil
	}
}

// bytes is the size of the table as its ledger knows it.
func (s *scene) bytes() int64 { return int64(len(s.want)) * s.pageSize }

// examine compares the table with its ledger, or with the backup of which it is unchanged.
func (r *recovery) examine(ctx context.Context) error {
	end := r.progress.Begin("examine")
	defer func() { end(r.scene.bytes()) }()
	if r.handle != nil {
		r.adopt(ctx)
		if dir, err := table.SetJournalAside(r.handle.Path(), table.SwapOptions{Reason: quarantineReason, Now: r.Now()}); err != nil {
			return err
		} else if dir != "" {
			r.entry.Quarantine = dir
		}
	}
	compared, err := table.CompareLedger(ctx, r.table.Path)
	switch {
	case err == nil:
		r.scene.want, r.scene.pageSize, r.scene.bad, r.scene.foreign = compared.Sums, compared.PageSize, compared.Bad, !compared.Own
		r.scene.others, r.scene.short, r.scene.tainted = !compared.Certain, compared.Short, compared.Carried
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, ledger.ErrDamaged), errors.Is(err, table.ErrNotDatabase):
		r.scene.want, r.scene.pageSize = compared.Sums, compared.PageSize
	default:
		return err
	}
	if _, err := os.Lstat(r.table.Path); errors.Is(err, fs.ErrNotExist) {
		r.scene.gone = true
	}
	if r.handle == nil {
		// A ledger of a time when somebody owned the table says nothing of it now.
		r.scene.want, r.scene.bad, r.scene.foreign, r.scene.tainted = nil, nil, false, nil
		r.scene.others, r.scene.short = false, false
		if err := r.examineCold(ctx); err != nil {
			return err
		}
	}
	if r.handle != nil {
		found := r.handle.Findings()
		r.scene.tainted = union(r.scene.tainted, found.Carried)
		r.scene.others = r.scene.others && !found.Settled
		r.scene.short = r.scene.short || found.ShortWAL || r.scene.report.Cause == table.CauseWAL
	}
	r.scene.bad = union(r.scene.bad, r.scene.tainted)
	r.entry.BadPages, r.entry.Cause = len(r.scene.bad), string(r.scene.report.Cause)
	return nil
}

// adopt has the handle take over the ledger of a file that an attempt before this one put in place, without getting to serve it.
func (r *recovery) adopt(ctx context.Context) {
	if shelf.ReadRecovery(r.table.Path).Outcome == nil || r.handle.Attach(ctx, table.AttachOptions{}) != nil {
		return
	}
	if err := r.handle.Detach(ctx); err != nil {
		r.note(err.Error())
	}
}

// examineCold compares a table of other programs with its last backup, if it has not been written to since.
func (r *recovery) examineCold(ctx context.Context) error {
	record, err := shelf.ReadRecord(r.table.Path)
	if err != nil || record.Token == "" || record.Distrust != "" {
		return nil //nolint:nilerr // nothing to compare with
	}
	if token, err := table.ReadToken(r.table.Path); err != nil || string(token) != record.Token {
		return nil //nolint:nilerr // it has been written to, or cannot be read: then there is nothing to compare with either
	}
	key, err := archive.ParseKey(record.Key)
	if err != nil {
		return nil //nolint:nilerr // as above
	}
	for _, source := range r.Sources {
		if source.Bucket == record.Bucket {
			return r.compareWith(ctx, source, key)
		}
	}
	return nil
}

func (r *recovery) compareWith(ctx context.Context, source Source, key archive.Key) error {
	reader, err := source.Catalogue.Open(ctx, key)
	var sums ledger.Sums
	if err == nil {
		sums, err = reader.Sums()
	}
	if functions.BadBackup(err) {
		r.note(err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	// Free pages are in the backup as zeros, and may hold anything in the table.
	size := reader.Manifest().PageSize
	zeros := ledger.Sum(make([]byte, size))
	for i := range sums {
		if sums[i] == zeros {
			sums[i] = 0
		}
	}
	bad, err := differs(ctx, r.table.Path, sums, int64(size))
	if err != nil || len(bad) == 0 || r.walBeside() {
		return err
	}
	r.scene.want, r.scene.pageSize, r.scene.bad, r.scene.cold = sums, int64(size), bad, key.String()
	return nil
}

// walBeside: the main file alone is not the table.
func (r *recovery) walBeside() bool { return hasWAL(r.table.Path) }

func union(a, b []uint32) []uint32 {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// copyTable copies the damaged table to a file that can be worked on. Of a table that lost its name while it was open, that is
// the file that lost it.
func (r *recovery) copyTable(ctx context.Context, to string) error {
	end := r.progress.Begin("copy")
	defer func() { end(r.scene.bytes()) }()
	if r.scene.original != nil && (r.scene.gone || r.scene.foreign) {
		if err := table.CopyFile(ctx, r.scene.original, to); err != nil {
			return err
		}
		bad, err := differs(ctx, to, r.scene.want, r.scene.pageSize)
		if err != nil {
			return err
		}
		r.scene.bad = union(bad, r.scene.tainted)
		return nil
	}
	// What is too damaged to have a token, nobody writes to either.
	r.scene.made, _ = table.ReadToken(r.table.Path)
	if err := table.CopyDamaged(ctx, r.table.Path, to, r.handle == nil); err != nil {
		return err
	}
	return r.fit(to)
}

// fit gives the copy the size that the ledger knows: pages that were cut off are damaged ones, what was appended is nobody's.
func (r *recovery) fit(file string) error {
	if hasWAL(file) || len(r.scene.want) == 0 {
		return nil
	}
	return os.Truncate(file, int64(len(r.scene.want))*r.scene.pageSize)
}

func hasWAL(file string) bool {
	info, err := os.Lstat(file + "-wal")
	return err == nil && info.Size() > 0
}

// differs lists the pages of a file that are not what they should be.
func differs(ctx context.Context, file string, want ledger.Sums, size int64) ([]uint32, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	var bad []uint32
	page := make([]byte, size)
	for i, sum := range want {
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		n, _ := f.ReadAt(page, int64(i)*size) // what cannot be read differs
		clear(page[n:])
		if sum != 0 && ledger.Sum(page) != sum {
			bad = append(bad, uint32(i+1))
		}
	}
	return bad, nil
}

// verified checks a file as a whole, and counts its rows. what says what it is.
func (r *recovery) verified(ctx context.Context, file, what string) (table.CheckReport, error) {
	end := r.progress.Begin("check")
	report, err := table.Check(ctx, file, table.CheckOptions{
		Traverse: true, Progress: func(phase string, done, total int64) { r.progress.Tell(done, total, phase) },
	})
	end(report.Stats.Bytes)
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		return report, fmt.Errorf("check %s: %w", what, err)
	}
	return report, nil
}

// unsound tells that a candidate failed its check, as opposed to a check that could not be made.
func unsound(err error) bool {
	return errors.Is(err, table.ErrCorrupt) || errors.Is(err, table.ErrNotDatabase) || errors.Is(err, table.ErrUnsupported)
}

// temporary is a name for a candidate, beside the table; the next start removes what has one.
func (r *recovery) temporary() (string, error) {
	return table.Temporary(r.table.Path, "recover"), table.MakeStateDir(r.table.Path)
}

const quarantineReason = "corrupt"
