package table

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"tablekeeper/storage/ledger"
)

// follower is the copy in the making: it follows the table until it takes its place.
//
// It works on the new file, with the table attached, to read. Triggers are taken out of the copy's schema meanwhile, since
// their effects are captured like everything else. It writes through a WAL of its own, without another
// process's locks, so that the frames say which pages a round changed.
type follower struct {
	c        *conn
	path     string
	shapes   []*shape
	triggers []trigger
	tail     walTail
}

type trigger struct {
	rowid             int64
	name, table, text string
}

// follow opens the new file beside the table it is a copy of.
func follow(ctx context.Context, newFile, path string, shapes []*shape) (f *follower, err error) {
	main := openMain(newFile)
	c, err := connect(ctx, newFile, openOptions{private: true, bare: true})
	if err != nil {
		main.close()
		return nil, err
	}
	c.main = main
	f = &follower{c: c, path: newFile, shapes: shapes}
	if err := f.settings(ctx, path); err != nil {
		return nil, errors.Join(fmt.Errorf("open the copy: %w", err), f.close())
	}
	return f, nil
}

func (f *follower) settings(ctx context.Context, path string) error {
	if err := f.takeTriggers(ctx); err != nil {
		return err
	}
	var mode string
	if err := f.c.exec(ctx, "PRAGMA main.locking_mode=EXCLUSIVE"); err != nil {
		return err
	}
	if err := f.c.row(ctx, "PRAGMA main.journal_mode=WAL", &mode); err != nil || mode != "wal" {
		return errors.Join(fmt.Errorf("the copy stays in mode %q", mode), err)
	}
	for _, setting := range []string{"main.synchronous=OFF", "wal_autocheckpoint=0", "foreign_keys=OFF", "ignore_check_constraints=ON",
		"temp_store=MEMORY", "cache_size=-16384"} {
		if err := f.c.exec(ctx, "PRAGMA "+setting); err != nil {
			return err
		}
	}
	if err := f.c.exec(ctx, "ATTACH ? AS src", "file://"+escapePath(path)+"?mode=ro"); err != nil {
		return err
	}
	return f.begun(ctx)
}

// begun empties the WAL into the file, so that the next frames are those of the next round.
func (f *follower) begun(ctx context.Context) error {
	var size int64
	if err := f.c.row(ctx, "PRAGMA main.page_size", &size); err != nil {
		return err
	}
	if err := f.c.exec(ctx, "PRAGMA main.user_version=0"); err != nil { // makes the WAL; apply sets the right one
		return err
	}
	file, err := os.Open(f.path + "-wal")
	if err != nil {
		return err
	}
	f.tail = walTail{file: file, pageSize: size}
	return f.checkpoint(ctx)
}

// takeTriggers takes the triggers out of the schema. They go back to the same places, so that they fire in the same order as before.
func (f *follower) takeTriggers(ctx context.Context) error {
	err := f.c.each(ctx, "SELECT rowid, name, tbl_name, sql FROM sqlite_schema WHERE type = 'trigger'", nil, func(scan func(...any) error) error {
		var t trigger
		if err := scan(&t.rowid, &t.name, &t.table, &t.text); err != nil {
			return err
		}
		f.triggers = append(f.triggers, t)
		return nil
	})
	if err != nil || len(f.triggers) == 0 {
		return err
	}
	for _, statement := range []string{"PRAGMA writable_schema=ON", "DELETE FROM sqlite_schema WHERE type = 'trigger'", "PRAGMA writable_schema=RESET"} {
		if err := f.c.exec(ctx, statement); err != nil {
			return fmt.Errorf("take the triggers out of the copy: %w", err)
		}
	}
	return nil
}

func (f *follower) putTriggers(ctx context.Context) error {
	if len(f.triggers) == 0 {
		return nil
	}
	if err := f.c.exec(ctx, "PRAGMA writable_schema=ON"); err != nil {
		return err
	}
	for _, t := range f.triggers {
		err := f.c.exec(ctx, "INSERT INTO main.sqlite_schema(rowid, type, name, tbl_name, rootpage, sql) VALUES (?, 'trigger', ?, ?, 0, ?)", t.rowid, t.name, t.table, t.text)
		if err != nil {
			return fmt.Errorf("put trigger %s into the copy: %w", t.name, err)
		}
	}
	f.triggers = nil
	return f.c.exec(ctx, "PRAGMA writable_schema=OFF")
}

// begin fixes the state of the table that the next apply carries over.
func (f *follower) begin(ctx context.Context) error {
	if err := f.c.exec(ctx, "BEGIN"); err != nil {
		return err
	}
	var n int64
	if err := f.c.row(ctx, "SELECT count(*) FROM src.sqlite_schema", &n); err != nil {
		return errors.Join(err, f.rollback(ctx))
	}
	return nil
}

