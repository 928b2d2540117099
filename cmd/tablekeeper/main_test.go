package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"

	"tablekeeper/jobs/history"
	"tablekeeper/storage/needtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tablekeeper": main})
}

// TestScripts runs the real program: standard output, standard error and exit status of each command.
func TestScripts(t *testing.T) {
	testscript.Run(t, scriptParams("testdata/script"))
}

// scriptParams are what all scripts have in common.
func scriptParams(dir string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("NO_COLOR", "1")
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TZ", "UTC")
			env.Setenv("GOMAXPROCS", "2")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": exitStatus, "mktable": makeTable, "rows": countRows, "damage": damage, "execsql": runSQL, "rmall": removeAll, "rot": rot, "rename": renameFile, "salvageall": salvageAll, "keygen": makeKey, "fifo": makeFIFO, "await": awaitService, "freeport": freePortIn, "receiver": startReceiver, "awaitrun": awaitRun,
		},
		Condition: func(name string) (bool, error) {
			if name == "race" {
				return raceDetector, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
	}
}

// exitStatus runs a command and compares its exit status: status N tablekeeper ...
func exitStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := err.(interface{ ExitCode() int }); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// makeTable makes a table in WAL mode: mktable FILE ROWS [FREE], FREE being the share of rows deleted again, in percent.
func makeTable(ts *testscript.TestScript, _ bool, args []string) {
	rows, err := strconv.Atoi(args[1])
	ts.Check(err)
	free := 0
	if len(args) > 2 {
		free, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(args[0])), 0o755))
	execSQL(ts, args[0],
		"PRAGMA journal_mode=WAL",
		"CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, body BLOB)",
		fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) INSERT INTO item SELECT i, 'item ' || i, randomblob(400) FROM n", rows),
		fmt.Sprintf("DELETE FROM item WHERE id > %d", rows-rows*free/100),
		"PRAGMA wal_checkpoint(TRUNCATE)")
}

// countRows compares the number of rows of a table made by mktable, and has SQLite check it: rows FILE N.
func countRows(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	defer db.Close()
	var got int
	var verdict string
	ts.Check(db.QueryRowContext(context.Background(), "SELECT count(*) FROM item").Scan(&got))
	ts.Check(db.QueryRowContext(context.Background(), "PRAGMA integrity_check").Scan(&verdict))
	if got != want || verdict != "ok" {
		ts.Fatalf("%d rows, want %d; integrity_check: %s", got, want, verdict)
	}
}

// damage overwrites the middle of a table: damage FILE.
func damage(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR, 0)
	ts.Check(err)
	defer f.Close()
	info, err := f.Stat()
	ts.Check(err)
	_, err = f.WriteAt(make([]byte, 8192), info.Size()/2/4096*4096)
	ts.Check(err)
}

// patience is how long a script waits for what must come: long, since the machine may be busy.
const patience = 3 * time.Minute

// awaitService waits until a service answers: await STATE.
func awaitService(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		s, err := findService(context.Background(), ts.MkAbs(args[0]))
		if s != nil && err == nil {
			return
		}
		runtime.Gosched()
	}
	ts.Fatalf("no service on %s", args[0])
}

// freePortIn names a port that nobody listens on: freeport VARIABLE.
func freePortIn(ts *testscript.TestScript, _ bool, args []string) {
	port, err := needtest.Port()
	ts.Check(err)
	ts.Setenv(args[0], strconv.Itoa(port))
}

// startReceiver is the other end of webhooks until the script ends; it keeps what it takes in a file: receiver VARIABLE FILE.
func startReceiver(ts *testscript.TestScript, _ bool, args []string) {
	file := ts.MkAbs(args[1])
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path == "/refuse" || os.WriteFile(file, body, 0o600) != nil {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.URL)
}

// awaitRun waits until the history has a run that ended, by its trigger: awaitrun STATE TRIGGER.
func awaitRun(ts *testscript.TestScript, _ bool, args []string) {
	store, err := history.OpenReader(context.Background(), filepath.Join(ts.MkAbs(args[0]), history.File), history.Options{})
	ts.Check(err)
	defer store.Close()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		page, err := store.List(context.Background(), history.Filter{Trigger: args[1], Limit: 1})
		ts.Check(err)
		if len(page.Runs) == 1 && page.Runs[0].Status.Ended() {
			return
		}
		runtime.Gosched()
	}
	ts.Fatalf("no run by %s", args[1])
}

// makeKey writes an age identity and its recipient: keygen IDENTITY RECIPIENT.
func makeKey(ts *testscript.TestScript, _ bool, args []string) {
	key, err := age.GenerateX25519Identity()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(key.String()+"\n"), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte("# of a test\n"+key.Recipient().String()+"\n"), 0o600))
}

func execSQL(ts *testscript.TestScript, file string, statements ...string) {
	db, err := sql.Open("sqlite", ts.MkAbs(file))
	ts.Check(err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, s := range statements {
		_, err := db.ExecContext(context.Background(), s)
		ts.Check(err)
	}
}

// runSQL runs SQL on a table: execsql FILE STATEMENT...
func runSQL(ts *testscript.TestScript, _ bool, args []string) { execSQL(ts, args[0], args[1:]...) }

// removeAll removes a folder: rmall DIR.
func removeAll(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.RemoveAll(ts.MkAbs(args[0])))
}

// rot is damage that leaves no trace in the file's time, as a disk does it: rot FILE.
func rot(ts *testscript.TestScript, neg bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	damage(ts, neg, args)
	ts.Check(os.Chtimes(ts.MkAbs(args[0]), time.Time{}, info.ModTime()))
}

// renameFile renames a file or a folder: rename OLD NEW.
func renameFile(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.Rename(ts.MkAbs(args[0]), ts.MkAbs(args[1])))
}

// salvageAll salvages the newest file in a table's quarantine: salvageall QUARANTINE OUTPUT.
func salvageAll(ts *testscript.TestScript, _ bool, args []string) {
	kept, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "*", filepath.Base(args[0])))
	ts.Check(err)
	if len(kept) == 0 {
		ts.Fatalf("nothing is in quarantine")
	}
	ts.Check(ts.Exec("tablekeeper", "salvage", kept[len(kept)-1], "-o", args[1]))
}
