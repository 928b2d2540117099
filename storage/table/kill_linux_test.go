package table

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
)

func init() {
	children["compact"] = func(words []string) error {
		r, err := Compact(context.Background(), words[0], unhurried)
		if err == nil && r.Status != Compacted {
			panic(r.Note)
		}
		return err
	}
	children["snapshot"] = func(words []string) error {
		return TakeSnapshot(context.Background(), words[0], SnapshotOptions{}, func(ctx context.Context, s *Snapshot) error {
			for _, err := range s.Pages(ctx) {
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// Whenever it is killed, the table is as it was, in content, and the next run finds nothing in its way.
func TestKilledAtEachCall(t *testing.T) {
	needStrace(t)
	for name, c := range map[string]struct{ role, setup string }{
		"vacuum":       {"compact", ""},
		"vacuum WAL":   {"compact", "PRAGMA journal_mode=WAL;"},
		"copy in":      {"compact", ""},
		"copy in WAL":  {"compact", "PRAGMA journal_mode=WAL;"},
		"slices":       {"compact", "PRAGMA auto_vacuum=INCREMENTAL;"},
		"slices WAL":   {"compact", "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL;"},
		"snapshot":     {"snapshot", ""},
		"snapshot WAL": {"snapshot", "PRAGMA journal_mode=WAL;"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var content string
			whole := func(t *testing.T, path string) string { return shell(t, path, "PRAGMA integrity_check;", ".dump") }
			kills := killAtEachCall(t, func(t *testing.T) (string, []string) {
				dir := t.TempDir()
				path := filepath.Join(dir, "a.db")
				shell(t, path, "PRAGMA synchronous=OFF; PRAGMA page_size=512;", c.setup, "CREATE TABLE a(id INTEGER PRIMARY KEY, b TEXT); CREATE INDEX ab ON a(b);",
					"WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 16) INSERT INTO a SELECT x, x || hex(zeroblob(60)) FROM c; DELETE FROM a WHERE id < 12;")
				content = whole(t, path)
				if strings.HasPrefix(name, "copy in") {
					byCopy(t, path)
				}
				return dir, []string{c.role, path}
			}, func(t *testing.T, dir, at string) {
				path := filepath.Join(dir, "a.db")
				if _, err := Resume(t.Context(), path); err != nil {
					t.Errorf("%s: resume: %v", at, err)
				}
				if _, err := Compact(t.Context(), path, CompactOptions{Force: true, MaxPause: unhurried.MaxPause}); err != nil {
					t.Errorf("%s: the next run: %v", at, err) // it checks the table first
				}
				if got := whole(t, path); got != content {
					t.Errorf("%s: the content changed: %s", at, got)
				}
				for _, name := range tree(t, dir) {
					if name != "a.db" && name != ".tablekeeper/a.db.lock" && name != ".tablekeeper/a.db.pace" {
						t.Errorf("%s: litter: %s", at, name)
					}
				}
			})
			t.Logf("killed %d times", kills)
			if kills < 5 {
				t.Errorf("killed only %d times", kills)
			}
		})
	}
}