func (f *follower) rollback(ctx context.Context) error {
	return f.c.exec(context.WithoutCancel(ctx), "ROLLBACK")
}

// apply makes the rows in set what they are in the table, then commits. All deletes come before all inserts, so that neither
// order nor UNIQUE constraints get in the way. compare counts the rows on both sides before.
func (f *follower) apply(ctx context.Context, set *touched, compare bool) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("carry %d rows over: %w", set.n, err), f.rollback(ctx))
		}
	}()
	for _, step := range []struct{ whole, insert bool }{{false, false}, {false, true}, {true, false}, {true, true}} {
		for _, s := range f.shapes {
			if s.whole != step.whole { // sqlite_sequence comes last: inserts change it
				continue
			}
			if err := f.carry(ctx, s, set, step.insert); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	for _, name := range []string{"user_version", "application_id"} {
		var v int64
		if err := f.c.row(ctx, "PRAGMA src."+name, &v); err != nil {
			return err
		}
		if err := f.c.exec(ctx, fmt.Sprintf("PRAGMA main.%s=%d", name, v)); err != nil {
			return err
		}
	}
	if compare {
		if err := f.same(ctx); err != nil {
			return err
		}
	}
	return f.c.exec(ctx, "COMMIT")
}

// carriedAtOnce is how many rows one statement carries over.
const carriedAtOnce = 20_000

func (f *follower) carry(ctx context.Context, s *shape, set *touched, insert bool) error {
	switch {
	case s.whole:
		return f.move(ctx, s, "", insert)
	case s.keyed():
		for _, key := range set.keys[s.name] {
			where, args := s.condition(key)
			if err := f.move(ctx, s, " WHERE "+where, insert, args...); err != nil {
				return err
			}
		}
		return nil
	}
	ids := make([]int64, 0, len(set.rowids[s.name]))
	for id := range set.rowids[s.name] {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for some := range slices.Chunk(ids, carriedAtOnce) {
		if err := f.move(ctx, s, " WHERE "+s.rowid+" IN (SELECT value FROM json_each(?))", insert, list(some)); err != nil {
			return err
		}
	}
	return nil
}

// move deletes rows from the copy, or inserts them as they are in the table.
func (f *follower) move(ctx context.Context, s *shape, where string, insert bool, args ...any) error {
	name, verb := quote(s.name), "INSERT"
	if !insert {
		return f.c.exec(ctx, "DELETE FROM main."+name+where, args...)
	}
	if s.keyed() { // two keys of the set may be equal by a collation, and select the same row
		verb = "INSERT OR IGNORE"
	}
	return f.c.exec(ctx, verb+" INTO main."+name+"("+s.written()+") SELECT "+s.written()+" FROM src."+name+where, args...)
}

func list(ids []int64) string {
	b := []byte{'['}
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, id, 10)
	}
	return string(append(b, ']'))
}

// same compares the number of rows of each SQL table, in the snapshot of begin and with everything carried over.
func (f *follower) same(ctx context.Context) error {
	var problems []string
	for _, s := range f.shapes {
		var was, is int64
		if err := f.c.row(ctx, "SELECT count(*) FROM src."+quote(s.name), &was); err != nil {
			return err
		}
		if err := f.c.row(ctx, "SELECT count(*) FROM main."+quote(s.name), &is); err != nil {
			return err
		}
		if was != is {
			problems = append(problems, fmt.Sprintf("%s has %d rows, its copy %d", s.name, was, is))
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("%w: %s", errCopyDiffers, strings.Join(problems, "; "))
	}
	return nil
}

// errCopyDiffers: the copy is not the table. The table itself is untouched.
var errCopyDiffers = errors.New("the compacted copy differs from the table")

// checkpoint moves the rounds into the new file, and starts the WAL anew. It returns with an empty WAL.
func (f *follower) checkpoint(ctx context.Context) error {
	var busy, frames, moved int64
	if err := f.c.row(ctx, "PRAGMA main.wal_checkpoint(TRUNCATE)", &busy, &frames, &moved); err != nil {
		return err
	}
	if busy != 0 || frames != moved {
		return fmt.Errorf("move %d frames into the copy: %d were moved: %w", frames, moved, ErrBusy)
	}
	return nil
}

// shrink gives the page caches back, each page of which is an unmapping to the system: 10 ms, if only the close does it.
func (f *follower) shrink(ctx context.Context) error { return f.c.exec(ctx, "PRAGMA shrink_memory") }

// frames are those of the last round, to be read before its checkpoint.
func (f *follower) frames() ([]ledger.Frame, error) { return f.tail.read(math.MaxInt64) }

func (f *follower) close() error {
	err := closeConn(f.c)
	if f.tail.file != nil {
		err = errors.Join(err, f.tail.file.Close())
	}
	f.c, f.tail.file = nil, nil
	return err
}
