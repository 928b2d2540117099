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

// lostOthers is what goes with pages that may have been newer than their sums.
const lostOthers = "what other programs wrote while no service had the table open may be lost"

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
