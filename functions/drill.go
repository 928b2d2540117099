package functions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"tablekeeper/storage/archive"
	"tablekeeper/storage/table"
)

// Opener opens a backup.
type Opener interface {
	Open(ctx context.Context, key archive.Key) (*archive.Reader, error)
}

// Drill restores a backup into a new file and proves it: every page's sum, the sha256 of the whole, the integrity check, the traversal of
// every row, and as many rows in each SQL table as the manifest says.
type Drill struct {
	From    Opener
	MaxSize int64 // refuse a database larger than this, in bytes; 0: only what the disk has no room for
	Durable bool  // fsync the file: it is going to be a table
	// SkipFrameSums leaves alone the checksums that zstd keeps of its frames: for those who want the content, of which the page sums and the
	// sha256 tell more. Else a backup that `zstd -d` would refuse is a bad one.
	SkipFrameSums bool
	// Mode are the permissions of the file; 0: the owner's alone.
	Mode fs.FileMode
	// BySQLite leaves the check of the file to SQLite: a second opinion to the check of the table when it was backed up.
	BySQLite bool
	// Proved is when an earlier drill proved this very backup; zero: none did, or do not rely on it. What has the sha256 of the
	// manifest is then what passed all checks, and repeating them on the same bytes would tell nothing new: the file is only opened,
	// its schema read, and its size compared.
	Proved time.Time
}

// Proof is what a drill found.
type Proof struct {
	Manifest archive.Manifest
	Records  int64 // rows, of all SQL tables
	// ForeignKeys are violations of foreign keys. They are no failure: SQLite enforces foreign keys only for connections that
	// ask for it, so a table may well have some, and a backup with the right sha256 has those of its source.
	// The list ends after the first hundred.
	ForeignKeys []string
	// Unchecked is what needs a collation, a function or a module that is not here.
	Unchecked []string
	// Relied is Drill.Proved if that took the place of SQLite's check, the traversal and the counting: Records are the manifest's then.
	Relied time.Time
	// Repeated is why the first attempt failed, "" if it did not: the way here changed the backup, not the bucket.
	Repeated string
}

// Run restores the backup to path, which must not exist. Where it fails no file is left. BadBackup tells whether the
// backup is to blame; that is said only of one that failed twice, since a bit may flip on its way as well.
func (d Drill) Run(ctx context.Context, key archive.Key, path string, p Progress) (Proof, error) {
	proof, err := d.once(ctx, key, path, p)
	if !BadBackup(err) || errors.Is(err, fs.ErrNotExist) {
		return proof, err
	}
	first := err.Error()
	proof, err = d.once(ctx, key, path, p)
	proof.Repeated = first
	return proof, err
}

func (d Drill) once(ctx context.Context, key archive.Key, path string, p Progress) (proof Proof, err error) {
	reader, err := d.From.Open(ctx, key)
	if err != nil {
		return Proof{}, fmt.Errorf("open backup %s: %w", key, err)
	}
	if d.SkipFrameSums {
		reader.SkipFrameSums()
	}
	proof.Manifest = reader.Manifest()
	if err := d.fits(proof.Manifest.Size, filepath.Dir(path)); err != nil {
		return proof, fmt.Errorf("restore %s: %w", key, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, RemoveTable(path))
		}
	}()
	if err := d.fetch(ctx, reader, path, p); err != nil {
		return proof, fmt.Errorf("restore %s: %w", key, err)
	}
	check := d.check
	if !d.Proved.IsZero() {
		check = d.glance
	}
	if err := check(ctx, &proof, path, p); err != nil {
		return proof, fmt.Errorf("check what %s restores to: %w", key, err)
	}
	return proof, nil
}

// spare is how much of a disk a restore leaves free, in bytes.
const spare = 16 << 20

func (d Drill) fits(size int64, dir string) error {
	if d.MaxSize > 0 && size > d.MaxSize {
		return fmt.Errorf("the database has %d bytes, and %d are allowed: %w", size, d.MaxSize, table.ErrNoSpace)
	}
	free, known := freeSpace(dir)
	if known && size+spare > free {
		return fmt.Errorf("the database has %d bytes, and %s has room for %d: %w", size, dir, max(free-spare, 0), table.ErrNoSpace)
	}
	return nil
}

