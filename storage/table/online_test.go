package table

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
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
			if _, err := tx.ExecContext(t.Context(), statement); err != nil {
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

// What the hook cannot tell apart is compacted in place.
func TestOnlineFallsBack(t *testing.T) {
	for name, schema := range map[string][]string{
		"virtual column before the key": {"CREATE TABLE k(g INT AS (n * 2) VIRTUAL, n INT PRIMARY KEY) WITHOUT ROWID"},
		"no name for the rowid":         {"CREATE TABLE r(rowid TEXT, _rowid_ TEXT, oid TEXT)"},
	} {
		t.Run(name, func(t *testing.T) {
			table := openOwned(t, filepath.Join(t.TempDir(), "x.db"), quietOwned)
			halfFree(t, table, 300)
			for _, statement := range schema {
				writeOwned(t, table, statement)
			}
			report, err := compactBeside(t.Context(), table)
			if err != nil || report.Status != Compacted || report.Strategy != strategyVacuum || !strings.Contains(report.Note, "not beside itself") {
				t.Fatalf("%+v, %v", report, err)
			}
			settleOwned(t, table)
			scrubClean(t, table)
		})
	}
}

// A table that is taken out of service ends its compaction first.
func TestDetachEndsCompaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	table := openOwned(t, path, quietOwned)
	halfFree(t, table, 8000)
	detached := make(chan error, 1)
	_, err := table.Compact(t.Context(), CompactOptions{Progress: func(phase string, done, _ int64) {
		if phase == "copy" && done == 0 {
			go func() { detached <- table.Detach(t.Context()) }()
		}
	}})
	if err == nil {
		t.Log("the compaction was faster")
	}
	must(t, <-detached)
	must(t, table.Attach(t.Context(), AttachOptions{}))
	settleOwned(t, table)
	scrubClean(t, table)
}

func TestOnlineSkipsAndPlans(t *testing.T) {
	table := openOwned(t, filepath.Join(t.TempDir(), "x.db"), quietOwned)
	halfFree(t, table, 8000)
	plan, err := table.Compact(t.Context(), CompactOptions{DryRun: true})
	if err != nil || plan.Reason != DryRun || plan.Strategy != strategyOnline || plan.GainBytes() < plan.BytesBefore/3 || plan.DiskNeeded == 0 || plan.PredictedPauseMS == 0 || plan.Note == "" {
		t.Errorf("%+v, %v", plan, err)
	}
	if again, err := table.Compact(t.Context(), CompactOptions{Threshold: 0.9}); err != nil || again.Reason != BelowThreshold {
		t.Errorf("%+v, %v", again, err)
	}
}
