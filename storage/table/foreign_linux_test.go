package table

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tablekeeper/storage/needtest"
)

// sqliteShell runs statements in the sqlite3 shell: another process, another version of SQLite.
func sqliteShell(t *testing.T, path string, statements ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), needtest.Program(t, "sqlite3"), "-bail", path)
	cmd.Stdin = strings.NewReader(".timeout 120000\n" + strings.Join(statements, "\n") + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("sqlite3: %v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// Two writers, one of them another process that checkpoints by itself, and a scrub all the while: no commit is lost and
// nothing is called damaged.
func TestStrangerWritesToo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	opts := quietOwned
	opts.CheckpointBytes = 64 << 10
	opts.BusyTimeout = 2 * time.Minute // SQLite's locks have no queue, and neither of the two rests
	table := openOwned(t, path, opts)
	writeOwned(t, table, "CREATE TABLE t(id INTEGER PRIMARY KEY, who TEXT, v BLOB)")
	rounds, ours := 8, 200
	if raceEnabled {
		rounds, ours = 4, 30
	}
	ctx, stop := context.WithCancel(t.Context())
	var scrubs int
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if done, err := table.Scrub(t.Context(), ScrubOptions{}); err != nil || len(done.Bad) > 0 {
				t.Errorf("scrub %d: bad pages %v, %v", scrubs, done.Bad, err)
				return
			}
			scrubs++
		}
	})
	wg.Go(func() {
		defer stop()
		for round := range rounds {
			statements := []string{"PRAGMA wal_autocheckpoint=20;"}
			for range 40 {
				statements = append(statements, "INSERT INTO t(who, v) VALUES('shell', randomblob(3000));")
			}
			mode := []string{"PASSIVE", "FULL", "RESTART", "TRUNCATE"}[round%4]
			sqliteShell(t, path, append(statements, ".timeout 1", "PRAGMA wal_checkpoint("+mode+");", ".timeout 120000", "DELETE FROM t WHERE id % 50 = 0 AND who = 'none';")...)
		}
	})
	for range ours {
		writeOwned(t, table, "INSERT INTO t(who, v) VALUES('own', randomblob(3000))")
	}
	wg.Wait()
	t.Logf("%d scrubs", scrubs)
	if own, theirs := ownedInt(t, table, "SELECT count(*) FROM t WHERE who='own'"), ownedInt(t, table, "SELECT count(*) FROM t WHERE who='shell'"); own != ours || theirs != rounds*40 {
		t.Fatalf("%d of our rows and %d of theirs", own, theirs)
	}
	settleOwned(t, table)
	if done := scrubClean(t, table); done.Unproven != 0 {
		t.Fatalf("%d pages are unproven", done.Unproven)
	}
	page := int64(readPageNumber(t, table))
	flipOwned(t, path, ((page-1)*4096+50)*8)
	wantBad(t, table, uint32(page))
	flipOwned(t, path, ((page-1)*4096+50)*8)
}

func readPageNumber(t *testing.T, table *Table) int {
	return ownedInt(t, table, "PRAGMA page_count") - 1
}

// Another process writes while the table is closed. That is no damage; the pages count as unproven.
func TestStrangerWritesWhileClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	table, err := Open(t.Context(), path, quietOwned)
	if err != nil {
		t.Fatal(err)
	}
	fillOwned(t, table, 1000)
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	sqliteShell(t, path, "UPDATE t SET v = randomblob(200) WHERE id BETWEEN 100 AND 200;")
	table = openOwned(t, path, quietOwned)
	done := scrubClean(t, table)
	if done.Unproven == 0 || done.Unproven > int(done.Pages)/2 {
		t.Fatalf("%d of %d pages are unproven", done.Unproven, done.Pages)
	}
	flipOwned(t, path, (9*4096+50)*8)
	wantBad(t, table, 10)
	flipOwned(t, path, (9*4096+50)*8)
	writeOwned(t, table, "UPDATE t SET v = randomblob(200)")
	settleOwned(t, table)
	if done := scrubClean(t, table); done.Unproven > 3 {
		t.Fatalf("%d of %d pages are unproven after all were written", done.Unproven, done.Pages)
	}
}

// Another process reads while the table is closed, and a page rots: SQLite deleted our empty -wal, but the file's time says
// that nobody wrote.
func TestStrangerReadsWhileClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	table, err := Open(t.Context(), path, quietOwned)
	if err != nil {
		t.Fatal(err)
	}
	fillOwned(t, table, 500)
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	sqliteShell(t, path, "SELECT count(*) FROM t;")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	flipOwned(t, path, (9*4096+50)*8)
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, quietOwned); asDamage(err) == nil {
		t.Fatalf("open: %v", err)
	}
}

// VACUUM by another process rewrites and shrinks the file.
func TestStrangerVacuums(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	table := openOwned(t, path, quietOwned)
	fillOwned(t, table, 2000)
	writeOwned(t, table, "DELETE FROM t WHERE id > 200")
	settleOwned(t, table)
	before := readPageNumber(t, table)
	sqliteShell(t, path, "VACUUM;")
	settleOwned(t, table)
	done := scrubClean(t, table)
	if int(done.Pages) >= before/2 || done.Unproven != 0 {
		t.Fatalf("%d pages before, scrubbed %+v", before, done)
	}
	fillOwned(t, table, 2000)
	settleOwned(t, table)
	scrubClean(t, table)
}
