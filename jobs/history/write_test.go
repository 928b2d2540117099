package history

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"tablekeeper/jobs/events"
)

// TestEachFailingWriteLeavesNothingHalf makes the insertion into each SQL table fail, on its first, second, ... row.
func TestEachFailingWriteLeavesNothingHalf(t *testing.T) {
	path := temp(t)
	s := open(t, path, Options{})
	for _, table := range []string{"runs", "entries", "latest", "phases", "log"} {
		for n := range 3 {
			t.Run(fmt.Sprintf("%s %d", table, n), func(t *testing.T) {
				repair := failInsert(t, path, table, n)
				r := newRun("backup", epoch, "a", "b")
				phase, line := Phase{Name: "copy", Started: epoch}, LogLine{Time: epoch, Message: "x"}
				c := Change{Run: r, Entries: entries("backed_up", "a", "b"), Phases: []Phase{phase, phase}, Log: []LogLine{line, line}}
				err := s.Save(t.Context(), c)
				got, getErr := s.Get(t.Context(), r.ID)
				if err != nil && !errors.Is(getErr, fs.ErrNotExist) {
					t.Errorf("half a change is there: %+v, %v", got, getErr)
				}
				if whole := n == 2 || table == "runs" && n == 1; whole != (err == nil) {
					t.Errorf("error is %v", err)
				}
				repair()
				if err := s.Save(t.Context(), c); err != nil {
					t.Error(err)
				}
				if got, err := s.Get(t.Context(), r.ID); err != nil || len(got.Entries) != 2 || len(got.Phases) != 2 || len(got.Log) != 2 {
					t.Errorf("after the repair: %+v, %v", got, err)
				}
			})
		}
	}
	repair := failInsert(t, path, "events", 2)
	defer repair()
	list := []events.Event{{ID: "a"}, {ID: "b"}, {ID: "c"}}
	if err := s.AppendEvents(t.Context(), list); err == nil || list[0].Sequence != 0 {
		t.Errorf("events %+v, %v", list, err)
	}
	if first, _, err := s.EventBounds(t.Context()); err != nil || first != 0 {
		t.Errorf("first event %d, %v", first, err)
	}
}

// failInsert makes the n-th next insertion into a SQL table fail.
func failInsert(t *testing.T, path, table string, n int) (repair func()) {
	t.Helper()
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	script := fmt.Sprintf(`CREATE TRIGGER fault BEFORE INSERT ON %[1]s WHEN (SELECT count(*) FROM %[1]s) >= (SELECT n FROM fault_at)
		BEGIN SELECT RAISE(ABORT, 'injected'); END;
		CREATE TABLE fault_at AS SELECT count(*) + %[2]d AS n FROM %[1]s`, table, n)
	if table == "latest" { // REPLACE does not count up
		script = strings.ReplaceAll(script, "WHEN (SELECT count(*) FROM latest) >= (SELECT n FROM fault_at)", fmt.Sprintf("WHEN NEW.n >= %d", n))
	}
	if _, err := db.ExecContext(t.Context(), script); err != nil {
		t.Fatal(err)
	}
	return func() {
		db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(5000)")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.ExecContext(t.Context(), `DROP TRIGGER fault; DROP TABLE fault_at`); err != nil {
			t.Fatal(err)
		}
	}
}
