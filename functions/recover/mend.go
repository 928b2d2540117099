package recover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"tablekeeper/functions"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/ledger"
	"tablekeeper/storage/table"
)

// RungReopen is the rung of a table that was deleted or replaced while it was open: its file was still there, whole.
const RungReopen = "reopen"

// lostWAL is what goes with frames that cannot be read any more.
const lostWAL = "commits that were only in the damaged write-ahead log may be lost"

// lostOthers is what goes with pages that may have been newer than their sums.
const lostOthers = "what other programs wrote while no service had the table open may be lost"

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

// maxCorrected bounds how many pages are corrected by their sums: each has a chance of 1 in 100,000 to become something else, that the
// check of the whole has to find.
const maxCorrected = 16

// correct is the rung for flipped bits: the sum of a page tells which bit it was. No backup is needed, whenever the page was written.
func (r *recovery) correct(ctx context.Context, file string, started time.Time) (candidate, error) {
	if len(r.scene.bad) > maxCorrected || len(r.scene.want) == 0 {
		return candidate{}, nil
	}
	left, err := r.flipBack(file)
	if err != nil {
		return candidate{}, err
	}
	corrected := len(r.scene.bad) - len(left)
	if corrected == 0 {
		return candidate{}, nil
	}
	if len(left) > 0 {
		r.step(RungBit, "", started, Failed, fmt.Errorf("one bit was wrong in %d pages, and more in %d", corrected, len(left)))
		r.scene.bad = left
		return candidate{}, nil
	}
	want := r.copied(file)
	if err := r.fold(ctx, file); err != nil {
		return candidate{}, r.dismiss(RungBit, "", started, err)
	}
	c, err := r.offer(ctx, file, RungBit, "", started, fmt.Sprintf("one bit was wrong in %d pages, and was inverted", corrected), "")
	c.want = want
	return c, err
}

// copied are the sums of a copy that is to be, page by page, what the ledger says; nil if a WAL will change it.
func (r *recovery) copied(file string) ledger.Sums {
	if hasWAL(file) {
		return nil
	}
	return r.scene.want
}

// flipBack corrects what it can in the file, and returns the pages that are left.
func (r *recovery) flipBack(file string) (left []uint32, err error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", functions.ErrHere, err)
	}
	page := make([]byte, r.scene.pageSize)
	for _, p := range r.scene.bad {
		at := int64(p-1) * r.scene.pageSize
		_, readErr := f.ReadAt(page, at)
		fixed := readErr == nil && r.expected(p) != 0
		if fixed {
			_, fixed = ledger.Correct(page, r.expected(p))
		}
		if !fixed {
			left = append(left, p)
			continue
		}
		if _, err = f.WriteAt(page, at); err != nil {
			err = fmt.Errorf("%w: %w", functions.ErrHere, err)
			break
		}
	}
	return left, errors.Join(err, f.Close())
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

// maxSources bounds how many backups are asked for pages: an older one rarely has what a newer one has not.
const maxSources = 5

// pages is the rung on which single pages come from backups: those whose content there is what the ledger says.
func (r *recovery) pages(ctx context.Context, file string) (candidate, error) {
	left := slices.Clone(r.scene.bad)
	from := ""
	for _, source := range r.Sources {
		backups, err := source.Catalogue.Backups(ctx, r.table.Name)
		if err != nil {
			return candidate{}, err
		}
		for _, b := range backups[:min(len(backups), maxSources)] {
			started := r.Now()
			fetched, err := r.fetch(ctx, source, b.Key, file, left)
			if functions.BadBackup(err) {
				fetched, err = r.fetch(ctx, source, b.Key, file, left) // the way to it may be to blame
			}
			if err != nil && !functions.BadBackup(err) {
				return candidate{}, err
			}
			if err != nil || len(fetched) == 0 {
				r.step(RungPages, b.Key.String(), started, Failed, orElse(err, "it has none of the damaged pages as they were last"))
				continue
			}
			if from == "" {
				from = b.Key.String()
			}
			left = slices.DeleteFunc(left, func(p uint32) bool { return slices.Contains(fetched, p) })
			c, err := r.patched(ctx, file, from, started, left)
			if err != nil || c.file != "" {
				return c, err
			}
		}
	}
	if from == "" {
		r.step(RungPages, "", r.Now(), NotPossible, errors.New("no backup has the damaged pages as they were last"))
	}
	return candidate{}, nil
}

