package table

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// shellRows counts with the sqlite3 program.
func shellRows(t testing.TB, path string) map[string]int64 {
	t.Helper()
	rows := map[string]int64{}
	for _, name := range strings.Split(shell(t, path, "SELECT name FROM sqlite_schema WHERE type='table';"), "\n") {
		if name != "" {
			var n int64
			_, err := fmt.Sscan(shell(t, path, "SELECT count(*) FROM "+quote(name)+";"), &n)
			must(t, err)
			rows[name] = n
		}
	}
	return rows
}

func TestCheckSound(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, path string) {
		content := dump(t, path)
		for _, opts := range []CheckOptions{{}, {Quick: true}, {ForeignKeys: true, Traverse: true}} {
			r, err := Check(t.Context(), path, opts)
			must(t, err)
			if !r.OK || r.Err() != nil || len(r.Problems)+len(r.Unsupported) > 0 {
				t.Errorf("%+v", r)
			}
			if diff := cmp.Diff(shellRows(t, path), r.Rows); diff != "" {
				t.Error(diff)
			}
		}
		if dump(t, path) != content {
			t.Error("a check changed the content")
		}
		if names := tree(t, filepath.Dir(path)); len(names) != 1 && f.name != "persist" {
			t.Errorf("litter: %v", names)
		}
	})
}

func TestCheckDamaged(t *testing.T) {
	// Each page of a table is overwritten, one at a time. Every damage is reported one way or the other, or is in a page that
	// nobody reads.
	dir := t.TempDir()
	good := filepath.Join(dir, "good.db")
	shell(t, good, `PRAGMA page_size=1024; CREATE TABLE a(id INTEGER PRIMARY KEY, b TEXT); CREATE INDEX ab ON a(b);
		WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 300) INSERT INTO a SELECT x, hex(randomblob(20)) FROM c;`)
	s, err := Stat(t.Context(), good)
	must(t, err)
	for page := int64(1); page <= s.PageCount; page++ {
		path := filepath.Join(dir, fmt.Sprintf("%d.db", page))
		copyFile(t, good, path)
		patchFile(t, path, (page-1)*s.PageSize+headerSize, strings.Repeat("\xa5", 900))
		r, err := Check(t.Context(), path, CheckOptions{Traverse: true})
		if err != nil || r.OK || len(r.Problems) == 0 || !errors.Is(r.Err(), ErrCorrupt) {
			t.Errorf("page %d: %+v, %v", page, r, err)
		}
		called := false
		err = TakeSnapshot(t.Context(), path, SnapshotOptions{}, func(context.Context, *Snapshot) error {
			called = true
			return nil
		})
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || called || len(corrupt.Problems) == 0 || corrupt.Path != path {
			t.Errorf("page %d: %v, called: %v", page, err, called)
		}
		before, _ := os.ReadFile(path)
		result, err := Compact(t.Context(), path, CompactOptions{Force: true})
		if !errors.Is(err, ErrCorrupt) || result.Status != Failed || result.Reason != Damaged {
			t.Errorf("page %d: %+v, %v", page, result, err)
		}
		if after, _ := os.ReadFile(path); string(after) != string(before) {
			t.Errorf("page %d: compaction changed a damaged file", page)
		}
	}
	for _, name := range tree(t, dir) {
		if strings.Contains(name, "snapshot") || strings.HasSuffix(name, "-wal") || strings.HasSuffix(name, "-journal") {
			t.Errorf("litter: %s", name)
		}
	}
}

func TestCheckSeesWrongIndex(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	shell(t, path, "CREATE TABLE a(b); CREATE INDEX ab ON a(b); INSERT INTO a VALUES ('first'), ('second');")
	content, err := os.ReadFile(path)
	must(t, err)
	at := int64(strings.LastIndex(string(content), "first"))
	patchFile(t, path, at, "fixst")
	r, err := Check(t.Context(), path, CheckOptions{})
	must(t, err)
	if r.OK {
		t.Error("a row that its index does not find is sound")
	}
	if r, err = Check(t.Context(), path, CheckOptions{Quick: true}); err != nil || !r.OK {
		t.Errorf("quick: %+v, %v", r, err)
	}
}

// A foreign key that leads nowhere, and a CHECK that does not hold, are the owner's affair.
func TestCheckLeavesDataToItsOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	shell(t, path, "CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(p REFERENCES p(id), n CHECK (n > 0));",
		"PRAGMA ignore_check_constraints=ON; INSERT INTO c VALUES (7, -1), (8, 1);")
	r, err := Check(t.Context(), path, CheckOptions{ForeignKeys: true})
	must(t, err)
	if !r.OK || len(r.Violations) != 2 || !strings.Contains(r.Violations[0], "c: row 1") {
		t.Errorf("%+v", r)
	}
}

// needing makes databases that need what this program does not have.
func needing(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	rows := "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 300) INSERT INTO a SELECT hex(randomblob(30)) FROM c; DELETE FROM a WHERE rowid % 3;"
	shell(t, at("collation"), "CREATE TABLE a(b TEXT COLLATE NOCASE); CREATE INDEX ab ON a(b);"+rows,
		"PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql = replace(sql, 'NOCASE', 'GERMAN');")
	shell(t, at("function"), "CREATE TABLE a(b TEXT, c AS (upper(b))); CREATE TABLE d(x); CREATE INDEX ac ON a(c);"+rows,
		"PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql = replace(sql, 'upper', 'shout');")
	shell(t, at("module"), "CREATE TABLE a(b TEXT); CREATE TABLE v(x);"+rows,
		"PRAGMA writable_schema=ON; UPDATE sqlite_schema SET rootpage=0, sql = 'CREATE VIRTUAL TABLE v USING spellfix9(x)' WHERE name='v'; PRAGMA page_count;")
	return map[string]string{"collation": at("collation"), "function": at("function"), "module": at("module")}
}

func TestUnsupportedIsNotDamage(t *testing.T) {
	wants := map[string]string{"collation": "needs collation GERMAN", "function": "shout", "module": "spellfix9"}
	for name, path := range needing(t) {
		if name == "module" {
			continue // its page is an orphan, and that is damage
		}
		r, err := Check(t.Context(), path, CheckOptions{Traverse: true})
		must(t, err)
		if !r.OK || !strings.Contains(strings.Join(r.Unsupported, "\n"), wants[name]) {
			t.Errorf("%s: %+v", name, r)
		}
		before := shell(t, path, "SELECT count(*), sum(length(b)) FROM a NOT INDEXED;")
		c, err := Compact(t.Context(), path, CompactOptions{Force: true})
		if err != nil || c.Status != Skipped || c.Reason != NotSupported || !strings.Contains(c.Note, strings.TrimPrefix(wants[name], "needs collation ")) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
		if after := shell(t, path, "SELECT count(*), sum(length(b)) FROM a NOT INDEXED;"); after != before {
			t.Errorf("%s: %s became %s", name, before, after)
		}
		taken := false
		must(t, TakeSnapshot(t.Context(), path, SnapshotOptions{}, func(_ context.Context, s *Snapshot) error {
			taken = len(s.Unsupported()) > 0 && s.Stats().PageCount > 1
			return nil
		}))
		if !taken {
			t.Errorf("%s: no snapshot", name)
		}
	}
}

func TestCheckEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	bulk(t, path, "PRAGMA journal_mode=WAL; CREATE TABLE a(x);", 4000)
	for _, phase := range []string{"integrity_check", "count"} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Check(ctx, path, CheckOptions{Traverse: true, Progress: func(p string, _, _ int64) {
			if p == phase {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", phase, err)
		}
		cancel()
	}
}
