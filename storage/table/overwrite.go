package table

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
)

// ErrPageSize: a table in WAL mode keeps its page size for as long as it is in use.
var ErrPageSize = errors.New("the page sizes differ")

// OverwriteOptions: the zero value is usable.
type OverwriteOptions struct {
	Reason   string                  // as in SwapOptions
	Now      time.Time               // as in SwapOptions
	Wait     time.Duration           // how long to go on trying while others write; 0: once
	Lock     *Held                   // as in SwapOptions
	Since    Token                   // as in SwapOptions
	Progress func(done, total int64) // pages of the new content, if not nil
}

// overwritePages is how many pages are copied between two looks at the context.
const overwritePages = 256

// Overwrite writes the content of newFile, a complete and checked database, into the table at path through SQLite's
// backup API: under SQLite's locks, so that processes that have the table open see the new content at their next
// transaction. Theirs to write wait for as long as it takes; in WAL mode they can go on to read.
//
// It is one transaction of SQLite's: a crash leaves the old content or the new. What the table had before is first written to
// quarantine, under the same lock, so that no commit falls between. The disk needs room for both. newFile is left as it is.
//
// ErrBusy: others did not let go of their locks within Wait. ErrPageSize. ErrCorrupt, ErrNotDatabase: SQLite cannot open what is
// there; only Swap can replace it. fs.ErrNotExist: there is no table; Swap makes it. ErrLocked. ErrChanged. ErrInterrupted. ErrNoSpace.
func Overwrite(ctx context.Context, path, newFile string, opts OverwriteOptions) (Swapped, error) {
	if err := roomToOverwrite(path, newFile); err != nil {
		return Swapped{}, fmt.Errorf("overwrite %s: %w", path, err)
	}
	done, err := overwrite(ctx, disk{}, path, newFile, opts)
	if err != nil {
		return done, fmt.Errorf("overwrite %s: %w", path, err)
	}
	return done, nil
}

// roomToOverwrite adds up the copy in quarantine, the WAL or journal of the one transaction, and what the table grows by.
func roomToOverwrite(path, newFile string) error {
	old, err := os.Stat(path)
	if err != nil {
		return err
	}
	fresh, err := os.Stat(newFile)
	if err != nil {
		return err
	}
	grows := max(0, fresh.Size()-old.Size())
	return enoughSpace(need{path, old.Size() + max(old.Size(), fresh.Size()) + grows})
}

func overwrite(ctx context.Context, d disk, path, newFile string, opts OverwriteOptions) (done Swapped, err error) {
	real, err := realPath(path)
	if err != nil {
		return done, err
	}
	unlock, err := lockFor(ctx, real, opts.Lock)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if in, err := readIntent(real); err != nil || in != nil {
		return done, errors.Join(ErrInterrupted, err)
	}
	fresh, _, err := complete(newFile)
	if err != nil {
		return done, err
	}
	o := &overwriter{d: d, path: real, newFile: newFile, opts: opts}
	if err := o.open(ctx, fresh); err != nil {
		return done, errors.Join(err, o.close())
	}
	err = o.transfer(ctx)
	if err == nil {
		err = o.verify(ctx)
	}
	return Swapped{Quarantine: o.quarantine}, errors.Join(err, o.close())
}

// overwriter makes one overwrite.
type overwriter struct {
	d             disk
	path, newFile string
	opts          OverwriteOptions
	into          *conn
	reader        *conn // of the old content, while it is locked
	wal           bool
	version       int64  // of the content, as into has seen it
	quarantine    string // the folder, once the old content is in it
}

func (o *overwriter) close() error {
	var errs []error
	for _, c := range []*conn{o.reader, o.into} {
		if c != nil {
			errs = append(errs, c.close())
		}
	}
	return errors.Join(errs...)
}

func (o *overwriter) open(ctx context.Context, fresh header) (err error) {
	if o.into, err = openWithMain(ctx, o.path, openOptions{wait: o.opts.Wait}); err != nil {
		return err
	}
	var mode string
	var pageSize int64
	err = errors.Join(
		// The journal's name goes durably, or a power cut would roll the content back.
		o.into.exec(ctx, "PRAGMA synchronous=EXTRA"),
		o.into.row(ctx, "PRAGMA journal_mode", &mode),
		o.into.row(ctx, "PRAGMA page_size", &pageSize),
		o.into.row(ctx, "PRAGMA data_version", &o.version),
	)
	if err != nil {
		return err
	}
	o.wal = mode == "wal"
	if o.wal && pageSize != fresh.pageSize {
		return fmt.Errorf("%w: the table has pages of %d bytes and is in WAL mode, the new content has %d; stop the programs that "+
			"use the table, so that it can be swapped", ErrPageSize, pageSize, fresh.pageSize)
	}
	return nil
}

// copier is a driver connection that copies databases.
type copier interface {
	NewBackup(dsn string) (*sqlite.Backup, error)
	NewRestore(dsn string) (*sqlite.Backup, error)
}

