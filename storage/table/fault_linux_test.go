package table

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tablekeeper/storage/childtest"
)

// Each call that changes the disk fails once. Whatever becomes of the run, the table's content stands and nothing is left
// lying about.
func TestEachCallFails(t *testing.T) {
	needStrace(t)
	for name, c := range map[string]struct{ role, setup string }{
		"vacuum":      {"compact", ""},
		"vacuum WAL":  {"compact", "PRAGMA journal_mode=WAL;"},
		"copy in":     {"compact", ""},
		"copy in WAL": {"compact", "PRAGMA journal_mode=WAL;"},
		"slices":      {"compact", "PRAGMA auto_vacuum=INCREMENTAL;"},
		"snapshot":    {"snapshot", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "a.db")
			make := func() string {
				removeAll(t, path)
				must(t, os.RemoveAll(StateDir(path)))
				shell(t, path, "PRAGMA synchronous=OFF; PRAGMA page_size=512;", c.setup, "CREATE TABLE a(id INTEGER PRIMARY KEY, b TEXT); CREATE INDEX ab ON a(b);",
					"WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 20) INSERT INTO a SELECT x, x || hex(zeroblob(60)) FROM c; DELETE FROM a WHERE id < 14;")
				if strings.HasPrefix(name, "copy in") {
					byCopy(t, path)
				}
				return shell(t, path, "PRAGMA integrity_check;", ".dump")
			}
			make()
			calls, surfaced, tries := traceChild(t, dir, c.role, path), 0, 0
			for _, call := range []string{"pwrite64", "fsync", "fdatasync", "ftruncate"} {
				for i, n := range calls[call] {
					content := make()
					code := []string{"ENOSPC", "EIO"}[i%2]
					inject := fmt.Sprintf("inject=%s:error=%s:when=%d", call, code, n)
					out, err := childtest.Strace(t, []string{c.role, path}, "-o", os.DevNull, "-e", "trace="+call, "-e", inject).CombinedOutput()
					tries++
					if err != nil {
						surfaced++
						if !strings.Contains(string(out), "a.db") {
							t.Errorf("%s %d: the error does not say which table: %s", call, n, out)
						}
					}
					if got := shell(t, path, "PRAGMA integrity_check;", ".dump"); got != content {
						t.Fatalf("%s %d %s: the content changed: %s", call, n, code, got)
					}
					for _, name := range tree(t, dir) {
						if name != "a.db" && name != ".tablekeeper/a.db.pace" {
							t.Fatalf("%s %d %s: litter: %s", call, n, code, name)
						}
					}
				}
			}
			t.Logf("%d calls failed, %d times the run did, too", tries, surfaced)
			if surfaced < tries/2 || tries < 3 {
				t.Errorf("of %d failures %d surfaced", tries, surfaced)
			}
		})
	}
}

// A disk without room is seen before the work begins.
func TestNoSpace(t *testing.T) {
	dir := mount(t, "-t", "tmpfs", "-o", "size=8m", "tmpfs")
	for name, setup := range map[string]string{"wal.db": "PRAGMA journal_mode=WAL;", "rollback.db": ""} {
		path := filepath.Join(dir, name)
		shell(t, path, "PRAGMA synchronous=OFF;", setup, "CREATE TABLE item(id INTEGER PRIMARY KEY, body BLOB); WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 2000)",
			"INSERT INTO item SELECT x, randomblob(1000) FROM c; DELETE FROM item WHERE id < 500;")
		before := dump(t, path)
		must(t, os.WriteFile(filepath.Join(dir, "filler"), bytes.Repeat([]byte{1}, 4500<<10), 0o644))
		r, err := Compact(t.Context(), path, unhurried)
		if err != nil || r.Status != Skipped || r.Reason != NoSpace || !strings.Contains(r.Note, "bytes free") {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if dump(t, path) != before {
			t.Errorf("%s changed", name)
		}
		for _, left := range tree(t, dir) {
			if left != name && left != "filler" {
				t.Errorf("litter: %s", left)
			}
		}
		removeAll(t, path)
		must(t, os.Remove(filepath.Join(dir, "filler")))
	}
}
