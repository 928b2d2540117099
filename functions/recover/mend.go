package recover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tablekeeper/functions"
	"tablekeeper/storage/ledger"
	"tablekeeper/storage/table"
)

// RungReopen is the rung of a table that was deleted or replaced while it was open: its file was still there, whole.
const RungReopen = "reopen"

// lostWAL is what goes with frames that cannot be read any more.
const lostWAL = "commits that were only in the damaged write-ahead log may be lost"

// climb tries the rungs in their order. A candidate without a file says that nothing is wrong with the table.
func (r *recovery) climb(ctx context.Context) (candidate, error) {
	if err := r.examine(ctx); err != nil {
		return candidate{}, err
	}
	if fine, err := r.fine(ctx); fine || err != nil {
		return candidate{}, err
	}
	if r.scene.gone && r.scene.original == nil {
		r.step(RungPages, "", r.Now(), NotPossible, errors.New("the file is gone"))
	} else {
		c, err := r.mend(ctx)
		if err != nil || c.file != "" {
			return c, err
		}
	}
	c, err := r.restore(ctx)
	if err != nil || c.file != "" {
		return c, err
	}
	return r.empty(ctx)
}

// fine tells whether the table, as it is, passes every check.
func (r *recovery) fine(ctx context.Context) (bool, error) {
	if len(r.scene.bad) > 0 || r.scene.gone || r.scene.foreign {
		return false, nil
	}
	report, err := r.verified(ctx, r.table.Path, "the table")
	switch {
	case err == nil:
		r.entry.RecordCount, r.entry.FileSize = sum(report.Rows), report.Stats.PageCount*report.Stats.PageSize
		return true, nil
	case errors.Is(err, table.ErrForeignJournal) || unsound(err):
		return false, nil
	}
	return false, err
}

// mend makes a sound copy of the table out of the table itself and, as far as it must, of pages from backups.
func (r *recovery) mend(ctx context.Context) (candidate, error) {
	started := r.Now()
	file, err := r.temporary()
	if err != nil {
		return candidate{}, err
	}
	c, err := r.mendCopy(ctx, file, started)
	c.made = r.scene.made
	if c.file != file {
		err = errors.Join(err, functions.RemoveTable(file))
	}
	return c, err
}

func (r *recovery) mendCopy(ctx context.Context, file string, started time.Time) (candidate, error) {
	if err := r.copyTable(ctx, file); err != nil {
		if errors.Is(err, table.ErrNotDatabase) || errors.Is(err, table.ErrForeignJournal) {
			r.step(RungPages, "", started, NotPossible, err)
			return candidate{}, nil
		}
		return candidate{}, err
	}
	r.count(ctx, file)
	if len(r.scene.bad) == 0 {
		return r.mendUnknown(ctx, file, started)
	}
	if c, err := r.correct(ctx, file, started); err != nil || c.file != "" {
		return c, err
	}
	if c, err := r.reindex(ctx, file, started, r.scene.bad); err != nil || c.file != "" {
		return c, err
	}
	return r.pages(ctx, file)
}

// mendUnknown is for damage of which the ledger knows nothing: every page is what was written.
func (r *recovery) mendUnknown(ctx context.Context, file string, started time.Time) (candidate, error) {
	if r.scene.gone || r.scene.foreign {
		want := r.copied(file)
		c, err := r.offer(ctx, file, RungReopen, "", started, "the file had lost its name, and was still open", "")
		c.want = want
		return c, err
	}
	err := table.Reindex(ctx, file)
	if err == nil {
		return r.offer(ctx, file, RungReindex, "", started, "the indexes were made anew", "")
	}
	return candidate{}, r.dismiss(RungReindex, "", started, err)
}

// copied are the sums of a copy that is to be, page by page, what the ledger says; nil if a WAL will change it.
func (r *recovery) copied(file string) ledger.Sums {
	if hasWAL(file) {
		return nil
	}
	return r.scene.want
}

// expected is the sum that a damaged page should have, 0 if that is not known.
func (r *recovery) expected(p uint32) uint32 {
	if int(p) > len(r.scene.want) || slices.Contains(r.scene.tainted, p) {
		return 0
	}
	return r.scene.want[p-1]
}

// dismiss records a rung that led nowhere; an error that says nothing of the table ends the recovery.
func (r *recovery) dismiss(rung, backup string, started time.Time, err error) error {
	if !unsound(err) {
		return err
	}
	r.step(rung, backup, started, Failed, err)
	return nil
}

// reindex is the rung for damage in indexes and free pages alone.
func (r *recovery) reindex(ctx context.Context, file string, started time.Time, bad []uint32) (candidate, error) {
	rows, err := table.RowPages(ctx, file)
	if err == nil {
		if i := slices.IndexFunc(bad, func(p uint32) bool { return rows[p] }); i >= 0 {
			r.step(RungReindex, "", started, NotPossible, fmt.Errorf("page %d has rows", bad[i]))
			return candidate{}, nil
		}
	}
	if err != nil {
		return candidate{}, r.dismiss(RungReindex, "", started, err)
	}
	return r.rebuild(ctx, file, RungReindex, "", started, fmt.Sprintf("%d damaged pages had no rows: the indexes were made anew", len(bad)), "")
}

// rebuild makes a new file of the rows of file.
func (r *recovery) rebuild(ctx context.Context, file, rung, backup string, started time.Time, detail, lost string) (candidate, error) {
	if err := r.fold(ctx, file); err != nil {
		return candidate{}, r.dismiss(rung, backup, started, err)
	}
	out, err := r.temporary()
	if err != nil {
		return candidate{}, err
	}
	if err := table.Rebuild(ctx, file, out); err != nil {
		return candidate{}, r.dismiss(rung, backup, started, err)
	}
	c, err := r.offer(ctx, out, rung, backup, started, detail, lost)
	if c.file == "" {
		err = errors.Join(err, functions.RemoveTable(out))
	}
	return c, err
}

// fold puts the WAL that others keep open into the copy.
func (r *recovery) fold(ctx context.Context, file string) error {
	if !hasWAL(file) {
		return nil
	}
	return table.Fold(ctx, file)
}

// offer checks a file, and makes it the candidate if it is sound.
func (r *recovery) offer(ctx context.Context, file, rung, backup string, started time.Time, detail, lost string) (candidate, error) {
	report, err := r.verified(ctx, file, "what was mended")
	if err != nil {
		return candidate{}, r.dismiss(rung, backup, started, err)
	}
	c := candidate{
		file: file, status: functions.Repaired, backup: backup, rows: report.Rows, size: report.Stats.PageCount * report.Stats.PageSize, lost: lost,
	}
	if r.scene.short {
		c.lost = joinLosses(c.lost, lostWAL)
	}
	if c.lost != "" {
		c.status = functions.Restored
	}
	c.step = r.succeed(rung, backup, started, detail, c.lost)
	return c, nil
}

func joinLosses(a, b string) string {
	if a == "" || b == "" || a == b {
		return a + b
	}
	return a + "; " + b
}

// count notes how many rows the damaged table has, as far as SQLite can tell.
func (r *recovery) count(ctx context.Context, file string) {
	report, err := table.Check(ctx, file, table.CheckOptions{Quick: true, Limit: 1})
	if err == nil {
		r.scene.rows = report.Rows
	}
}
