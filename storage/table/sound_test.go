package table

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// What is damaged is not copied: the table stays as it is, to be recovered, and nothing is left beside it.
func TestOnlineCopiesNoDamage(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string){
		"a flipped bit, which no b-tree shows": func(t *testing.T, path string) { scribble(t, path, 4096*10-20, []byte("flip")) },
		"a page that SQLite cannot read":       func(t *testing.T, path string) { scribble(t, path, 4096*3, make([]byte, 4096)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.db")
			table := cutScene(t, path, quietOwned)
			writeOwned(t, table, "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 400) INSERT INTO t(v) SELECT randomblob(500) FROM c")
			settleOwned(t, table)
			damage(t, path)
			before, err := os.ReadFile(path)
			must(t, err)
			report, err := compactBeside(t.Context(), table)
			if !errors.Is(asCorrupt(path, err), ErrCorrupt) || report.Status == Compacted {
				t.Errorf("%+v, %v", report, err)
			}
			found := asDamage(err)
			if found == nil || len(found.Pages) == 0 {
				t.Errorf("which pages? %v", err)
			}
			after, err := os.ReadFile(path)
			must(t, err)
			if string(after) != string(before) {
				t.Error("the table was changed")
			}
			checkCutLitter(t, path)
			_ = table.Close() // it is damaged
		})
	}
}
