package table

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

const (
	copyBlock    = 1 << 20 // bytes between two looks at the clock
	copyRestarts = 4       // times that a commit in between may undo the work before the copy is made at one go
)

// stepPause is how long one step of work in steps keeps a lock, of a budget.
func stepPause(budget time.Duration) time.Duration { return min(budget/4, 50*time.Millisecond) }

// snapshotOfCopy copies a table with a rollback journal, and takes the snapshot of the copy.
func snapshotOfCopy(ctx context.Context, path string, opts SnapshotOptions, use func(context.Context, *Snapshot) error) (err error) {
	if err := MakeStateDir(path); err != nil {
		return err
	}
	temporary := Temporary(path, "snapshot")
	f, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return diskFull(err)
	}
	defer func() {
		for _, ending := range append([]string{""}, sidecars...) {
			err = errors.Join(err, disk{}.remove(temporary+ending))
		}
	}()
	if err := errors.Join(copyTable(ctx, path, f, opts), diskFull(f.Close())); err != nil {
		return err
	}
	return snapshot(ctx, path, temporary, openOptions{private: true}, opts, use)
}

// tableCopy is a copy in the making. In a rollback-journal table the main file is the database whenever a read lock is
// held, so it is read without SQLite, which keeps the lock shorter.
type tableCopy struct {
	conn     *conn
	from, to *os.File
	stats    Stats
	free     []byte
	version  int64 // of the data, as this connection sees it
	next     int64 // page to be copied, from 0
	buffer   []byte
	progress func(phase string, done, total int64)
	yield    func(ctx context.Context, d time.Duration) error // between two steps, for the writers
}

func copyTable(ctx context.Context, path string, to *os.File, opts SnapshotOptions) error {
	c, err := open(ctx, path, openOptions{wait: opts.wait()})
	if err != nil {
		return err
	}
	from, _, err := openFile(path)
	if err != nil {
		return errors.Join(err, c.close())
	}
	t := &tableCopy{conn: c, from: from, to: to, buffer: make([]byte, copyBlock), progress: opts.Progress, yield: pause}
	if t.progress == nil {
		t.progress = func(string, int64, int64) {}
	}
	err = t.run(ctx, opts.pause())
	// The connection first: without OFD locks, closing the file would drop its locks.
	return errors.Join(err, c.close(), from.Close())
}

// run copies in steps, and at one go when others keep committing.
func (t *tableCopy) run(ctx context.Context, budget time.Duration) error {
	step := stepPause(budget)
	var restarts int
	for {
		last := restarts >= copyRestarts
		if last {
			step = budget
		}
		done, restarted, err := t.step(ctx, step)
		switch {
		case err != nil:
			return err
		case done:
			return t.to.Truncate(t.stats.PageCount * t.stats.PageSize)
		case last:
			return fmt.Errorf("%w: others commit all the time, and copying %d bytes took longer than %v at once; put it into WAL mode or allow a longer pause",
				ErrWouldBlock, t.stats.UsedBytes(), budget)
		case restarted:
			restarts++
		}
		if err := t.yield(ctx, step/2); err != nil {
			return err
		}
	}
}

// step copies for as long as step, under one read lock.
func (t *tableCopy) step(ctx context.Context, step time.Duration) (done, restarted bool, err error) {
	err = t.conn.read(ctx, func() error {
		var version int64
		if err := t.conn.row(ctx, "PRAGMA data_version", &version); err != nil {
			return err
		}
		until := time.Now().Add(step)
		if t.free == nil || version != t.version {
			restarted = t.free != nil
			t.version, t.next = version, 0
			if err := t.begin(ctx); err != nil {
				return err
			}
		}
		for t.next < t.stats.PageCount {
			if err := t.block(ctx); err != nil {
				return err
			}
			if !time.Now().Before(until) {
				break
			}
		}
		done = t.next >= t.stats.PageCount
		return nil
	})
	return done, restarted, err
}

func (t *tableCopy) begin(ctx context.Context) (err error) {
	if t.stats, err = t.conn.stats(ctx); err != nil {
		return err
	}
	if err := enoughSpace(need{t.to.Name(), t.stats.UsedBytes()}); err != nil {
		return err
	}
	if t.free, err = t.conn.freeMap(ctx, t.stats); err != nil {
		return err
	}
	return diskFull(t.to.Truncate(0))
}

// block copies as much as fits into the buffer. Free pages stay holes.
func (t *tableCopy) block(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	size := t.stats.PageSize
	for t.next < t.stats.PageCount && t.free[t.next] == 1 {
		t.next++
	}
	run := int64(0)
	for most := int64(len(t.buffer)) / size; run < most && t.next+run < t.stats.PageCount && t.free[t.next+run] == 0; {
		run++
	}
	b := t.buffer[:run*size]
	if _, err := t.from.ReadAt(b, t.next*size); err != nil {
		if errors.Is(err, io.EOF) {
			return &CorruptError{t.stats.Path, []string{fmt.Sprintf("the file ends before page %d of %d", t.next+run, t.stats.PageCount)}}
		}
		return err
	}
	if _, err := t.to.WriteAt(b, t.next*size); err != nil {
		return diskFull(err)
	}
	t.next += run
	t.progress("copy", t.next*size, t.stats.PageCount*size)
	return nil
}
