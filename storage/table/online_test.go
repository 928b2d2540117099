package table

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
)

// halfFree makes an owned table of which half is free, too large to be compacted in place within 50 ms.
func halfFree(t testing.TB, table *Table, rows int) {
	t.Helper()
	err := table.Write(t.Context(), func(tx *sql.Tx) error {
		for _, statement := range []string{
			"CREATE TABLE t(id INTEGER PRIMARY KEY, n INT, v BLOB)", "CREATE INDEX t_n ON t(n)",
			fmt.Sprintf(`WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < %d)
				INSERT INTO t SELECT x, x*7919%%1009, randomblob(900) FROM c`, rows),
			"DELETE FROM t WHERE id / 100 % 2 = 0",
		} {
			if _, err := tx.Exec(statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestOnlineCompacts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	table := openOwned(t, path, quietOwned)
	halfFree(t, table, 8000)
	before := ownedInt(t, table, "SELECT sum(id * 31 + n) FROM t")
	done, err := table.Compact(t.Context(), CompactOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", done)
	if done.Status != Compacted || done.Strategy != strategyOnline || done.BytesAfter > done.BytesBefore*6/10 {
		t.Fatalf("%+v", done)
	}
	if after := ownedInt(t, table, "SELECT sum(id * 31 + n) FROM t"); after != before {
		t.Fatalf("sum %d, was %d", after, before)
	}
	writeOwned(t, table, "UPDATE t SET n = n + 1 WHERE id % 5 = 0")
	settleOwned(t, table)
	if done := scrubClean(t, table); done.Unproven != 0 {
		t.Fatalf("%+v", done)
	}
}
