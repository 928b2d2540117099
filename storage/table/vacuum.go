package table

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
)

const (
	strategyVacuum = "vacuum"
	strategySlices = "slices"

	// vacuumPoll is how often the write lock is asked for.
	vacuumPoll = 3 * time.Millisecond
	// writeShare is the part of a VACUUM that cannot be interrupted: from a third to two thirds of it, measured.
	writeShare = 0.6
)

// plan chooses the strategy, and predicts the pause and the space that it takes. A VACUUM that nobody notices needs no copy, which
// costs time, and is of no use if somebody writes meanwhile.
func (k *compaction) plan() {
	switch {
	case k.opts.Convert != "" && k.before.AutoVacuum != "none" && k.opts.Convert != "none":
		k.Strategy, k.PredictedPauseMS = strategyHeader, headerPause.Milliseconds()
	case k.before.AutoVacuum == "incremental" && k.FreeBefore > 0 && k.opts.Convert == "":
		k.Strategy, k.PredictedPauseMS = strategySlices, stepPause(k.opts.MaxPause).Milliseconds()
	case k.vacuumPause() <= min(ownedPause, k.opts.MaxPause):
		k.planVacuum()
	default:
		k.planCopyIn()
	}
	k.addUp()
}

func (k *compaction) planCopyIn() {
	k.Strategy, k.PredictedPauseMS = strategyCopyIn, k.putInPause().Milliseconds()
}

func (k *compaction) planVacuum() {
	k.Strategy, k.PredictedPauseMS = strategyVacuum, k.vacuumPause().Milliseconds()
}

func (k *compaction) vacuumPause() time.Duration {
	return pauseAt(readPace(k.path).Vacuum, k.before.UsedBytes())
}

func (k *compaction) putInPause() time.Duration {
	return pauseAt(readPace(k.path).PutIn, k.before.UsedBytes())
}

func (k *compaction) addUp() {
	k.DiskNeeded = 0
	for _, n := range k.needs() {
		k.DiskNeeded += n.bytes
	}
}

// needs is the space that SQLite takes meanwhile. A slice takes a journal or a WAL of what it moves, and in a table with a rollback
// journal the check takes a copy. A VACUUM makes a copy among SQLite's temporary files; then it needs a journal for all that was
// in the file, or a WAL for all that will be. A copy that is put in is beside the table.
func (k *compaction) needs() []need {
	used, all := k.before.UsedBytes(), k.before.PageCount*k.before.PageSize
	wal := k.before.JournalMode == "wal"
	frames := used + used/k.before.PageSize*walFrameSize
	switch {
	case k.Strategy == strategyOnline:
		return []need{{k.path, used + used/10}} // a copy beside it, and rounds of catching up
	case k.Strategy == strategyHeader:
		return []need{{k.path, 16 * k.before.PageSize}}
	case k.Strategy == strategySlices && wal:
		return []need{{k.path, min(frames, mostSlice*2*k.before.PageSize)}}
	case k.Strategy == strategySlices:
		return []need{{k.path, used}}
	case k.Strategy == strategyCopyIn && wal:
		return []need{{k.path, used + frames}}
	case k.Strategy == strategyCopyIn:
		return []need{{k.path, 2*used + all}} // it is copied page by page before
	case wal:
		return []need{{tempDir(), used}, {k.path, frames}}
	default:
		return []need{{tempDir(), used}, {k.path, all}}
	}
}

// vacuum runs a VACUUM as soon as the write lock is free.
func (k *compaction) vacuum(ctx context.Context) error {
	var cookie int64
	if err := k.conn.row(ctx, "PRAGMA schema_version", &cookie); err != nil {
		return err
	}
	if err := k.conn.convert(ctx, k.opts.Convert); err != nil {
		return err
	}
	// Without a wait inside, the time that the statement takes is the time that it held the lock.
	if err := k.conn.patience(ctx, 0); err != nil {
		return err
	}
	k.opts.Progress("compact", 0, 1)
	for until := time.Now().Add(k.opts.Wait); ; {
		held, err := k.tryVacuum(ctx, cookie)
		if err == nil {
			k.blocked(held)
			k.opts.Progress("compact", 1, 1)
			learnPace(k.path, pace{Vacuum: speed(k.before.UsedBytes(), held)})
			return nil
		}
		if !errors.Is(err, ErrBusy) {
			k.blocked(held)
			return err
		}
		if time.Now().After(until) {
			return err
		}
		if err := pause(ctx, vacuumPoll); err != nil {
			return err
		}
	}
}

// tryVacuum runs one VACUUM, whose copying may take what the prediction leaves for it.
func (k *compaction) tryVacuum(ctx context.Context, cookie int64) (held time.Duration, err error) {
	predicted := time.Duration(k.PredictedPauseMS) * time.Millisecond
	limit := k.opts.MaxPause - time.Duration(writeShare*float64(predicted))
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start := time.Now()
	err = k.conn.exec(bounded, "VACUUM")
	held = time.Since(start)
	if err == nil || bounded.Err() == nil {
		return held, err
	}
	// The driver says that it was interrupted also if that came too late: VACUUM raises the schema's version when it is done.
	var now int64
	if e := k.conn.row(context.WithoutCancel(ctx), "PRAGMA schema_version", &now); e == nil && now != cookie {
		return held, nil
	}
	if ctx.Err() != nil {
		return held, ctx.Err()
	}
	// Next time, the prediction says so at once.
	learnPace(k.path, pace{Vacuum: speed(k.before.UsedBytes(), 2*k.opts.MaxPause)})
	return held, fmt.Errorf("%w: the VACUUM was interrupted after %v; about %v were predicted, %v are allowed",
		ErrWouldBlock, held.Round(time.Millisecond), predicted, k.opts.MaxPause)
}

