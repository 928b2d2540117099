package table

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"tablekeeper/storage/needtest"
)

// shellWriter is the sqlite3 shell as a process that inserts rows 1, 2, 3 and so on into the SQL table written, one a commit. It returns when three are
// committed; the function that it returns ends it, and tells how many were acknowledged.
func shellWriter(t *testing.T, path string) (acked func() int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), needtest.Program(t, "sqlite3"), "-batch", "-bail", path)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	_, err = io.WriteString(stdin, ".timeout 60000\n")
	must(t, err)
	begun, stop, done := make(chan struct{}), make(chan struct{}), make(chan int, 1)
	go func() {
		n := 0
		defer func() { done <- n }()
		for lines := bufio.NewScanner(stdout); ; {
			// The shell keeps what it prints until it has much of it; what a program that it starts prints comes at once. -bail: it
			// does not come to that line after an error.
			if _, err := fmt.Fprintf(stdin, "INSERT INTO written VALUES (%d);\n.system echo %d\n", n+1, n+1); err != nil || !lines.Scan() {
				return
			}
			if got, err := strconv.Atoi(lines.Text()); err != nil || got != n+1 {
				return
			}
			if n++; n == 3 {
				close(begun)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	select {
	case <-begun:
	case n := <-done:
		t.Fatalf("the shell ended after %d rows", n)
	}
	return func() int {
		close(stop)
		n := <-done
		must(t, stdin.Close())
		_, _ = io.Copy(io.Discard, stdout)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the shell: %v", err)
		}
		return n
	}
}

// The sqlite3 shell, another build of another version of SQLite, commits all the while: no row that it was told of is lost, whatever the strategy.
func TestShellWriterLosesNothing(t *testing.T) {
	for _, strategy := range []string{strategyVacuum, strategyCopyIn, strategySlices, strategyOnline} {
		for _, mode := range []string{"WAL", "DELETE"} {
			if strategy == strategyOnline && mode == "DELETE" { // what is owned has a WAL
				continue
			}
			t.Run(strategy+" "+mode, func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), "x.db")
				setup := "PRAGMA journal_mode=" + mode + ";"
				if strategy == strategySlices {
					setup = "PRAGMA auto_vacuum=INCREMENTAL;" + setup
				}
				sqliteShell(t, path, setup, "CREATE TABLE written(n INT); CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB);")
				compact, end := compactor(t, path, strategy)
				acked := shellWriter(t, path)
				did := map[string]int{}
				for range 4 {
					sqliteShell(t, path, "INSERT INTO t SELECT value, randomblob(900) FROM generate_series(1, 500); DELETE FROM t;")
					report, err := compact()
					did[fmt.Sprint(report.Status, " ", report.Strategy, " ", report.Reason, err)]++
				}
				n := acked()
				end()
				t.Logf("%v, %d rows", did, n)
				if did[Compacted+" "+strategy+" <nil>"] == 0 && (strategy == strategyVacuum || strategy == strategySlices) {
					t.Errorf("%s was not tried", strategy)
				}
				if got := sqliteShell(t, path, "SELECT count(*) || ' ' || max(n) FROM written; PRAGMA integrity_check;"); got != fmt.Sprintf("%d %d\nok", n, n) {
					t.Errorf("%d rows were acknowledged, there are: %s", n, got)
				}
			})
		}
	}
}

// compactor compacts a table in one way; the online one by its owner.
func compactor(t *testing.T, path, strategy string) (compact func() (Compaction, error), end func()) {
	t.Helper()
	if strategy == strategyOnline {
		table, err := Open(t.Context(), path, quietOwned)
		must(t, err)
		return func() (Compaction, error) { return compactBeside(t.Context(), table) }, func() { must(t, table.Close()) }
	}
	opts := CompactOptions{Force: true, MaxPause: time.Minute, Wait: time.Minute}
	return func() (Compaction, error) {
		if strategy == strategyCopyIn {
			byCopy(t, path)
		} else {
			learnPace(path, pace{Vacuum: fastestPace})
		}
		return Compact(context.WithoutCancel(t.Context()), path, opts)
	}, func() {}
}
