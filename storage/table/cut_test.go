package table

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// cutScene is an owned table with free pages and so many rows.
func cutScene(t *testing.T, path string, opts Options) *Table {
	t.Helper()
	table, err := Open(t.Context(), path, opts)
	must(t, err)
	writeOwned(t, table, "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
	writeOwned(t, table, "CREATE TABLE gone AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 200) SELECT randomblob(1000) FROM c")
	writeOwned(t, table, "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < ?) INSERT INTO t(v) SELECT randomblob(500) FROM c", cutRowsAtFirst)
	writeOwned(t, table, "DROP TABLE gone")
	return table
}

const cutRowsAtFirst = 40

// holdReader begins a read transaction, and returns what ends it. It reads the same rows then as at first.
func holdReader(t *testing.T, table *Table) (end func() error) {
	t.Helper()
	begun, finish, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- table.Read(context.Background(), func(tx *sql.Tx) error {
			var first, last int
			err := tx.QueryRowContext(t.Context(), "SELECT count(*) + sum(length(v)) FROM t").Scan(&first)
			close(begun)
			<-finish
			if err == nil {
				err = tx.QueryRowContext(t.Context(), "SELECT count(*) + sum(length(v)) FROM t").Scan(&last)
			}
			if err == nil && first != last {
				err = errors.New("the reader's state changed")
			}
			return err
		})
	}()
	<-begun
	return func() error {
		close(finish)
		return <-done
	}
}

func addRow(table *Table) error {
	return table.Write(context.Background(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(context.Background(), "INSERT INTO t(v) VALUES(randomblob(500))")
		return err
	})
}

// Call n of the cut fails, for n = 0, 1, 2, ... until a cut is clean; with a reader that stays, and without.
func TestCutFailsAtEachCall(t *testing.T) {
	for _, reader := range []bool{false, true} {
		t.Run(map[bool]string{false: "alone", true: "with a reader"}[reader], func(t *testing.T) {
			t.Parallel()
			stride := 1
			if raceEnabled {
				stride = 5
			}
			for n := 0; ; n += stride {
				if failCut(t, n, reader) {
					t.Logf("%d calls, every %d. failed", n, stride)
					if n < 8 {
						t.Error("not the cut failed")
					}
					return
				}
				if t.Failed() {
					t.Fatalf("call %d", n)
				}
			}
		})
	}
}

func failCut(t *testing.T, n int, reader bool) (clean bool) {
	path := filepath.Join(t.TempDir(), "x.db")
	table := cutScene(t, path, quietOwned)
	rows := cutRowsAtFirst
	end := func() error { return nil }
	if reader {
		end = holdReader(t, table)
		must(t, addRow(table)) // so that the reader needs the WAL
		rows++
	}
	seenRename := false
	failed, closed := "", false
	r := recorder{fail: func(i int, c call) error {
		// Later, the file that was replaced is removed, which is nobody's concern.
		closed = closed || failed == "" && c.op == "syncdir" && i > 0 && i < n && c.paths[0] == StateDir(path) && seenRename
		seenRename = seenRename || c.op == "rename" && c.paths[1] == path
		if i == n {
			failed = c.op
			return errFault
		}
		return nil
	}}
	table.disk = r.disk()
	report, err := compactBeside(t.Context(), table)
	must(t, addRow(table))
	rows++
	got := ownedInt(t, table, "SELECT count(*) FROM t")
	must(t, end())
	must(t, table.Close()) // the old file has been removed then
	switch {
	case failed == "" && (err != nil || report.Status != Compacted):
		t.Fatalf("a clean run: %+v, %v", report, err)
	case failed != "" && err == nil && report.Status == Compacted && !closed && !slices.Contains([]string{"bar", "look", "lock", "lease"}, failed):
		t.Errorf("call %d, %s, failed and was not told: %+v", n, failed, report)
	}
	if got != rows {
		t.Errorf("call %d, %s: %d rows, want %d", n, failed, got, rows)
	}
	again, err := Open(t.Context(), path, quietOwned)
	must(t, err)
	if got := ownedInt(t, again, "SELECT count(*) FROM t"); got != rows {
		t.Errorf("call %d, %s: %d rows when opened again, want %d", n, failed, got, rows)
	}
	settleOwned(t, again)
	if done := scrubClean(t, again); done.Unproven != 0 {
		t.Errorf("call %d, %s: %d pages are unproven", n, failed, done.Unproven)
	}
	must(t, again.Close())
	checkCutLitter(t, path)
	return failed == ""
}

// checkCutLitter: nothing temporary is left over when the table was opened again.
func checkCutLitter(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(StateDir(path))
	must(t, err)
	for _, e := range entries {
		if isTemporary(e.Name(), filepath.Base(path)) || strings.HasSuffix(e.Name(), ".intent") || strings.HasSuffix(e.Name(), ".next") {
			t.Errorf("left over: %s", e.Name())
		}
	}
}

// A reader in a transaction keeps its state for as long as it likes, while the table is compacted twice beneath it.
func TestCutUnderReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	table := cutScene(t, path, quietOwned)
	t.Cleanup(func() { must(t, table.Close()) })
	end := holdReader(t, table)
	for range 2 {
		must(t, addRow(table))
		writeOwned(t, table, "UPDATE t SET v = zeroblob(9) WHERE id % 3 = 0")
		if report, err := compactBeside(t.Context(), table); err != nil || report.Status != Compacted {
			t.Fatalf("%+v, %v", report, err)
		}
	}
	if got := ownedInt(t, table, "SELECT count(*) FROM t"); got != cutRowsAtFirst+2 {
		t.Errorf("%d rows", got)
	}
	must(t, end())
	settleOwned(t, table)
	scrubClean(t, table)
}

// Every change of a name is made durable before the writer goes on, and the new file before it gets the name.
func TestCutSyncsInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	table := cutScene(t, path, quietOwned)
	end := holdReader(t, table)
	must(t, addRow(table))
	var r recorder
	table.disk = r.disk()
	_, err := compactBeside(t.Context(), table)
	must(t, err)
	must(t, end())
	must(t, table.Close())
	dir := filepath.Dir(path)
	rename := slices.IndexFunc(r.calls, func(c call) bool { return c.op == "rename" && c.paths[1] == table.path })
	if rename < 0 {
		t.Fatal("no rename")
	}
	before, after := r.calls[:rename], r.calls[rename+1:]
	last := func(op, path string) int {
		at := -1
		for i, c := range before {
			if c.op == op && c.paths[0] == path {
				at = i
			}
		}
		return at
	}
	if removed := last("remove", table.path+"-wal"); removed < 0 || last("syncdir", dir) < removed {
		t.Error("the old -wal does not leave durably before the new file arrives")
	}
	if last("sync", r.calls[rename].paths[0]) < 0 {
		t.Error("the new file is not synced before it gets the name")
	}
	synced := slices.IndexFunc(after, func(c call) bool { return c.op == "syncdir" && c.paths[0] == dir })
	closed := slices.IndexFunc(after, func(c call) bool { return c.op == "remove" && strings.HasSuffix(c.paths[0], ".intent") })
	if synced < 0 || closed < synced {
		t.Error("the folder is not synced before the swap is closed")
	}
}