func orElse(err error, text string) error {
	if err != nil {
		return err
	}
	return errors.New(text)
}

// patched is the file with the pages that were fetched. It is a candidate if those that are left have no rows.
func (r *recovery) patched(ctx context.Context, file, backup string, started time.Time, left []uint32) (candidate, error) {
	detail, lost := fmt.Sprintf("damaged pages that were fetched from the backup: %d", len(r.scene.bad)-len(left)), ""
	if r.scene.others {
		lost = lostOthers
	}
	if len(left) > 0 {
		rows, err := table.RowPages(ctx, file)
		if err != nil || slices.ContainsFunc(left, func(p uint32) bool { return rows[p] }) {
			if err == nil {
				err = fmt.Errorf("%w: %d of %d damaged pages were written since", table.ErrCorrupt, len(left), len(r.scene.bad))
			}
			return candidate{}, r.dismiss(RungPages, backup, started, err)
		}
		return r.rebuild(ctx, file, RungPages, backup, started, detail+", and the indexes made anew", lost)
	}
	want := r.copied(file)
	if err := r.fold(ctx, file); err != nil {
		return candidate{}, r.dismiss(RungPages, backup, started, err)
	}
	c, err := r.offer(ctx, file, RungPages, backup, started, detail, lost)
	c.want = want
	return c, err
}

// fetch reads those of the pages from a backup that it has as the ledger wants them, into the file.
func (r *recovery) fetch(ctx context.Context, source Source, key archive.Key, file string, pages []uint32) ([]uint32, error) {
	reader, err := source.Catalogue.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	reader.SkipFrameSums() // each page is compared with its sum
	sums, err := reader.Sums()
	if err != nil {
		return nil, err
	}
	if int64(reader.Manifest().PageSize) != r.scene.pageSize {
		return nil, nil
	}
	var want []int64
	for _, p := range pages {
		if sum := r.expected(p); sum != 0 && int(p) <= len(sums) && sums[p-1] == sum {
			want = append(want, int64(p))
		}
	}
	fetched, err := r.write(ctx, reader, file, want)
	if err == nil && slices.Contains(pages, 1) && !slices.Contains(fetched, 1) {
		var spliced bool
		if spliced, err = r.splice(ctx, reader, file); spliced {
			fetched = append(fetched, 1)
		}
	}
	return fetched, err
}

// fileHeader is how many bytes of page 1 are not the schema's: they change with most commits, and the rest hardly ever.
const fileHeader = 100

// splice tries page 1 with the header as it is and the schema of the backup, and the other way round. The sum tells whether it is right.
func (r *recovery) splice(ctx context.Context, reader *archive.Reader, file string) (bool, error) {
	theirs, ours := make([]byte, r.scene.pageSize), make([]byte, r.scene.pageSize)
	if err := reader.ReadPage(ctx, 1, theirs); err != nil {
		return false, err
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return false, fmt.Errorf("%w: %w", functions.ErrHere, err)
	}
	_, err = f.ReadAt(ours, 0)
	done := false
	for _, page := range [][]byte{slices.Concat(ours[:fileHeader], theirs[fileHeader:]), slices.Concat(theirs[:fileHeader], ours[fileHeader:])} {
		if err == nil && !done && r.expected(1) != 0 && ledger.Sum(page) == r.expected(1) {
			_, err = f.WriteAt(page, 0)
			done = err == nil
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		err = fmt.Errorf("%w: %w", functions.ErrHere, err)
	}
	return done, err
}

func (r *recovery) write(ctx context.Context, reader *archive.Reader, file string, want []int64) (fetched []uint32, err error) {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", functions.ErrHere, err)
	}
	err = reader.ReadPages(ctx, want, func(p int64, page []byte) error {
		if _, err := f.WriteAt(page, (p-1)*r.scene.pageSize); err != nil {
			return fmt.Errorf("%w: %w", functions.ErrHere, err)
		}
		fetched = append(fetched, uint32(p))
		return nil
	})
	return fetched, errors.Join(err, f.Close())
}
