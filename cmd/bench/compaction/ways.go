package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"tablekeeper/storage/table"
)

// ways are those of compacting a table, worst first.
var ways = []string{"vacuum", "copy in", "in place", "slices", "online"}

const (
	offered  = 2 * time.Millisecond // between two writes
	baseline = 5 * time.Second      // of writes without a compaction
	after    = time.Second          // of writes when it is done: what was replaced is being freed
	patience = 10 * time.Minute
)

// user is how the writer and the reader get at the table.
type user struct {
	write   func(id int) error
	read    func(id int) error
	compact func(ctx context.Context, progress func(phase string, done, total int64)) (table.Compaction, error)
	close   func() error
}

func measure(ctx context.Context, way, path, profile string) (m measured, err error) {
	u, err := open(ctx, way, path)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, u.close()) }()
	rows, err := lastRow(ctx, path)
	if err != nil {
		return m, err
	}
	m.Way, m.BytesThen = way, sizeOf(path)
	idle := begin(u, rows, offered)
	time.Sleep(baseline)
	writes, _, err := idle.end()
	if err != nil {
		return m, err
	}
	_, m.IdleP99, m.IdleMax = quantiles(durations(writes))
	perSecond := float64(len(writes)) / baseline.Seconds()

	endProfile, err := beginProfile(profile, way)
	if err != nil {
		return m, err
	}
	busy := begin(u, rows, offered)
	var phases phases
	start := time.Now()
	report, err := u.compact(ctx, phases.tell)
	took := time.Since(start)
	phases.tell("afterwards", 0, 0)
	time.Sleep(after)
	during, reads, usersErr := busy.end()
	if err := errors.Join(err, usersErr, endProfile()); err != nil {
		return m, err
	}
	m.WallUS, m.Writes = took.Microseconds(), len(during)
	m.Share = float64(len(during)) / (took + after).Seconds() / perSecond
	m.P50, m.P99, m.Max = quantiles(durations(during))
	m.MaxIn = phases.at(longest(during))
	_, _, m.ReadMax = quantiles(durations(reads))
	m.CutUS, m.HeldMS, m.Disk, m.Status = report.CutUS, report.BlockedMS, report.DiskNeeded, report.Status
	if report.Reason != "" {
		m.Status += " (" + report.Reason + ": " + report.Note + ")"
	}
	m.BytesNow = sizeOf(path)
	return m, nil
}

func open(ctx context.Context, way, path string) (user, error) {
	if way == "online" {
		return openOwned(ctx, path)
	}
	db, err := sql.Open("sqlite", fmt.Sprintf("file:%s?_busy_timeout=%d&_pragma=synchronous(full)&_txlock=immediate", path, patience.Milliseconds()))
	if err != nil {
		return user{}, err
	}
	opts := table.CompactOptions{Force: true, MaxPause: patience, Wait: patience}
	u := user{close: db.Close,
		write: func(id int) error { return writeOne(db.Exec, id) },
		read:  func(id int) error { return readOne(db.QueryRow, id) },
		compact: func(ctx context.Context, progress func(string, int64, int64)) (table.Compaction, error) {
			opts.Progress = progress
			return table.Compact(ctx, path, opts)
		}}
	if way == "copy in" {
		return u.atTheWorstMoment(), nil
	}
	if way == "slices" {
		opts.MaxPause = time.Second
	}
	if way == "vacuum" {
		u.compact = func(ctx context.Context, _ func(string, int64, int64)) (c table.Compaction, err error) {
			_, err = db.ExecContext(ctx, "VACUUM")
			if err == nil {
				_, err = db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
			}
			c.Status = table.Compacted
			return c, err
		}
	}
	return u, nil
}

// atTheWorstMoment has the writer rest until the pages are put in: of a table that is written all the while, no copy is put in.
func (u user) atTheWorstMoment() user {
	write, compact := u.write, u.compact
	var resting atomic.Bool
	u.write = func(id int) error {
		if resting.Load() {
			return nil
		}
		return write(id)
	}
	u.compact = func(ctx context.Context, progress func(string, int64, int64)) (table.Compaction, error) {
		resting.Store(true)
		return compact(ctx, func(phase string, done, total int64) {
			if phase == "compact" && done > 0 {
				resting.Store(false)
			}
			progress(phase, done, total)
		})
	}
	return u
}

func openOwned(ctx context.Context, path string) (user, error) {
	handle, err := table.Open(ctx, path, table.Options{})
	if err != nil {
		return user{}, err
	}
	return owned(ctx, handle), nil
}

func owned(ctx context.Context, handle *table.Table) user {
	return user{close: handle.Close,
		write: func(id int) error {
			return handle.Write(ctx, func(tx *sql.Tx) error { return writeOne(tx.Exec, id) })
		},
		read: func(id int) error {
			return handle.Read(ctx, func(tx *sql.Tx) error { return readOne(tx.QueryRow, id) })
		},
		compact: func(ctx context.Context, progress func(string, int64, int64)) (table.Compaction, error) {
			return handle.Compact(ctx, table.CompactOptions{Force: true, Progress: progress})
		}}
}

func writeOne(exec func(string, ...any) (sql.Result, error), id int) error {
	_, err := exec("UPDATE t SET v = randomblob(900) WHERE id = ?", id)
	return err
}

func readOne(query func(string, ...any) *sql.Row, id int) error {
	var n int
	return query("SELECT count(*) FROM t WHERE id = ?", id).Scan(&n)
}

func lastRow(ctx context.Context, path string) (n int, err error) {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return 0, err
	}
	err = db.QueryRowContext(ctx, "SELECT max(id) FROM t").Scan(&n)
	return n, errors.Join(err, db.Close())
}

func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
