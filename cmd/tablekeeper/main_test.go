package main

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tablekeeper": main})
}

// TestScripts runs the real program: standard output, standard error and exit status of each command.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("NO_COLOR", "1")
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TZ", "UTC")
			env.Setenv("GOMAXPROCS", "2")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": exitStatus, "sqlite": runSQL, "mktable": makeTable, "fifo": makeFIFO,
		},
	})
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

// runSQL runs statements: sqlite FILE STATEMENT... . The last one's first value goes to standard output, in a file.
func runSQL(ts *testscript.TestScript, _ bool, args []string) { execSQL(ts, args[0], args[1:]...) }

func execSQL(ts *testscript.TestScript, file string, statements ...string) {
	db, err := sql.Open("sqlite", ts.MkAbs(file))
	ts.Check(err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, s := range statements {
		_, err := db.Exec(s)
		ts.Check(err)
	}
}