func (d Drill) fetch(ctx context.Context, reader *archive.Reader, path string, p Progress) error {
	end := p.Begin("fetch")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, cmp.Or(d.Mode, 0o600))
	if err != nil {
		return localError(err)
	}
	target := &localFile{file: file, durable: d.Durable}
	err = reader.Restore(ctx, archive.Sparse{Target: target}, func(done, total int64) { p.Tell(done, total, "fetch") })
	if failed := target.failure(); failed != nil {
		err = localError(failed) // not the backup's fault
	}
	if closed := file.Close(); err == nil {
		err = localError(closed)
	}
	end(reader.Manifest().Size)
	return err
}

// check compares the file with what the manifest says of it. Where SQLite does it, its own check and the traversal of every row run
// side by side, and beside them the fsync.
func (d Drill) check(ctx context.Context, proof *Proof, path string, p Progress) error {
	end := p.Begin("check")
	defer func() { end(proof.Manifest.Size) }()
	tell := func(phase string, done, total int64) { p.Tell(done, total, phase) }
	var report, traversed table.CheckReport
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		report, err = sound(ctx, path, table.CheckOptions{ForeignKeys: true, Traverse: !d.BySQLite, BySQLite: d.BySQLite, Progress: tell})
		return err
	})
	if d.BySQLite {
		group.Go(func() (err error) {
			traversed, err = sound(ctx, path, table.CheckOptions{SkipIntegrity: true, Traverse: true})
			return err
		})
	}
	if d.Durable {
		group.Go(func() error { return localError(syncFile(path)) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	counts := []map[string]int64{report.Rows}
	if d.BySQLite {
		counts = append(counts, traversed.Rows)
	}
	for _, rows := range counts {
		if !maps.Equal(rows, proof.Manifest.Rows) {
			return fmt.Errorf("%w: %s", ErrNotAsDescribed, rowsDiffer(rows, proof.Manifest.Rows))
		}
	}
	for _, n := range report.Rows {
		proof.Records += n
	}
	proof.ForeignKeys, proof.Unchecked = report.Violations, report.Unsupported
	return nil
}

// glance is what is left to check of bytes that have passed everything before.
func (d Drill) glance(ctx context.Context, proof *Proof, path string, p Progress) error {
	end := p.Begin("check")
	defer func() { end(0) }()
	if d.Durable {
		if err := syncFile(path); err != nil {
			return localError(err)
		}
	}
	report, err := sound(ctx, path, table.CheckOptions{SkipIntegrity: true, SkipRows: true})
	if err != nil {
		return err
	}
	if m := proof.Manifest; report.Stats.Bytes != m.Size || report.Stats.PageCount != m.PageCount {
		return fmt.Errorf("%w: %d pages in %d bytes, %d in %d are expected", ErrNotAsDescribed, report.Stats.PageCount, report.Stats.Bytes, m.PageCount, m.Size)
	}
	for _, n := range proof.Manifest.Rows {
		proof.Records += n
	}
	proof.Relied, proof.Unchecked = d.Proved, report.Unsupported
	return nil
}

// sound checks a restored file; what is wrong with it is told apart from what is wrong here.
func sound(ctx context.Context, path string, opts table.CheckOptions) (table.CheckReport, error) {
	report, err := table.Check(ctx, path, opts)
	if errors.Is(err, table.ErrCorrupt) || errors.Is(err, table.ErrNotDatabase) {
		return report, fmt.Errorf("%w: %w", ErrNotAsDescribed, err)
	}
	if err != nil {
		return report, fmt.Errorf("%w: %w", ErrHere, err)
	}
	if err := report.Err(); err != nil {
		return report, fmt.Errorf("%w: %w", ErrNotAsDescribed, err)
	}
	return report, nil
}

func syncFile(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// rowsDiffer names a SQL table whose rows are not as many as they should be.
func rowsDiffer(got, want map[string]int64) string {
	for name, n := range want {
		if has, ok := got[name]; !ok || has != n {
			return fmt.Sprintf("%q has %d rows, %d are expected", name, has, n)
		}
	}
	return fmt.Sprintf("%d SQL tables, %d are expected", len(got), len(want))
}

// RemoveTable removes a database file of ours with what SQLite kept beside it. Missing ones are no error.
func RemoveTable(path string) error {
	var errs []error
	for _, ending := range []string{"-wal", "-shm", "-journal", ""} {
		if err := os.Remove(path + ending); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
