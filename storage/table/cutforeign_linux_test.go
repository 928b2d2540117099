package table

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
)

// Another process opens the table, commits one row and closes it again, before call n of the cut, for n = 0, 1, 2, ... No proof shows it: it
// has gone.
func TestCutMissesNoVisitor(t *testing.T) {
	t.Parallel()
	for _, reader := range []bool{false, true} {
		for n := 0; ; n++ {
			op, report, lost := visitedCut(t, n, reader)
			if op == "" {
				break
			}
			if t.Logf("reader %v, before call %d, %s: %s %s", reader, n, op, report.Status, report.Strategy); lost {
				t.Errorf("reader %v, before call %d, %s: the row of another process is lost", reader, n, op)
			}
		}
	}
}

// visitedCut tells before which call the visit was, "" if there are not so many before the file has its new name.
func visitedCut(t *testing.T, n int, reader bool) (visited string, report Compaction, lost bool) {
	path := filepath.Join(t.TempDir(), "x.db")
	table := cutScene(t, path, quietOwned)
	writeOwned(t, table, "CREATE TABLE written(n INT)")
	settleOwned(t, table)
	end := func() error { return nil }
	if reader {
		end = holdReader(t, table)
	}
	i, begun, over := 0, false, false
	table.disk = disk{before: func(op string, paths ...string) error {
		if begun = begun || op == "link"; !begun { // until then it is seen like any other writer
			return nil
		}
		over = over || slices.Contains([]string{"bar", "lease"}, op) // from here on it could not open the table
		if i == n && !over {
			visited = fmt.Sprint(op, " ", filepath.Ext(paths[0]))
			sqliteShell(t, path, "INSERT INTO written VALUES (1);")
		}
		i++
		return nil
	}}
	report, err := compactBeside(t.Context(), table)
	if err != nil {
		t.Errorf("before call %d, %s: %v", n, visited, err)
	}
	scrubClean(t, table)
	lost = visited != "" && ownedInt(t, table, "SELECT count(*) FROM written") != 1
	must(t, end())
	must(t, table.Close())
	return visited, report, lost
}
