package table

import (
	"fmt"
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
			if op == "sync" { // of the new file, while the old one is settled
				time.Sleep(20 * time.Millisecond)
			}
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
		switch op {
		case "link":
			time.AfterFunc(200*time.Millisecond, func() { _ = end() })
		case "look":
			return ErrUnproven
		}
		return nil
	}}
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
