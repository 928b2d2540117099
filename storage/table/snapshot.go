package table

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// defaultPause is how long the users of a table may be made to wait.
const defaultPause = time.Second

// SnapshotOptions say how to take a snapshot. The zero value checks first and keeps writers waiting for 1 s at most.
type SnapshotOptions struct {
	SkipCheck bool // no integrity_check; rows are counted all the same
	// Beside checks on a connection of its own while the pages are read, where both see the same commit. Then use is called before
	// the verdict is known: Pages ends with a *CorruptError in place of the last page unless the table passes, and Rows and
	// Unsupported wait for the verdict. Whoever stores pages as they come must not call it a snapshot before Pages has ended.
	Beside   bool
	Quick    bool          // quick_check in place of integrity_check: indexes are not compared with the rows
	MaxPause time.Duration // how long writers of a table with a rollback journal may be kept waiting at a time; 0: 1 s
	Wait     time.Duration // how long to wait for a lock; 0: 5 s
	// Progress is told what is done: copy (bytes), integrity_check and count (SQL tables).
	Progress func(phase string, done, total int64)

	alone bool // checked on the goroutine of the caller, and no other
}

// Snapshot is one committed state of a table, whole. It is valid until the function that it was handed to returns, and not
// safe for concurrent use.
type Snapshot struct {
	conn     *conn
	stats    Stats
	schema   []string
	free     []byte
	main     *mainFile                   // nil: SQLite reads all pages
	overlaid map[int64]bool              // pages that SQLite has to read though there is a main
	verdict  func() (CheckReport, error) // waits for the check, and returns its report if the table has passed
}

// Stats measures the snapshot.
func (s *Snapshot) Stats() Stats { return s.stats }

// Rows counts the rows of each SQL table; nil if the check failed.
func (s *Snapshot) Rows() map[string]int64 {
	r, err := s.verdict()
	if err != nil {
		return nil
	}
	return maps.Clone(r.Rows)
}

// Schema is the SQL of every table, index, view and trigger, in the order in which they were made.
func (s *Snapshot) Schema() []string { return slices.Clone(s.schema) }

// Unsupported says what the check could not look at; see CheckReport.
func (s *Snapshot) Unsupported() []string {
	r, _ := s.verdict()
	return slices.Clone(r.Unsupported)
}

// TakeSnapshot hands one committed state of the table at path to use: checked, counted and read in one read transaction.
// The pages are those of a plain database file: what is in the WAL is in them. The header is as stored, so a table in WAL mode
// says so in bytes 18 and 19, and a file made of the pages is in WAL mode when it is opened.
//
// Writers of a table in WAL mode go on meanwhile, whatever time use takes; their WAL cannot be reset until it returns. Writers of
// one with a rollback journal cannot commit while somebody reads: such a table is first copied, under short read locks, into a
// temporary file beside it, and the snapshot is that of the copy. A commit between two locks makes the copy start again; if
// commits never stop, and the copy takes longer than MaxPause at once, the error is ErrWouldBlock.
//
// A table that fails its check is a *CorruptError, and use is not called (but see Beside). The error of use is returned as it is.
// Others: ErrBusy, ErrNoSpace (for the copy), ErrNotDatabase, ErrNetworkFS, ErrForeignJournal, fs.ErrNotExist.
func TakeSnapshot(ctx context.Context, path string, opts SnapshotOptions, use func(context.Context, *Snapshot) error) error {
	path, err := absolute(path)
	if err != nil {
		return err
	}
	h, _, err := readHeader(path)
	if err != nil {
		return err
	}
	var used error
	once := func(ctx context.Context, s *Snapshot) error {
		used = use(ctx, s)
		return used
	}
	if h.walMode {
		err = snapshot(ctx, path, path, openOptions{wait: opts.wait()}, opts, once)
	} else {
		err = snapshotOfCopy(ctx, path, opts, once)
	}
	switch {
	case used != nil && (errors.Is(used, ErrCorrupt) || !errors.Is(err, ErrCorrupt)):
		return used
	case err != nil:
		return fmt.Errorf("snapshot of %s: %w", path, asCorrupt(path, err))
	}
	return nil
}

func (o SnapshotOptions) wait() time.Duration {
	if o.Wait > 0 {
		return o.Wait
	}
	return defaultWait
}

func (o SnapshotOptions) pause() time.Duration {
	if o.MaxPause > 0 {
		return o.MaxPause
	}
	return defaultPause
}

// snapshot reads the file, which is the table at path or a copy of it.
func snapshot(ctx context.Context, path, file string, how openOptions, opts SnapshotOptions, use func(context.Context, *Snapshot) error) error {
	c, missing, err := openToCheck(ctx, file, how)
	if err != nil {
		return err
	}
	if opts.Beside && !opts.SkipCheck {
		err = c.snapshotBeside(ctx, path, file, how, opts, use)
		if !errors.Is(err, errApart) {
			return errors.Join(err, c.close())
		}
	}
	err = c.read(ctx, func() error {
		r, err := c.report(ctx, path, missing, opts)
		if err != nil {
			return err
		}
		s, err := c.snapshot(ctx, path, r.Stats, func() (CheckReport, error) { return r, nil })
		if err != nil {
			return err
		}
		return use(ctx, s)
	})
	return errors.Join(err, c.close())
}

// report checks the table; a table that fails is a *CorruptError.
func (c *conn) report(ctx context.Context, path string, missing []string, opts SnapshotOptions) (CheckReport, error) {
	check := CheckOptions{SkipIntegrity: opts.SkipCheck, Quick: opts.Quick, Progress: opts.Progress, alone: opts.alone}
	check.defaults()
	r := CheckReport{path: path, Rows: map[string]int64{}}
	if err := r.take(r.run(ctx, c, missing, check)); err != nil {
		return r, err
	}
	if len(r.Problems) > 0 {
		return r, &CorruptError{path, r.Problems}
	}
	return r, nil
}

// snapshot is what the read transaction of c sees.
func (c *conn) snapshot(ctx context.Context, path string, stats Stats, verdict func() (CheckReport, error)) (*Snapshot, error) {
	s := &Snapshot{conn: c, stats: stats, verdict: verdict}
	var err error
	if s.free, err = c.freeMap(ctx, s.stats); err != nil {
		return nil, err
	}
	s.stats.Path = path
	var ok bool
	if s.overlaid, ok = c.main.overlaid(c.path, s.stats); ok {
		s.main = c.main
	}
	return s, c.list(ctx, &s.schema,
		"SELECT json_group_array(CAST(sql AS TEXT)) FROM (SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid)")
}
