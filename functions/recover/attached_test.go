package recover

import (
	"database/sql"
	"errors"
	"os"
	"strings"
	"testing"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/shelf"
)

// foreign is a fleet with a table of other programs.
func foreign(t *testing.T, rows int) (*functionstest.Fleet, *Function) {
	f := functionstest.New(t)
	f.Make("app", rows)
	return f, New(Config{Shelf: f.Shelf, Sources: []Source{{Catalogue: f.Catalogue, Bucket: functionstest.BucketName}}, Now: f.Now})
}

func run(t *testing.T, f *functionstest.Fleet, r *Function, event Event) (Entry, error) {
	t.Helper()
	f.Refresh()
	event.Table = "app"
	return r.Run(t.Context(), event, "app", functions.Progress{})
}

func TestIndexesOfAnAttachedTable(t *testing.T) {
	f, r := foreign(t, 500)
	good := f.Rows(f.Path("app"))
	f.Exec("app", "PRAGMA writable_schema=ON; DELETE FROM items WHERE 0; PRAGMA wal_checkpoint(TRUNCATE)")
	db, err := sql.Open("sqlite", f.Path("app"))
	f.Must(err)
	var root int64
	f.Must(db.QueryRowContext(t.Context(), "SELECT pageno FROM dbstat WHERE name = 'by_label' AND pagetype = 'leaf' LIMIT 1").Scan(&root))
	f.Must(db.Close())
	f.Damage(f.Path("app"), (root-1)*4096+3, "\x00\x01")
	entry, err := run(t, f, r, Event{Reason: "test"})
	if err != nil || entry.Status != functions.Repaired || entry.Rung != RungReindex || entry.Method != Swap {
		t.Fatalf("%v: %s: %+v", err, rungs(entry), entry)
	}
	delete(f.Damaged, f.Path("app"))
	if f.Rows(f.Path("app")) != good {
		t.Error("the content is another one")
	}
}

// Another program has the table open: what is written goes through SQLite, and it sees the repaired content.
func TestAnAttachedTableThatIsInUse(t *testing.T) {
	f, r := foreign(t, 300)
	good := f.Rows(f.Path("app"))
	f.Exec("app", "PRAGMA wal_checkpoint(TRUNCATE)")
	f.Backup("app")
	db, err := sql.Open("sqlite", f.Path("app")+"?_pragma=cache_size(0)")
	f.Must(err)
	db.SetMaxOpenConns(1)
	defer db.Close()
	var n int
	f.Must(db.QueryRowContext(t.Context(), "SELECT count(*) FROM sqlite_schema").Scan(&n))
	f.Damage(f.Path("app"), 5*4096, strings.Repeat("garbage ", 512))
	entry, err := run(t, f, r, Event{})
	if err != nil || entry.Status != functions.Restored || entry.Method != Overwrite || entry.Quarantine == "" {
		t.Fatalf("%v: %s: %+v", err, rungs(entry), entry)
	}
	delete(f.Damaged, f.Path("app"))
	if f.Rows(f.Path("app")) != good {
		t.Error("the content is another one")
	}
	f.Must(db.QueryRowContext(t.Context(), "SELECT count(*) FROM items").Scan(&n))
	if n != 300 {
		t.Errorf("the other program sees %d rows", n)
	}
}

// SQLite cannot even open it, and another program has it open: nothing is exchanged beneath that; the commands are named.
func TestAnAttachedTableThatCannotBeOpened(t *testing.T) {
	f, r := foreign(t, 50)
	f.Backup("app")
	db, err := sql.Open("sqlite", f.Path("app"))
	f.Must(err)
	var n int
	f.Must(db.QueryRowContext(t.Context(), "SELECT count(*) FROM items").Scan(&n))
	damaged := strings.Repeat("x", 100)
	f.Damage(f.Path("app"), 0, damaged)
	entry, err := run(t, f, r, Event{})
	var failure *functions.Failure
	if !errors.As(err, &failure) || failure.Reason != "in_use" || !strings.Contains(failure.Try, "tablekeeper recover app") {
		t.Fatalf("%v: %+v", err, entry)
	}
	content, err := os.ReadFile(f.Path("app"))
	f.Must(err)
	if !strings.HasPrefix(string(content), damaged) {
		t.Error("the file was exchanged beneath its user")
	}
	if got, err := f.Shelf.Get("app"); err != nil || got.State != shelf.Suspect {
		t.Errorf("%v, %v", got.State, err)
	}
	f.Must(db.Close())
	if entry, err = run(t, f, r, Event{Force: true}); err != nil || entry.Status != functions.Restored || entry.Method != Swap {
		t.Fatalf("%v: %+v", err, entry)
	}
	delete(f.Damaged, f.Path("app"))
}

func TestAnAttachedTableIsNotEmptiedByItself(t *testing.T) {
	f, r := foreign(t, 50)
	f.Damage(f.Path("app"), 4096, strings.Repeat("garbage ", 1024))
	_, err := run(t, f, r, Event{})
	var failure *functions.Failure
	if !errors.As(err, &failure) || failure.Reason != "no_good_backup" || !strings.Contains(failure.Try, "salvage") {
		t.Fatalf("%v", err)
	}
	entry, err := run(t, f, r, Event{Empty: true})
	if err != nil || entry.Status != functions.Degraded {
		t.Fatalf("%v: %+v", err, entry)
	}
	delete(f.Damaged, f.Path("app"))
}
