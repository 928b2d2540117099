package recover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"tablekeeper/functions"
	"tablekeeper/storage/table"
)

// The ways in which a candidate is put in place.
const (
	Swap      = "swap"
	Overwrite = "overwrite"
)

// ownedWait is how long others may go on with a table that this program owns before it is overwritten beneath them.
const ownedWait = 2 * time.Second

// place makes the candidate the table.
func (r *recovery) place(ctx context.Context, c candidate) error {
	end := r.progress.Begin("swap")
	defer func() { end(c.size) }()
	wait := r.Wait
	if r.handle != nil {
		wait = max(wait, ownedWait)
		if err := r.stage(ctx, c); err != nil {
			return err
		}
	}
	r.entry.Method = Swap
	swapped, err := table.Swap(ctx, r.table.Path, c.file, table.SwapOptions{Reason: quarantineReason, Now: r.Now(), Wait: wait, Lock: r.held, Since: c.made})
	if swapped.Quarantine != "" {
		r.entry.Quarantine = swapped.Quarantine
	}
	if errors.Is(err, table.ErrInUse) || errors.Is(err, table.ErrUnproven) || errors.Is(err, table.ErrNoLinks) {
		err = r.overwrite(ctx, c, wait, err)
	}
	if err != nil {
		return err
	}
	return r.attach(ctx)
}

// overwrite is for a table that others have open, or may have.
func (r *recovery) overwrite(ctx context.Context, c candidate, wait time.Duration, why error) error {
	r.entry.Method = Overwrite
	var inUse *table.InUseError
	if errors.As(why, &inUse) {
		r.entry.Processes = inUse.Processes
	}
	start := r.Now()
	swapped, err := table.Overwrite(ctx, r.table.Path, c.file, table.OverwriteOptions{
		Reason: quarantineReason, Now: start, Wait: wait, Lock: r.held, Since: c.made,
		Progress: func(done, total int64) { r.progress.Tell(done, total, "overwrite") },
	})
	if err != nil {
		return r.refused(why, err)
	}
	r.entry.Quarantine, r.entry.BlockedMS = swapped.Quarantine, r.Now().Sub(start).Milliseconds()
	if r.handle != nil {
		err = table.Forget(r.table.Path) // it is of the old content
	}
	return errors.Join(err, functions.RemoveTable(c.file))
}

// refused says why a damaged table can neither be exchanged nor written into, and by which commands a person does it.
func (r *recovery) refused(swap, overwrite error) error {
	err := fmt.Errorf("the table cannot be exchanged (%w), nor written into: %w", swap, overwrite)
	for _, damaged := range []error{table.ErrCorrupt, table.ErrNotDatabase, table.ErrPageSize, table.ErrForeignJournal} {
		if errors.Is(overwrite, damaged) {
			return &functions.Failure{
				Reason: "in_use", Final: true, Err: err,
				Try: fmt.Sprintf("stop the programs that have it open (fuser -v %s), then: tablekeeper recover %s", filepath.Clean(r.table.Path), r.table.Name),
			}
		}
	}
	return &functions.Failure{Err: err, Try: "run it again when the table is less busy, or stop the programs that have it open"}
}

// attach puts an owned table back into service. The file is in place: that is not given up because somebody stopped waiting.
func (r *recovery) attach(ctx context.Context) error {
	if r.handle == nil {
		return nil
	}
	if err := r.handle.Attach(context.WithoutCancel(ctx), table.AttachOptions{Trusted: true}); err != nil {
		return err
	}
	return inFile(r.table.Path, (*os.File).Sync)
}

// stage gives the candidate of an owned table its ledger. A page that has changed since it was copied or fetched, whoever did that,
// must not get a right sum: nobody would ever find it again. Then the recovery is begun anew.
func (r *recovery) stage(ctx context.Context, c candidate) error {
	sums, err := table.StageLedger(ctx, r.table.Path, c.file, nil)
	if err != nil {
		return err
	}
	for i, want := range c.want {
		if want != 0 && (i >= len(sums) || sums[i] != want) {
			return fmt.Errorf("%w: page %d of the new file was damaged before it was in place", functions.ErrHere, i+1)
		}
	}
	return wearWAL(c.file)
}

// wearWAL has the candidate of an owned table say that it has a WAL, which is what its ledger says. Left to the start after the swap, where
// the damaged file no longer tells, those two bytes are not on the disk when the recovery ends: after a power cut page 1 would be damaged.
func wearWAL(file string) error {
	const versions = 18 // https://sqlite.org/fileformat2.html#file_format_version_numbers
	return inFile(file, func(f *os.File) error {
		_, err := f.WriteAt([]byte{2, 2}, versions)
		return err
	})
}

func inFile(path string, do func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		err = errors.Join(do(f), f.Close())
	}
	if err != nil {
		return fmt.Errorf("%w: %w", functions.ErrHere, err)
	}
	return nil
}