// transfer writes the new content in one transaction.
func (o *overwriter) transfer(ctx context.Context) error {
	err := o.into.raw(func(driverConn any) error {
		restore, err := driverConn.(copier).NewRestore(dsn(o.newFile, openOptions{readOnly: true}) + "&immutable=1")
		if err != nil {
			return err
		}
		err = o.lock(ctx, restore)
		if err == nil {
			err = o.opts.Since.still(o.path)
		}
		if err == nil {
			err = o.keep(ctx)
		}
		if err == nil {
			err = steps(ctx, restore, o.opts.Progress)
		}
		return errors.Join(err, restore.Finish())
	})
	if err != nil && o.quarantine != "" {
		err = errors.Join(err, o.forget())
		o.quarantine = ""
	}
	return err
}

// lock takes the table's write lock: a step of no pages begins the transaction.
func (o *overwriter) lock(ctx context.Context, restore *sqlite.Backup) error {
	waiting, cancel := context.WithTimeout(ctx, o.opts.Wait)
	defer cancel()
	for {
		_, err := restore.Step(0)
		if err = classify(err); !errors.Is(err, ErrBusy) {
			return err
		}
		if pause(waiting, lockPoll) != nil {
			holders, _ := Holders(o.path) // for the message only
			return errors.Join(ctx.Err(), fmt.Errorf("%w (open in: %v)", err, holders))
		}
	}
}

// keep writes the present content to quarantine. The write lock is held, so that it stays the present content.
func (o *overwriter) keep(ctx context.Context) (err error) {
	// In WAL mode others read on beside a writer. Else the file is locked to everybody and has not been changed yet.
	source := dsn(o.path, openOptions{readOnly: true})
	if !o.wal {
		source += "&immutable=1"
	}
	if o.reader, err = connectTo(ctx, o.path, source); err != nil {
		return err
	}
	temporary := Temporary(o.path, "overwrite")
	if err := o.d.write(temporary, nil, 0o600); err != nil {
		return err
	}
	err = o.reader.raw(func(driverConn any) error {
		backup, err := driverConn.(copier).NewBackup(dsn(temporary, openOptions{}) + "&_pragma=synchronous(0)")
		if err != nil {
			return err
		}
		return errors.Join(steps(ctx, backup, nil), backup.Finish())
	})
	if err == nil {
		err = o.shelve(temporary)
	}
	if err != nil {
		return fmt.Errorf("keep the old content: %w", errors.Join(err, o.d.remove(temporary), o.d.remove(temporary+"-journal")))
	}
	return nil
}

// shelve moves the copy of the old content to its place.
func (o *overwriter) shelve(temporary string) error {
	if err := copyAttributes(o.path, temporary); err != nil {
		return err
	}
	if err := setWALMode(temporary, o.wal); err != nil {
		return err
	}
	if err := o.d.sync(temporary); err != nil {
		return err
	}
	now := o.opts.Now
	if now.IsZero() {
		now = time.Now()
	}
	dir, err := makeQuarantine(o.d, o.path, newQuarantineName(o.path, now, o.opts.Reason))
	if err != nil {
		return err
	}
	o.quarantine = dir
	if err := o.d.rename(temporary, filepath.Join(dir, filepath.Base(o.path))); err != nil {
		return err
	}
	return o.d.syncDir(dir)
}

// forget removes the copy of what is still in place.
func (o *overwriter) forget() error {
	return errors.Join(o.d.remove(filepath.Join(o.quarantine, filepath.Base(o.path))), o.d.remove(o.quarantine))
}

// connectTo opens a connection that looks at nothing beside the file.
func connectTo(ctx context.Context, path, dsn string) (*conn, error) {
	connector, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	c := &conn{path: path, pool: sql.OpenDB(connector)}
	c.pool.SetMaxOpenConns(1)
	if c.sql, err = c.pool.Conn(ctx); err != nil {
		return nil, errors.Join(classify(err), c.pool.Close())
	}
	return c, nil
}

// steps runs a copy to its end. The last step commits it.
func steps(ctx context.Context, copying *sqlite.Backup, progress func(done, total int64)) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		more, err := copying.Step(overwritePages)
		if err != nil {
			return classify(err)
		}
		if progress != nil {
			total := int64(copying.PageCount())
			progress(total-int64(copying.Remaining()), total)
		}
		if !more {
			return nil
		}
	}
}

// verify compares every page of the table with the new content. If others have written meanwhile, only the check of the
// whole is left.
func (o *overwriter) verify(ctx context.Context) error {
	// Readers may be in the way; then the WAL is folded in later, by whoever closes last.
	_ = o.into.exec(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return o.into.read(ctx, func() error {
		version, err := o.into.dataVersion(ctx)
		if err != nil {
			return err
		}
		if version == o.version {
			if err := o.into.sameAs(ctx, o.newFile); err != nil {
				return err
			}
		}
		problems, err := o.into.problems(ctx, CheckOptions{})
		if err == nil && len(problems) > 0 {
			err = &CorruptError{Path: o.path, Problems: problems}
		}
		return err
	})
}
