package table

import (
	"context"
	"errors"
	"fmt"
	"time"

	"modernc.org/sqlite"
)

const (
	putInPages = 512     // pages between two looks at the clock
	putInCache = 8 << 20 // bytes of page cache
	// commitShare is the part of putting the pages in that cannot be interrupted: the last pages and the syncs.
	commitShare = 0.3
)

// putIn takes the write lock as soon as it is free, proves that the copy is still one of the table, and puts it in.
func (c *copyIn) putIn(ctx context.Context) error {
	c.opts.Progress("compact", 0, 1)
	// Without a wait inside, the time that a step takes is time that it had the lock.
	if err := c.into.patience(ctx, 0); err != nil {
		return err
	}
	for until := time.Now().Add(c.opts.Wait); ; {
		err := c.into.raw(func(driverConn any) error { return c.tryPutIn(ctx, driverConn.(copier)) })
		if !errors.Is(err, ErrBusy) || time.Now().After(until) {
			return err
		}
		if err := pause(ctx, vacuumPoll); err != nil {
			return err
		}
	}
}

func (c *copyIn) tryPutIn(ctx context.Context, driverConn copier) error {
	restore, err := driverConn.NewRestore(dsn(c.file, openOptions{readOnly: true}) + "&immutable=1")
	if err != nil {
		return classify(err)
	}
	if _, err := restore.Step(0); err != nil { // takes the lock, copies nothing
		return errors.Join(classify(err), restore.Finish())
	}
	start := time.Now()
	err = c.same(ctx)
	if err == nil {
		err = c.transfer(ctx, restore, start)
	}
	err = errors.Join(err, restore.Finish()) // rolls back what is not committed
	held := time.Since(start)
	c.blocked(held)
	if err == nil {
		c.opts.Progress("compact", 1, 1)
		learnPace(c.path, pace{PutIn: speed(c.compaction.before.UsedBytes(), held)})
	}
	return err
}

// same proves, under the write lock, that nobody has committed since before the copy was begun. In a table with a rollback journal
// the lock keeps readers out, too; there, each commit changes the counter in the header, which is what SQLite itself goes by.
func (c *copyIn) same(ctx context.Context) error {
	now, err := c.mark(c.state.version)
	if err == nil && now.wal {
		now.version, err = c.conn.dataVersion(ctx)
	}
	if err == nil && now != c.state {
		err = errMoved
	}
	return err
}

// transfer puts all pages in. The last step commits.
func (c *copyIn) transfer(ctx context.Context, restore *sqlite.Backup, start time.Time) (err error) {
	beside := "-journal"
	if c.state.wal {
		beside = "-wal"
	}
	even := evenOut(c.path + beside)
	defer func() { err = errors.Join(err, even()) }()
	predicted := time.Duration(c.PredictedPauseMS) * time.Millisecond
	limit := c.opts.MaxPause - time.Duration(commitShare*float64(predicted))
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if took := time.Since(start); took > limit {
			// Next time, the prediction says so at once.
			learnPace(c.path, pace{PutIn: speed(c.compaction.before.UsedBytes(), 2*c.opts.MaxPause)})
			return fmt.Errorf("%w: putting the pages in was interrupted after %v; about %v were predicted, %v are allowed",
				ErrWouldBlock, took.Round(time.Millisecond), predicted, c.opts.MaxPause)
		}
		more, err := restore.Step(putInPages)
		if err != nil {
			return classify(err)
		}
		if !more {
			return nil
		}
		c.opts.Progress("compact", int64(restore.PageCount()-restore.Remaining()), int64(restore.PageCount()))
	}
}

// settle moves the WAL into the file and reads every page back.
func (c *copyIn) settle(ctx context.Context) error {
	if c.state.wal && !c.owned {
		// On this connection, or the checkpoint would look like a commit of somebody else to it.
		if err := c.checkpoint(ctx, c.into); err != nil {
			return err
		}
	}
	c.opts.Progress("verify", 0, 1)
	if err := c.into.patience(ctx, c.opts.Wait); err != nil {
		return err
	}
	compare := func() error { return c.into.read(ctx, func() error { return c.compare(ctx) }) }
	if err := inBackground(compare); err != nil {
		return err
	}
	c.opts.Progress("verify", 1, 1)
	return nil
}

// compare compares every page of the table with the copy, unless others have committed meanwhile.
func (c *copyIn) compare(ctx context.Context) error {
	now, err := c.into.dataVersion(ctx)
	if err != nil {
		return err
	}
	if now != c.own {
		c.note("pages were not read back: others committed meanwhile")
		return nil
	}
	return c.into.sameAs(ctx, c.file)
}
