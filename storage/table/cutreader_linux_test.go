package table

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// A reader that needs the WAL ends its transaction before call n of the cut, for n = 0, 1, 2, ... It may be the last to close the old file then.
func TestReaderLeavesDuringTheCut(t *testing.T) {
	t.Parallel()
	for n := 0; ; n++ {
		left := leftCut(t, n)
		if left == "" {
			if n < 8 {
				t.Errorf("only %d calls", n)
			}
			return
		}
		t.Logf("before call %d, %s", n, left)
	}
}

// leftCut tells before which call the reader left, "" if there are not so many.
func leftCut(t *testing.T, n int) (left string) {
	table := cutScene(t, filepath.Join(t.TempDir(), "x.db"), quietOwned)
	end := holdReader(t, table)
	must(t, addRow(table))
	i, begun, over := 0, false, false
	table.disk = disk{before: func(op string, paths ...string) error {
		if begun = begun || op == "link"; !begun || over {
			return nil
		}
		over = op == "rename" // what comes later waits for the reader to leave
		if i == n {
			left = fmt.Sprint(op, " ", filepath.Ext(paths[0]))
			must(t, end())
		}
		i++
		return nil
	}}
	report, err := compactBeside(t.Context(), table)
	if err != nil || report.Status != Compacted || report.Strategy != strategyOnline {
		t.Errorf("before call %d, %s: %+v, %v", n, left, report, err)
	}
	if rows := ownedInt(t, table, "SELECT count(*) FROM t"); rows != cutRowsAtFirst+1 {
		t.Errorf("before call %d, %s: %d rows", n, left, rows)
	}
	must(t, addRow(table))
	if left == "" {
		must(t, end())
	}
	scrubClean(t, table)
	must(t, table.Close())
	if got := sqliteShell(t, table.path, "PRAGMA integrity_check; SELECT count(*) FROM t;"); got != fmt.Sprintf("ok\n%d", cutRowsAtFirst+2) {
		t.Errorf("before call %d, %s: the sqlite3 shell says %q", n, left, got)
	}
	return left
}

// A reader that is quick is waited for: with it, nobody could prove in a container that others do not use the file.
func TestCutOutwaitsAReader(t *testing.T) {
	t.Parallel()
	table := cutScene(t, filepath.Join(t.TempDir(), "x.db"), quietOwned)
	end := sync.OnceValue(holdReader(t, table))
	must(t, addRow(table))
	table.outwait = time.Minute
	table.disk = disk{before: func(op string, _ ...string) error {
		if op == "look" {
			return ErrUnproven
		}
		return nil
	}}
	go func(door *entrance) { // when it is closed, the cut is waiting
		for door.TryRLock() {
			door.RUnlock()
			time.Sleep(time.Millisecond)
		}
		_ = end()
	}(&table.gate.current().entrance)
	report, err := compactBeside(t.Context(), table)
	if err != nil || report.Strategy != strategyOnline {
		t.Errorf("%+v, %v", report, err)
	}
	must(t, end())
	if rows := ownedInt(t, table, "SELECT count(*) FROM t"); rows != cutRowsAtFirst+1 {
		t.Errorf("%d rows", rows)
	}
	scrubClean(t, table)
	must(t, table.Close())
}

// The reader leaves, and then the cut fails: the table is opened again as it was, with all that the ledger knew of it.
func TestCutFailsWhenTheReaderHasLeft(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"lock", "bar", "look"} {
		table := cutScene(t, filepath.Join(t.TempDir(), "x.db"), quietOwned)
		end := holdReader(t, table)
		must(t, addRow(table))
		table.disk = disk{before: func(op string, _ ...string) error {
			if op != at {
				return nil
			}
			must(t, end())
			return errFault
		}}
		if report, err := compactBeside(t.Context(), table); err == nil {
			t.Errorf("%s: %+v", at, report)
		}
		table.disk = disk{}
		if wal, err := os.Stat(table.path + "-wal"); err != nil || wal.Size() == 0 {
			t.Errorf("%s: the WAL was moved behind the ledger's back, so that SQLite has to check the whole table: %v", at, err)
		}
		must(t, addRow(table))
		settleOwned(t, table)
		if done := scrubClean(t, table); done.Unproven != 0 {
			t.Errorf("%s: %d pages are unproven", at, done.Unproven)
		}
		must(t, table.Close())
	}
}
