package table

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tablekeeper/storage/needtest"
)

// fixture is a kind of database that other programs make.
type fixture struct {
	name  string
	setup string // settings, before the first SQL table
	sql   string // what is in it; "" is plainTable
	free  bool   // it has free pages
	wal   bool
}

const settings = "PRAGMA user_version=42; PRAGMA application_id=305419896;"

// plainTable is about 300 pages of 4 KiB, half of them free.
const plainTable = `CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, body BLOB, n INT); CREATE INDEX item_n ON item(n);
	CREATE INDEX item_odd ON item(name) WHERE n % 2; CREATE INDEX item_expr ON item(n + 1);
	WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 2000)
	INSERT INTO item SELECT x, 'item ' || x, randomblob(400), x * 7919 % 1009 FROM c;
	DELETE FROM item WHERE id BETWEEN 400 AND 1500;`

const smallTable = `CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, n INT);
	WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 1000)
	INSERT INTO item SELECT x, 'item ' || x || hex(zeroblob(40)), x FROM c;`

var fixtures = []fixture{
	{name: "rollback", free: true},
	{name: "persist", setup: "PRAGMA journal_mode=PERSIST;", free: true},
	{name: "wal", setup: "PRAGMA journal_mode=WAL;", free: true, wal: true},
	{name: "page512", setup: "PRAGMA page_size=512;", free: true},
	{name: "page65536", setup: "PRAGMA page_size=65536; PRAGMA journal_mode=WAL;", free: true, wal: true},
	{name: "utf16le", setup: "PRAGMA encoding='UTF-16le';", free: true},
	{name: "utf16be", setup: "PRAGMA encoding='UTF-16be'; PRAGMA journal_mode=WAL;", free: true, wal: true},
	{name: "autofull", setup: "PRAGMA auto_vacuum=FULL;"},
	{name: "incremental", setup: "PRAGMA auto_vacuum=INCREMENTAL;", free: true},
	{name: "incremental_wal", setup: "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL;", free: true, wal: true},
	{name: "no_schema", setup: "PRAGMA journal_mode=WAL;", sql: "PRAGMA user_version=1;", wal: true},
	{name: "no_rows", sql: "CREATE TABLE a(x); CREATE TABLE b(y PRIMARY KEY) WITHOUT ROWID;"},
	{name: "without_rowid", free: true, sql: smallTable + `CREATE TABLE pair(a TEXT, b INT, c BLOB, PRIMARY KEY(b, a)) WITHOUT ROWID;
		CREATE INDEX pair_c ON pair(c); INSERT INTO pair SELECT name, id, randomblob(200) FROM item; DELETE FROM pair WHERE b % 100 < 60;`},
	{name: "fts5", setup: "PRAGMA journal_mode=WAL;", free: true, wal: true, sql: smallTable + `CREATE VIRTUAL TABLE text USING fts5(name, content='item', content_rowid='id');
		INSERT INTO text(rowid, name) SELECT id, name FROM item; CREATE VIRTUAL TABLE own USING fts5(word, extra);
		INSERT INTO own SELECT name, name || ' more' FROM item; DROP TABLE text;`},
	{name: "rtree", free: true, sql: smallTable + `CREATE VIRTUAL TABLE box USING rtree(id, x0, x1, y0, y1);
		INSERT INTO box SELECT id, id, id + 1, n, n + 2 FROM item; DELETE FROM box WHERE id % 3;
		CREATE TABLE gone AS SELECT * FROM item; DROP TABLE gone;`},
	{name: "generated", free: true, sql: smallTable + `CREATE TABLE g(a INT, b INT AS (a * 2) VIRTUAL, c TEXT AS (a || 'x') STORED, d BLOB);
		CREATE INDEX g_b ON g(b); INSERT INTO g(a, d) SELECT id, randomblob(300) FROM item; DELETE FROM g WHERE a > 300;`},
	{name: "triggers", free: true, sql: smallTable + `CREATE TABLE log(at INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT);
		CREATE VIEW tail AS SELECT * FROM log ORDER BY at DESC LIMIT 3; CREATE TRIGGER item_gone AFTER DELETE ON item BEGIN INSERT INTO log(what) VALUES (old.name); END;
		CREATE TABLE child(id INTEGER PRIMARY KEY, item REFERENCES item(id)); INSERT INTO child SELECT id, id FROM item WHERE id < 50;
		DELETE FROM item WHERE id BETWEEN 100 AND 800; DELETE FROM log WHERE at % 7; DROP TABLE IF EXISTS x; CREATE TABLE x AS SELECT name, randomblob(500) FROM item; DROP TABLE x;`},
	{name: "strange_names", free: true, sql: `CREATE TABLE "a ""quoted"" name; --"("from" TEXT, "[]" INT, 'ü' BLOB); CREATE INDEX "an 'index'" ON "a ""quoted"" name; --"("from", "[]");
		WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 2000) INSERT INTO "a ""quoted"" name; --" SELECT 'x' || x, x, randomblob(200) FROM c;
		DELETE FROM "a ""quoted"" name; --" WHERE "[]" > 700;`},
}

// shell runs the sqlite3 program, which stands for all the programs that are not ours.
func shell(t testing.TB, path string, statements ...string) string {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), needtest.Program(t, "sqlite3"), "-batch", "-bail", "-init", "/dev/null", path)
	cmd.Stdin = strings.NewReader(".timeout 60000\n" + strings.Join(statements, "\n") + "\n")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("sqlite3 %s: %v\n%s%s", path, err, out, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

// make makes the database, and has it checked when the test ends.
func (f fixture) make(t testing.TB, path string) {
	t.Helper()
	content := f.sql
	if content == "" {
		content = plainTable
	}
	shell(t, path, "PRAGMA synchronous=OFF;", f.setup, settings, content)
	soundAtEnd(t, path)
}

func soundAtEnd(t testing.TB, path string) {
	t.Cleanup(func() {
		if got := shell(t, path, "PRAGMA integrity_check;"); got != "ok" {
			t.Errorf("%s is damaged: %s", path, got)
		}
	})
}

// dump is the whole content of a database, in the words of the sqlite3 program.
func dump(t testing.TB, path string) string {
	t.Helper()
	return shell(t, path, "PRAGMA user_version;", "PRAGMA application_id;", "PRAGMA page_size;", "PRAGMA encoding;", "PRAGMA auto_vacuum;", ".dump")
}

// eachFixture runs a test on every kind of database.
func eachFixture(t *testing.T, test func(t *testing.T, f fixture, path string)) {
	for _, f := range fixtures {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), f.name+".db")
			f.make(t, path)
			test(t, f, path)
		})
	}
}

// bulk makes a table of so many rows of 1,000 bytes, every second of them deleted again in runs.
func bulk(t testing.TB, path, setup string, rows int) {
	t.Helper()
	shell(t, path, "PRAGMA synchronous=OFF;", setup, fmt.Sprintf(`CREATE TABLE item(id INTEGER PRIMARY KEY, body BLOB);
		WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < %d) INSERT INTO item SELECT x, randomblob(1000) FROM c;
		DELETE FROM item WHERE id %% 200 < 100;`, rows))
	soundAtEnd(t, path)
}
