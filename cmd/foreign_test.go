package cmd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// foreign is a database that another program makes.
type foreign struct {
	name  string
	needs []string // programs
	make  func(t *testing.T, path string)
	heavy bool
}

// foreigners are databases of programs that know nothing of us, and the shapes of file that the sqlite3 shell can make.
var foreigners = []foreign{
	{name: "fossil", needs: []string{"fossil"}, make: makeFossil},
	{name: "subversion", needs: []string{"svn", "svnadmin"}, make: makeSubversion},
	{name: "rpm", needs: []string{"rpm"}, make: makeRPM},
	{name: "spatialite", needs: []string{"spatialite"}, make: makeSpatialite},
	{name: "proj", needs: []string{"proj"}, make: makeProj},
	{name: "sqlar", make: shell("", ".archive --create foreign_test.go house_test.go")},
	{name: "wal", make: shell("PRAGMA journal_mode=WAL", rows)},
	{name: "fts5", make: shell("", `CREATE VIRTUAL TABLE docs USING fts5(title, body, tokenize='porter'); INSERT INTO docs SELECT 'title '||value, 'the body of document '||value FROM generate_series(1,2000); DELETE FROM docs WHERE rowid % 3 = 0;`)},
	{name: "rtree", make: shell("", `CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1, y0, y1); INSERT INTO boxes SELECT value, value, value+1, value, value+2 FROM generate_series(1,3000); DELETE FROM boxes WHERE id < 2000;`)},
	{name: "without-rowid", make: shell("", `CREATE TABLE w (a TEXT, b INT, c BLOB, PRIMARY KEY (b DESC, a)) WITHOUT ROWID; INSERT INTO w SELECT 'k'||value, value%7, randomblob(50) FROM generate_series(1,5000); DELETE FROM w WHERE b = 3;`)},
	{name: "generated", make: shell("", `CREATE TABLE g (a INT, b INT AS (a*2) STORED, c TEXT AS ('n'||a) VIRTUAL, CHECK (b >= a)); CREATE INDEX gc ON g (c); INSERT INTO g(a) SELECT value FROM generate_series(1,5000); DELETE FROM g WHERE a % 2;`)},
	{name: "pages-64k", make: shell("PRAGMA page_size=65536", rows)},
	{name: "pages-512", make: shell("PRAGMA page_size=512", rows)},
	{name: "utf16", make: shell("PRAGMA encoding='UTF-16be'", rows+`INSERT INTO t(s) VALUES ('žluťoučký kůň 🐎');`)},
	{name: "auto-vacuum-full", make: shell("PRAGMA auto_vacuum=FULL", rows)},
	{name: "auto-vacuum-incremental", make: shell("PRAGMA auto_vacuum=INCREMENTAL", rows)},
	{name: "triggers-and-views", make: shell("", rows+`CREATE TABLE log (n); CREATE TRIGGER tr AFTER DELETE ON t BEGIN INSERT INTO log VALUES (old.id); END; CREATE VIEW v AS SELECT count(*) n FROM t; DELETE FROM t WHERE id < 50;`)},
	{name: "empty-schema", make: shell("", `PRAGMA user_version=7; CREATE TABLE x(a); DROP TABLE x;`)},
	{name: "beyond-the-lock-page", heavy: true, make: shell("", `CREATE TABLE big (id INTEGER PRIMARY KEY, b BLOB); INSERT INTO big SELECT value, zeroblob(1000000) FROM generate_series(1,1100); UPDATE big SET b = randomblob(200000) WHERE id % 7 = 0; DELETE FROM big WHERE id % 5 = 0;`)},
}

const rows = `CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT, b BLOB); CREATE INDEX ts ON t (s);
INSERT INTO t SELECT value, 'row '||value, randomblob(200) FROM generate_series(1,4000); DELETE FROM t WHERE id % 2 = 0;`

