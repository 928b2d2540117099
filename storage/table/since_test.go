package table

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// sinceScene is a table of one row, with a WAL that its last user left if it died, and a file made from it.
func sinceScene(t *testing.T, wal bool) (path, made string) {
	t.Helper()
	dir := t.TempDir()
	from := filepath.Join(dir, "from.db")
	db, err := sql.Open("sqlite", from)
	must(t, err)
	db.SetMaxOpenConns(1)
	for _, statement := range []string{"PRAGMA journal_mode=WAL", "CREATE TABLE t(n INT)", "PRAGMA wal_checkpoint(TRUNCATE)", "INSERT INTO t VALUES (1)"} {
		_, err := db.ExecContext(t.Context(), statement)
		must(t, err)
	}
	path = filepath.Join(dir, "x.db")
	for _, ending := range []string{"", "-wal"} {
		content, err := os.ReadFile(from + ending)
		must(t, err)
		if ending == "" || wal {
			must(t, os.WriteFile(path+ending, content, 0o600))
		}
	}
	must(t, db.Close())
	must(t, MakeStateDir(path))
	made = Temporary(path, "test")
	content, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(made, content, 0o600))
	must(t, setWALMode(made, false))
	return path, made
}

func visit(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	must(t, err)
	_, err = db.ExecContext(t.Context(), "INSERT INTO t VALUES (zeroblob(100000))") // the file grows, however coarse its times are
	must(t, errors.Join(err, db.Close()))
}

// Somebody commits before call n of a swap, for n = 0, 1, 2, ... until nobody can open the table any more.
func TestSwapRefusesWhatHasChanged(t *testing.T) {
	for _, wal := range []bool{false, true} {
		for n := 0; ; n++ {
			path, made := sinceScene(t, wal)
			since, err := ReadToken(path)
			must(t, err)
			i, visited := 0, ""
			_, err = swap(t.Context(), disk{before: func(op string, _ ...string) error {
				if i++; i == n+1 && op != "lease" {
					visited = op
					visit(t, path)
				}
				return nil
			}}, path, made, SwapOptions{Since: since})
			if visited == "" {
				if errors.Is(err, ErrUnproven) {
					t.Skip("no proof here: ", err)
				}
				must(t, err)
				break
			}
			if !errors.Is(err, ErrChanged) {
				t.Errorf("WAL %v, a commit before call %d, %s: %v", wal, n, visited, err)
			}
		}
	}
}

func TestOverwriteRefusesWhatHasChanged(t *testing.T) {
	for _, wal := range []bool{false, true} {
		path, made := sinceScene(t, wal)
		since, err := ReadToken(path)
		must(t, err)
		visit(t, path)
		if _, err = Overwrite(t.Context(), path, made, OverwriteOptions{Since: since}); !errors.Is(err, ErrChanged) {
			t.Errorf("WAL %v: %v", wal, err)
		}
		since, err = ReadToken(path)
		must(t, err)
		_, err = Overwrite(t.Context(), path, made, OverwriteOptions{Since: since})
		must(t, err)
	}
}
