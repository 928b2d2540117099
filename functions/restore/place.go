package restore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tablekeeper/functions"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/table"
)

// vacant refuses a destination that has something already, unless that may be replaced.
func vacant(path string, force bool) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("restore to %s: %w", path, err)
	case !info.Mode().IsRegular():
		return &functions.Failure{Reason: "destination_exists", Final: true, Err: fmt.Errorf("restore to %s: it is no regular file", path), Try: "choose another path"}
	case !force:
		return &functions.Failure{
			Reason: "destination_exists", Final: true, Err: fmt.Errorf("restore to %s: %w", path, fs.ErrExist),
			Try: "choose another path, or --force, which is force in an event: the file that is there goes to quarantine",
		}
	}
	return nil
}

// same tells whether two paths name one file. Paths of files that are not there are compared as they are.
func same(a, b string) bool {
	one, errA := os.Stat(a)
	other, errB := os.Stat(b)
	if errA != nil || errB != nil {
		return a == b
	}
	return os.SameFile(one, other)
}

// makeStateDir makes the folder for what is under way. tidy takes it away again if it was not there before and nothing is
// kept in it: a file restored to a place of its own needs none.
func makeStateDir(path string) (tidy func(), err error) {
	dir := table.StateDir(path)
	_, before := os.Lstat(dir)
	if err := table.MakeStateDir(path); err != nil {
		return nil, err
	}
	if !errors.Is(before, fs.ErrNotExist) {
		return func() {}, nil
	}
	return func() {
		// Refused if the folder has anything else.
		_ = os.Remove(filepath.Join(dir, filepath.Base(path)+".lock"))
		_ = os.Remove(dir)
	}, nil
}

// put makes the file the one at the destination. To fetch it may have taken hours, in which somebody else may have put something there.
func (r *restore) put(ctx context.Context, file string, m archive.Manifest, p functions.Progress) error {
	if !r.force {
		if err := vacant(r.path, false); err != nil {
			return err
		}
	}
	if r.path == r.table.Path {
		if owned := r.Shelf.Owned(r.table.Name); owned != nil {
			return r.putOwned(ctx, owned, file, m, p)
		}
	}
	return r.exchange(ctx, file, p)
}

// putOwned takes an owned table out of service meanwhile. If nothing comes of it, the table is as it was, in service or not.
func (r *restore) putOwned(ctx context.Context, owned *table.Table, file string, m archive.Manifest, p functions.Progress) error {
	start := r.Now()
	if err := owned.Detach(ctx); err != nil {
		return err
	}
	whole := context.WithoutCancel(ctx)
	err := stage(ctx, r.path, file, m)
	if err == nil {
		err = r.exchange(ctx, file, p)
	}
	if err != nil {
		return errors.Join(err, owned.Attach(whole, table.AttachOptions{LedgerHolds: true}))
	}
	if r.entry.Method == Overwrite {
		err = table.Forget(r.path) // it is of the old content
	}
	err = errors.Join(err, owned.Attach(whole, table.AttachOptions{Trusted: true}))
	r.entry.BlockedMS = max(r.entry.BlockedMS, r.Now().Sub(start).Milliseconds())
	return err
}

// stage gives the file its ledger. A page that has changed since it was checked must not get a right sum: nobody would ever find it again.
func stage(ctx context.Context, path, file string, m archive.Manifest) error {
	sums, err := table.StageLedger(ctx, path, file, nil)
	if err != nil {
		return err
	}
	if got := sha256.Sum256(sums.Bytes()); hex.EncodeToString(got[:]) != m.SumsSHA256 {
		return fmt.Errorf("%w: the restored file was damaged before it was in place", functions.ErrHere)
	}
	return nil
}

func (r *restore) exchange(ctx context.Context, file string, p functions.Progress) error {
	_, err := os.Lstat(r.path)
	r.entry.Method = Swap
	if errors.Is(err, fs.ErrNotExist) {
		r.entry.Method = NewFile
		adopt(file, filepath.Dir(r.path))
	}
	end := p.Begin("swap")
	swapped, err := table.Swap(ctx, r.path, file, table.SwapOptions{Reason: "restored", Now: r.Now(), Wait: r.Wait, Lock: r.held})
	end(0)
	r.entry.Quarantine = swapped.Quarantine
	if errors.Is(err, table.ErrInUse) || errors.Is(err, table.ErrUnproven) || errors.Is(err, table.ErrNoLinks) {
		return r.overwrite(ctx, file, p, err)
	}
	return err
}

// overwrite is for a table that others have open, or may have.
func (r *restore) overwrite(ctx context.Context, file string, p functions.Progress, why error) error {
	r.entry.Method = Overwrite
	var inUse *table.InUseError
	if errors.As(why, &inUse) {
		r.entry.Processes = inUse.Processes
	}
	start := r.Now()
	end := p.Begin("overwrite")
	swapped, err := table.Overwrite(ctx, r.path, file, table.OverwriteOptions{
		Reason: "restored", Now: start, Wait: r.Wait, Lock: r.held,
		Progress: func(done, total int64) { p.Tell(done, total, "overwrite") },
	})
	end(0)
	r.entry.Quarantine = swapped.Quarantine
	if err != nil {
		return refused(why, err)
	}
	r.entry.BlockedMS = r.Now().Sub(start).Milliseconds() // writers wait for all of it
	return functions.RemoveTable(file)
}

// refused says why a table can neither be swapped nor overwritten.
func refused(swap, overwrite error) error {
	err := fmt.Errorf("the table cannot be exchanged (%w), nor written into: %w", swap, overwrite)
	for _, damaged := range []error{table.ErrCorrupt, table.ErrNotDatabase, table.ErrPageSize, table.ErrForeignJournal} {
		if errors.Is(overwrite, damaged) {
			return &functions.Failure{Reason: "in_use", Final: true, Err: err, Try: "stop the programs that have the table open, and restore again; or restore to a new file: -o PATH"}
		}
	}
	return &functions.Failure{Err: err, Try: "run it again when the table is less busy, or stop the programs that have it open"}
}