// shell lets the sqlite3 shell make a database: first in a statement of its own, before anything is written.
func shell(first, script string) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		input := "PRAGMA trusted_schema=1;\n" + first + ";\n" + script
		if strings.HasPrefix(script, ".") {
			input = script
		}
		program(t, strings.NewReader(input), "sqlite3", "-bail", path)
	}
}

func makeFossil(t *testing.T, path string) {
	work := t.TempDir()
	at(t, work, "fossil", "init", path)
	at(t, work, "fossil", "open", "--nested", path)
	if err := os.WriteFile(filepath.Join(work, "a.txt"), bytes.Repeat([]byte("hello world\n"), 5000), 0o644); err != nil {
		t.Fatal(err)
	}
	at(t, work, "fossil", "add", "a.txt")
	at(t, work, "fossil", "commit", "-m", "one", "--no-warnings")
	at(t, work, "fossil", "fts-config", "index", "on")
	at(t, work, "fossil", "close", "--force")
}

func makeSubversion(t *testing.T, path string) {
	work := t.TempDir()
	at(t, work, "svnadmin", "create", "repo")
	at(t, work, "svn", "checkout", "-q", "file://"+filepath.Join(work, "repo"), "copy")
	for _, name := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(work, "copy", name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	at(t, filepath.Join(work, "copy"), "svn", "add", "-q", "a", "b", "c")
	at(t, filepath.Join(work, "copy"), "svn", "commit", "-q", "-m", "three files")
	copyFile(t, filepath.Join(work, "copy", ".svn", "wc.db"), path)
}

func makeRPM(t *testing.T, path string) {
	work := t.TempDir()
	at(t, work, "rpm", "--dbpath", work, "--initdb")
	copyFile(t, filepath.Join(work, "rpmdb.sqlite"), path)
}

func makeSpatialite(t *testing.T, path string) {
	program(t, strings.NewReader(`CREATE TABLE places (id INTEGER PRIMARY KEY, name TEXT);
SELECT AddGeometryColumn('places','geom',4326,'POINT','XY'); SELECT CreateSpatialIndex('places','geom');
INSERT INTO places SELECT value, 'place '||value, MakePoint(value % 180, value % 90, 4326) FROM (WITH RECURSIVE c(value) AS (SELECT 1 UNION ALL SELECT value+1 FROM c LIMIT 500) SELECT value FROM c);
DELETE FROM places WHERE id % 3 = 0;`), "spatialite", path)
}

func makeProj(t *testing.T, path string) {
	found, err := filepath.Glob("/usr/share/proj/proj.db")
	if err != nil || len(found) == 0 {
		t.Fatalf("proj is installed without its database: %v", err)
	}
	copyFile(t, found[0], path)
}

// The whole cycle on a file of each: compact, back up, drill, delete, restore in place. What the sqlite3 shell reads is the
// same before and after.
func TestForeignFilesSurviveTheCycle(t *testing.T) {
	for _, f := range foreigners {
		t.Run(f.name, func(t *testing.T) {
			if f.heavy && (raceEnabled || testing.Short()) {
				t.Skip("much data: runs without the race detector")
			}
			need(t, append(f.needs, "sqlite3")...)
			folder, bucket := t.TempDir(), t.TempDir()
			path := filepath.Join(folder, f.name+".db")
			f.make(t, path)
			before := dump(t, path)

			keeper := []string{"--tables", folder, "--bucket", "file://" + bucket}
			tablekeeper(t, append(keeper, "backup", f.name)...)
			tablekeeper(t, append(keeper, "compact", f.name, "--force", "--max-pause", "60s")...)
			if got := dump(t, path); got != before {
				t.Error("compaction changed what the sqlite3 shell reads")
			}
			tablekeeper(t, append(keeper, "backup", f.name)...)
			tablekeeper(t, append(keeper, "verify", f.name)...)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			tablekeeper(t, append(keeper, "restore", f.name, "--in-place", "--yes")...)
			if got := dump(t, path); got != before {
				t.Error("the restored table is another one")
			}
			if got := query(t, path, "PRAGMA integrity_check"); got != "ok" {
				t.Errorf("integrity_check: %s", got)
			}
		})
	}
}

// A process that is not ours writes all the while, in both journal modes; each commit that it was told of is there at the end.
func TestForeignWriterLosesNothing(t *testing.T) {
	need(t, "python3", "sqlite3")
	for _, mode := range []string{"WAL", "DELETE"} {
		t.Run(mode, func(t *testing.T) {
			folder, bucket := t.TempDir(), t.TempDir()
			path := filepath.Join(folder, "busy.db")
			shell("PRAGMA journal_mode="+mode, rows+"CREATE TABLE acknowledged (n INTEGER PRIMARY KEY);")(t, path)
			stop := startWriter(t, path)
			keeper := []string{"--tables", folder, "--bucket", "file://" + bucket}
			for range 3 {
				tablekeeper(t, append(keeper, "backup", "busy")...)
				attempt(t, append(keeper, "compact", "busy", "--force", "--max-pause", "5s")...)
				tablekeeper(t, append(keeper, "verify", "busy")...)
			}
			acknowledged := stop()
			if len(acknowledged) == 0 {
				t.Fatal("the writer committed nothing")
			}
			got := strings.Fields(query(t, path, "SELECT n FROM acknowledged ORDER BY n"))
			// The last commit may be there without the writer having lived to say so.
			if len(got) < len(acknowledged) || !slices.Equal(got[:len(acknowledged)], acknowledged) {
				t.Errorf("%d commits were acknowledged, %d are there", len(acknowledged), len(got))
			}
			t.Logf("%d acknowledged commits, all there", len(acknowledged))
		})
	}
}

// told is what a program prints. begun is closed when it is something.
type told struct {
	text  bytes.Buffer
	once  sync.Once
	begun chan struct{}
}

func (w *told) Write(p []byte) (int, error) {
	defer w.once.Do(func() { close(w.begun) })
	return w.text.Write(p)
}

// startWriter runs a Python program that commits one row after another and prints each number once it is committed. It returns when one is.
func startWriter(t *testing.T, path string) (stop func() []string) {
	t.Helper()
	const script = `
import signal, sqlite3, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests are run in the background of a shell
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
n = 0
while True:
    n += 1
    db.execute("INSERT INTO acknowledged VALUES (?)", (n,))
    print(n, flush=True)
    if n % 20 == 0:
        time.sleep(0.005)  # SQLite's locks have no queue
`
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "python3", "-c", script, path)
	out, errs := told{begun: make(chan struct{})}, bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-out.begun:
	case err := <-ended:
		t.Fatalf("the writer ended: %v\n%s", err, errs.String())
	}
	return func() []string {
		cancel()
		err := <-ended
		if !errors.Is(err, context.Canceled) && !strings.Contains(errs.String(), "KeyboardInterrupt") {
			t.Errorf("the writer stopped by itself: %v\n%s", err, errs.String())
		}
		lines := strings.Split(out.text.String(), "\n")
		return lines[:len(lines)-1]
	}
}

// dump is the SHA-256 of all that the sqlite3 shell reads from a database. Its lines are sorted: VACUUM writes the schema in
// another order (SQL tables, indexes, then the rest).
func dump(t *testing.T, path string) string {
	t.Helper()
	lines := strings.Split(program(t, nil, "sqlite3", "-readonly", path, ".dump"), "\n")
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:])
}

func query(t *testing.T, path, statement string) string {
	t.Helper()
	return strings.TrimSpace(program(t, nil, "sqlite3", path, statement))
}

func at(t *testing.T, folder string, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "HOME="+folder, "USER=tester")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// program runs a program and returns what it prints.
func program(t *testing.T, stdin *strings.Reader, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	if stdin != nil {
		cmd.Stdin = stdin
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return string(out)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, 0o644); err != nil {
		t.Fatal(err)
	}
}