// checkpoint moves the WAL into the file, which shrinks only then. Most of it keeps nobody waiting; the rest, which does, is tried
// briefly until readers of older states are gone or we have waited enough.
func (k *compaction) checkpoint(ctx context.Context, c *conn) error {
	k.opts.Progress("checkpoint", 0, 1)
	if err := c.patience(ctx, stepPause(k.opts.MaxPause)); err != nil {
		return err
	}
	for until := time.Now().Add(k.opts.Wait); ; {
		var busy, frames, moved int64
		if err := c.row(ctx, "PRAGMA wal_checkpoint(PASSIVE)", &busy, &frames, &moved); err != nil {
			return err
		}
		if busy == 0 && frames == moved {
			start := time.Now()
			if err := c.row(ctx, "PRAGMA wal_checkpoint(TRUNCATE)", &busy, &frames, &moved); err != nil {
				return err
			}
			k.blocked(time.Since(start))
			if busy == 0 {
				k.opts.Progress("checkpoint", 1, 1)
				return nil
			}
		}
		if time.Now().After(until) {
			k.note("readers keep the WAL from being emptied")
			return nil
		}
		if err := pause(ctx, stepPause(k.opts.MaxPause)); err != nil {
			return err
		}
	}
}

// refersToRowids finds SQL that is likely to use rowids: by name, or as the content of a full-text index.
var refersToRowids = regexp.MustCompile(`(?i)\b(rowid|_rowid_|oid|docid)\b|\bcontent\s*=`)

// renumbers lists the SQL tables whose rowids a VACUUM would change. SQLite renumbers, from 1, those that have no INTEGER PRIMARY KEY; up to
// 3.54 it spares those with an index, without a promise. VACUUM INTO changes none.
func (k *compaction) renumbers(ctx context.Context) (moving []string, err error) {
	names, err := k.conn.names(ctx, `SELECT t.name FROM pragma_table_list t WHERE t.schema = ? AND t.type = 'table' AND NOT t.wr
		AND t.name NOT LIKE 'sqlite\_%' ESCAPE '\' AND NOT EXISTS (SELECT 1 FROM pragma_index_list(t.name))
		AND NOT (SELECT count(*) = 1 AND max(upper(p.type)) = 'INTEGER' FROM pragma_table_info(t.name) p WHERE p.pk > 0)`, "main")
	for _, name := range names {
		moves, err := k.moves(ctx, name)
		if err != nil {
			return nil, err
		}
		if moves {
			moving = append(moving, name)
		}
	}
	return moving, err
}

// spareRowids has a table that a VACUUM would renumber compacted by a copy, which does not.
func (k *compaction) spareRowids(ctx context.Context) error {
	moving, err := k.renumbers(ctx)
	if err != nil || len(moving) == 0 {
		return err
	}
	if k.putInPause() > k.opts.MaxPause {
		return k.rowids(ctx, moving)
	}
	k.planCopyIn()
	k.addUp()
	return k.room()
}

// rowids refuses to renumber what the schema refers to, unless forced.
func (k *compaction) rowids(ctx context.Context, moving []string) error {
	for _, name := range moving {
		used, err := k.rowidsUsed(ctx, name)
		if err != nil {
			return err
		}
		if used && !k.opts.Force {
			k.skip(RowidsInUse, "the schema refers to rowids of %s, and they would change: give it an INTEGER PRIMARY KEY, or force it", name)
			return nil
		}
		k.note("rowids of %s are renumbered", name)
	}
	return nil
}

// rowidsUsed reports whether an index, trigger, view or virtual table mentions this SQL table, and rowids.
func (k *compaction) rowidsUsed(ctx context.Context, name string) (bool, error) {
	schema, err := k.conn.names(ctx, `SELECT CAST(sql AS TEXT) AS name FROM sqlite_schema
		WHERE (type <> 'table' OR ifnull(rootpage, 0) = 0) AND instr(lower(sql), lower(?)) > 0`, name)
	if err != nil {
		return false, err
	}
	mentions, err := regexp.Compile(`(?i)(^|\W)` + regexp.QuoteMeta(name) + `(\W|$)`)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(schema, func(sql string) bool {
		return refersToRowids.MatchString(sql) && mentions.MatchString(sql)
	}), nil
}

// moves reports whether the rowids of an SQL table are other than 1, 2, 3 and so on.
func (k *compaction) moves(ctx context.Context, name string) (bool, error) {
	var n, first, last int64
	err := k.conn.row(ctx, "SELECT count(*), ifnull(min(_rowid_), 1), ifnull(max(_rowid_), 0) FROM "+quote(name), &n, &first, &last)
	if isPlainError(err) {
		return true, nil // a column has that name
	}
	return first != 1 || last != n, err
}
