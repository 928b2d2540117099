package table

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// The disk is full when a cut has failed and the table is to be opened again: what the copy took is given back first.
func TestCutThatFailsOnFullDisk(t *testing.T) {
	dir := mount(t, "-t", "tmpfs", "-o", "size=4m", "tmpfs")
	path := filepath.Join(dir, "x.db")
	table := cutScene(t, path, quietOwned)
	writeOwned(t, table, "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 200) INSERT INTO t(v) SELECT randomblob(1000) FROM c")
	table.disk = disk{before: func(op string, _ ...string) error {
		if op != "lock" {
			return nil
		}
		fill(t, dir, 0)
		return errFault
	}}
	if report, err := compactBeside(t.Context(), table); err == nil {
		t.Errorf("%+v", report)
	}
	if rows := ownedInt(t, table, "SELECT count(*) FROM t"); rows != cutRowsAtFirst+200 {
		t.Errorf("%d rows", rows)
	}
	must(t, os.Remove(filepath.Join(dir, "fill")))
	must(t, addRow(table))
	scrubClean(t, table)
	must(t, table.Close())
}

// A copy for which there is no room says so, though the check that is made beside it is not done.
func TestCopyThatFailsOnFullDisk(t *testing.T) {
	dir := mount(t, "-t", "tmpfs", "-o", "size=4m", "tmpfs")
	table := cutScene(t, filepath.Join(dir, "x.db"), quietOwned)
	must(t, MakeStateDir(table.path))
	fill(t, dir, 0)
	if report, err := compactBeside(t.Context(), table); !errors.Is(classify(err), ErrNoSpace) {
		t.Errorf("%+v, %v", report, err)
	}
	must(t, os.Remove(filepath.Join(dir, "fill")))
	checkCutLitter(t, table.path)
	must(t, addRow(table))
	scrubClean(t, table)
	must(t, table.Close())
}
