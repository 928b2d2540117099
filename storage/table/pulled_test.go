package table

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Another file takes the name of the table, and somebody in this very process looks at it: SQLite takes the -wal and the -shm of the table for
// its own. Or somebody cuts the -shm. Whoever has the table open meets memory that is gone, or is told that there is no such SQL table: that
// leads to a recovery, as any damage does.
func TestTheSHMIsPulledAway(t *testing.T) {
	replaced := func(content string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			must(t, os.WriteFile(path+".other", []byte(content), 0o600))
			must(t, os.Rename(path+".other", path))
			c, err := connect(t.Context(), path, openOptions{})
			must(t, err)
			err = c.exec(t.Context(), "SELECT count(*) FROM sqlite_schema")
			t.Logf("who looks at it gets %v", errors.Join(err, c.close()))
		}
	}
	for name, pull := range map[string]func(*testing.T, string){
		"no table":   replaced("not the table"),
		"empty file": replaced(""),
		"-shm cut":   func(t *testing.T, path string) { must(t, os.Truncate(path+"-shm", 3)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.db")
			table, clinic := patient(t, path, quietOwned)
			fillOwned(t, table, 300)
			clinic.keep(table)
			pull(t, path)
			if n := ownedInt(t, table, "SELECT count(*) FROM t"); n != 300 {
				t.Errorf("%d rows", n)
			}
			writeOwned(t, table, "INSERT INTO t(v) VALUES(x'00')")
			t.Logf("a recovery from %s", <-clinic.causes)
			settleOwned(t, table)
			scrubClean(t, table)
		})
	}
}
