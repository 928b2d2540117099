package recover

import (
	"database/sql"
	"errors"
	"strings"
	"testing"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/shelf"
)

// mendScene is a table of other programs with a damaged index, and an SQL table that can still be written to. db is another program's connection.
func mendScene(t *testing.T) (f *functionstest.Fleet, r *Function, db *sql.DB) {
	t.Helper()
	f, r = foreign(t, 500)
	f.Exec("app", "CREATE TABLE notes (n INT); PRAGMA wal_checkpoint(TRUNCATE)")
	db, err := sql.Open("sqlite", f.Path("app"))
	f.Must(err)
	t.Cleanup(func() { f.Must(db.Close()) })
	db.SetMaxOpenConns(1)
	var leaf int64
	f.Must(db.QueryRowContext(t.Context(), "SELECT pageno FROM dbstat WHERE name = 'by_label' AND pagetype = 'leaf' LIMIT 1").Scan(&leaf))
	f.Damage(f.Path("app"), (leaf-1)*4096+3, "\x00\x01")
	f.Refresh()
	return f, r, db
}

func notes(t *testing.T, f *functionstest.Fleet) (n int) {
	t.Helper()
	db, err := sql.Open("sqlite", f.Path("app"))
	f.Must(err)
	f.Must(errors.Join(db.QueryRowContext(t.Context(), "SELECT count(*) FROM notes").Scan(&n), db.Close()))
	return n
}

// Another program commits a row after the damaged table was copied, and is told that it is durable. Whether it keeps the table open decides
// how the repaired file is put in place.
func TestNoCommitIsLostWhileAnAttachedTableIsMended(t *testing.T) {
	for _, open := range []bool{false, true} {
		t.Run(map[bool]string{false: "visitor", true: "open"}[open], func(t *testing.T) {
			f, r, db := mendScene(t)
			good := f.Rows(f.Path("app"))
			if !open {
				f.Must(db.Close())
			}
			begun := 0
			entry, err := r.Run(t.Context(), Event{Table: "app", Reason: "test"}, "app", functions.Progress{Phase: func(name string) func(int64) {
				if name == "swap" && begun == 0 { // everything is checked, and about to be put in place
					begun++
					f.Exec("app", "INSERT INTO notes VALUES (1)")
				}
				return func(int64) {}
			}})
			if err != nil || entry.Status != functions.Repaired || entry.Rung != RungReindex {
				t.Fatalf("%v: %s: %+v", err, rungs(entry), entry)
			}
			delete(f.Damaged, f.Path("app"))
			if f.Rows(f.Path("app")) != good {
				t.Error("the content is another one")
			}
			if n := notes(t, f); n != 1 {
				t.Errorf("%d rows, 1 was committed; the report says that %q is lost", n, entry.Lost)
			}
		})
	}
}

// Another program never stops writing: nothing of it is given up for the repair.
func TestATableThatIsWrittenToAllTheWhileIsLeft(t *testing.T) {
	f, r, _ := mendScene(t)
	wrote := 0
	entry, err := r.Run(t.Context(), Event{Table: "app", Reason: "test"}, "app", functions.Progress{Phase: func(name string) func(int64) {
		if name == "swap" {
			f.Exec("app", "INSERT INTO notes VALUES (1)")
			wrote++
		}
		return func(int64) {}
	}})
	var failure *functions.Failure
	if !errors.As(err, &failure) || !strings.Contains(failure.Try, "stop the programs") || wrote != mostAttempts {
		t.Fatalf("%d times: %v: %+v", wrote, err, entry)
	}
	if got, err := f.Shelf.Get("app"); err != nil || got.State != shelf.Suspect {
		t.Errorf("%v, %v", got.State, err)
	}
	if n := notes(t, f); n != wrote {
		t.Errorf("%d rows, %d were committed", n, wrote)
	}
}
