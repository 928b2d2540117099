package table

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"tablekeeper/storage/childtest"
)

func init() {
	children["own"] = ownAndCheckpoint
	children["own until killed"] = ownUntilKilled
	children["own despite errors"] = ownDespiteErrors
}

// acknowledge adds a row, and says so only then.
func acknowledge(table *Table, acks *os.File, n int) error {
	err := table.Write(context.Background(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(context.Background(), "INSERT INTO t(v) VALUES(randomblob(2000))")
		if err == nil && n%2 == 0 {
			_, err = tx.ExecContext(context.Background(), "UPDATE t SET v = randomblob(2000) WHERE id % 7 = ?", n%7)
		}
		return err
	})
	if err == nil {
		_, err = acks.WriteString(".")
	}
	return err
}

// ownAndCheckpoint does everything by which an owned table changes its files, on one thread.
func ownAndCheckpoint(words []string) error {
	acks, err := os.OpenFile(words[1], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	table, err := Open(context.Background(), words[0], quietOwned)
	if err != nil {
		return err
	}
	for n := range 3 {
		for range 2 {
			if err := acknowledge(table, acks, n); err != nil {
				return err
			}
		}
		if _, err := table.Checkpoint(context.Background()); err != nil {
			return err
		}
	}
	if err := acknowledge(table, acks, 4); err != nil {
		return err
	}
	return table.Close()
}

// today tells which of many cases are tried: one of every few, others on another day; with TABLE_TEST_THOROUGH=1 all.
func today(every int) func(i int) bool {
	if os.Getenv("TABLE_TEST_THOROUGH") != "" {
		every = 1
	}
	day := time.Now().YearDay()
	return func(i int) bool { return (i+day)%every == 0 }
}

// killOwner kills the owner of a table, in a role, at one call of every few by which it changes the disk. after gets the table, and how
// many rows were acknowledged.
func killOwner(t *testing.T, role string, every int, after func(path string, acked int, at string)) {
	t.Helper()
	var path, acks string
	all, tried, kills := killAtSomeCalls(t, every, func(t *testing.T) (string, []string) {
		path, acks = ownedToKill(t)
		return filepath.Dir(path), []string{role, path, acks}
	}, func(t *testing.T, _, at string) {
		b, err := os.ReadFile(acks)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		after(path, 40+len(b), at)
	})
	t.Logf("%d kills at %d calls", kills, all)
	if !t.Failed() && (kills < tried/2 || all < 60) {
		t.Error("the owner was not killed at its work")
	}
}

// openAfterKill opens a table whose owner was killed: no acknowledged row is lost, and there is no false alarm.
func openAfterKill(t *testing.T, path string, acked int, at string) (*Table, Scrubbed) {
	t.Helper()
	table, err := Open(t.Context(), path, quietOwned)
	if err != nil {
		t.Fatalf("%s: %v", at, err)
	}
	if n := ownedInt(t, table, "SELECT count(*) FROM t"); n != acked && n != acked+1 {
		t.Fatalf("%s: %d rows, %d were acknowledged", at, n, acked)
	}
	settleOwned(t, table)
	done, err := table.Scrub(t.Context(), ScrubOptions{})
	if err != nil || len(done.Bad) > 0 {
		t.Fatalf("%s: false alarm: %v, %v", at, done.Bad, err)
	}
	return table, done
}

// afterKill is what must be true once the owner of a table was killed, and that a flip made afterwards is found.
func afterKill(t *testing.T, path string, acked int, rng *rand.Rand, at string) (unproven int) {
	t.Helper()
	table, done := openAfterKill(t, path, acked, at)
	bit := rng.Int64N(done.Bytes * 8)
	flipOwned(t, path, bit)
	if done, err := table.Scrub(t.Context(), ScrubOptions{}); err != nil || !slices.Equal(done.Bad, []uint32{uint32(bit/8/4096) + 1}) {
		t.Fatalf("%s: bit %d was flipped: bad pages %v, %v", at, bit, done.Bad, err)
	}
	flipOwned(t, path, bit)
	if err := table.Close(); err != nil {
		t.Fatalf("%s: %v", at, err)
	}
	return done.Unproven
}

// TestOwnerKilledAtEachCall tries every fifth call.
func TestOwnerKilledAtEachCall(t *testing.T) {
	needStrace(t)
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	kills, unproven := 0, 0
	killOwner(t, "own", 5, func(path string, acked int, at string) {
		kills++
		if afterKill(t, path, acked, rng, at) > 0 {
			unproven++
		}
	})
	t.Logf("after %d of them some pages were unproven", unproven)
	if unproven*5 > kills {
		t.Error("too little is proven after a kill")
	}
}

func ownedToKill(t *testing.T) (path, acks string) {
	dir := t.TempDir()
	path, acks = filepath.Join(dir, "tables", "x.db"), filepath.Join(dir, "acks")
	must(t, os.Mkdir(filepath.Dir(path), 0o700))
	table, err := Open(t.Context(), path, quietOwned)
	must(t, err)
	writeOwned(t, table, "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
	writeOwned(t, table, "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 40) INSERT INTO t(v) SELECT randomblob(2000) FROM c")
	must(t, table.Close())
	return path, acks
}

// ownUntilKilled lets the table checkpoint as it likes.
func ownUntilKilled(words []string) error {
	table, err := Open(context.Background(), words[0], Options{CheckpointBytes: 40 << 10, Idle: time.Millisecond})
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		if err := acknowledge(table, os.Stdout, n); err != nil {
			return err
		}
		if _, err := fmt.Println(n); err != nil {
			return err
		}
	}
}

// Killed in the middle of its work, again and again, on one file.
func TestOwnerKilledAtRandom(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	table, err := Open(t.Context(), path, quietOwned)
	must(t, err)
	writeOwned(t, table, "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
	must(t, table.Close())
	rng := rand.New(rand.NewPCG(5, 6))
	rows, rounds, most, unproven := 0, 8, 60, 0
	if raceEnabled {
		rounds, most = 3, 20
	}
	for round := range rounds {
		rows += runUntilKilled(t, path, 1+rng.IntN(most))
		if afterKill(t, path, rows, rng, "round "+strconv.Itoa(round)) > 0 {
			unproven++
		}
		rows = countRows(t, path)
	}
	t.Logf("%d kills, %d rows; after %d of them some pages were unproven", rounds, rows, unproven)
}

func countRows(t *testing.T, path string) int {
	table, err := Open(t.Context(), path, quietOwned)
	must(t, err)
	defer func() { must(t, table.Close()) }()
	return ownedInt(t, table, "SELECT count(*) FROM t")
}

// runUntilKilled kills the owner once it has acknowledged so many rows, and returns how many it had acknowledged in the end.
func runUntilKilled(t *testing.T, path string, after int) (acked int) {
	t.Helper()
	cmd := childtest.Command(t, "own until killed", path)
	cmd.Env = append(cmd.Env, "GOMAXPROCS=2")
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if acked++; acked == after {
			must(t, cmd.Process.Kill())
		}
	}
	_ = cmd.Wait()
	return acked
}

// ownDespiteErrors goes on after each error, as a program would.
func ownDespiteErrors(words []string) error {
	acks, err := os.OpenFile(words[1], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	table, err := Open(context.Background(), words[0], quietOwned)
	if err != nil {
		return nil //nolint:nilerr // that is an answer, too
	}
	for n := range 3 {
		for range 2 {
			_ = acknowledge(table, acks, n)
		}
		_, _ = table.Checkpoint(context.Background())
	}
	_ = acknowledge(table, acks, 4)
	_ = table.Close()
	return nil
}

// TestOwnerMeetsErrorAtEachCall tries every fourth of the calls that write, sync or cut a file: it fails once, and the program goes on.
func TestOwnerMeetsErrorAtEachCall(t *testing.T) {
	needStrace(t)
	t.Parallel()
	chosen := today(4)
	rng := rand.New(rand.NewPCG(7, 8))
	path, acks := ownedToKill(t)
	calls := traceChild(t, filepath.Dir(path), "own despite errors", path, acks)
	tried, unproven := 0, 0
	for name, errno := range map[string]string{"pwrite64": "ENOSPC", "fsync": "EIO", "fdatasync": "EIO", "ftruncate": "EIO", "renameat": "EIO", "rename": "EIO"} {
		for i, n := range calls[name] {
			if !chosen(i) {
				continue
			}
			tried++
			path, acks = ownedToKill(t)
			at := fmt.Sprintf("%s %d fails", name, n)
			out, err := childtest.Strace(t, []string{"own despite errors", path, acks}, "-o", os.DevNull, "-e", "trace="+name,
				"-e", fmt.Sprintf("inject=%s:error=%s:when=%d", name, errno, n)).CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s", at, err, out)
			}
			b, err := os.ReadFile(acks)
			must(t, err)
			if afterErrors(t, path, 40+len(b), rng, at) > 0 {
				unproven++
			}
		}
	}
	t.Logf("%d calls failed; after %d of them some pages were unproven", tried, unproven)
	if tried < 10 {
		t.Error("too few calls were tried")
	}
}

// afterErrors is afterKill, but a commit that failed may be there all the same: more rows than were acknowledged.
func afterErrors(t *testing.T, path string, acked int, rng *rand.Rand, at string) int {
	t.Helper()
	n := countRows(t, path)
	if n < acked || n > 47 {
		t.Fatalf("%s: %d rows, %d were acknowledged", at, n, acked)
	}
	return afterKill(t, path, n, rng, at)
}
