package table

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	firstSlice = 16   // pages, to learn what they cost
	mostSlice  = 8192 // pages
	slicesWAL  = 4096 // pages freed between two checkpoints
)

// slices gives free pages back a few at a time, each slice a transaction of its own, sized so that the write lock is held far
// shorter than allowed. Between two slices the lock is free for as long as it was held.
func (k *compaction) slices(ctx context.Context) error {
	target := stepPause(k.opts.MaxPause)
	size, freed, sinceCheckpoint := int64(firstSlice), int64(0), int64(0)
	for freed < k.FreeBefore {
		n, held, err := k.slice(ctx, size)
		k.blocked(held)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		freed, sinceCheckpoint = freed+n, sinceCheckpoint+n
		k.opts.Progress("compact", freed, k.FreeBefore)
		if sinceCheckpoint >= slicesWAL && k.before.JournalMode == "wal" {
			sinceCheckpoint = 0
			if err := k.conn.exec(ctx, "PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
				return err
			}
		}
		size = nextSlice(size, held, target)
		if err := pause(ctx, max(held, time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// nextSlice steers the time that a slice takes towards the target: at most twice as many pages, at least a quarter.
func nextSlice(size int64, held, target time.Duration) int64 {
	factor := min(2, max(0.25, float64(target)/float64(max(held, time.Microsecond))))
	return min(mostSlice, max(1, int64(float64(size)*factor)))
}

// slice gives back up to size pages. It waits for the write lock, and for readers that keep a commit from being written.
func (k *compaction) slice(ctx context.Context, size int64) (freed int64, held time.Duration, err error) {
	until := time.Now().Add(k.opts.Wait)
	for {
		freed, held, err = k.trySlice(ctx, size)
		k.blocked(held)
		if !errors.Is(err, ErrBusy) || time.Now().After(until) {
			return freed, held, err
		}
		if err := pause(ctx, vacuumPoll); err != nil {
			return 0, held, err
		}
	}
}

func (k *compaction) trySlice(ctx context.Context, size int64) (freed int64, held time.Duration, err error) {
	// Readers of a rollback-journal table hold up our commit, and that holds up others: not for long.
	if err := k.conn.patience(ctx, stepPause(k.opts.MaxPause)); err != nil {
		return 0, 0, err
	}
	var before, after int64
	if err := k.conn.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return 0, 0, err
	}
	start := time.Now()
	bounded, cancel := context.WithTimeout(ctx, k.opts.MaxPause)
	defer cancel()
	err = k.conn.row(bounded, "PRAGMA freelist_count", &before)
	if err == nil {
		err = k.conn.exec(bounded, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", size))
	}
	if err == nil {
		err = k.conn.row(bounded, "PRAGMA freelist_count", &after)
	}
	if err == nil {
		err = k.conn.exec(bounded, "COMMIT")
	}
	if err != nil {
		_ = k.conn.exec(context.WithoutCancel(ctx), "ROLLBACK") // or it is rolled back already
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			err = fmt.Errorf("%w: %d pages took longer than %v", ErrWouldBlock, size, k.opts.MaxPause)
		}
	}
	return before - after, time.Since(start), err
}

func (k *compaction) blocked(held time.Duration) {
	k.BlockedMS = max(k.BlockedMS, held.Milliseconds())
}
