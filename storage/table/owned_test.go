package table

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// quietOwned never does anything by itself: the test says when.
var quietOwned = Options{Idle: time.Hour, ProbeEvery: -1}

func openOwned(t *testing.T, path string, opts Options) *Table {
	t.Helper()
	table, err := Open(t.Context(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return table
}

func writeOwned(t *testing.T, table *Table, query string, args ...any) {
	t.Helper()
	err := table.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), query, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func ownedInt(t *testing.T, table *Table, query string, args ...any) (n int) {
	t.Helper()
	err := table.Read(t.Context(), func(tx *sql.Tx) error { return tx.QueryRowContext(t.Context(), query, args...).Scan(&n) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// fill makes a SQL table of so many rows with 200 bytes each.
func fillOwned(t *testing.T, table *Table, rows int) {
	t.Helper()
	writeOwned(t, table, "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, v BLOB)")
	writeOwned(t, table, `WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < ?)
		INSERT INTO t(v) SELECT randomblob(200) FROM c`, rows)
}

func settleOwned(t *testing.T, table *Table) {
	t.Helper()
	if settled, err := table.Checkpoint(t.Context()); err != nil || !settled {
		t.Fatalf("checkpoint: settled %v, %v", settled, err)
	}
}

func scrubClean(t *testing.T, table *Table) Scrubbed {
	t.Helper()
	done, err := table.Scrub(t.Context(), ScrubOptions{})
	if err != nil || len(done.Bad) > 0 {
		t.Fatalf("scrub: bad pages %v, %v", done.Bad, err)
	}
	return done
}

func TestOwnedReadsWhatItWrote(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	table := openOwned(t, path, quietOwned)
	fillOwned(t, table, 500)
	if n := ownedInt(t, table, "SELECT count(*) FROM t"); n != 500 {
		t.Fatalf("%d rows", n)
	}
	boom := errors.New("boom")
	err := table.Write(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(t.Context(), "DELETE FROM t"); err != nil {
			return err
		}
		return boom
	})
	if err != boom { //nolint:errorlint // the very error
		t.Fatalf("fn's error came back as %v", err)
	}
	if n := ownedInt(t, table, "SELECT count(*) FROM t"); n != 500 {
		t.Fatalf("%d rows after a rollback", n)
	}
	settleOwned(t, table)
	if done := scrubClean(t, table); done.Pages < 20 || done.Unproven != 0 {
		t.Fatalf("scrubbed %+v", done)
	}
}

func TestOwnedAgainAfterClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	for round := range 3 {
		table, err := Open(t.Context(), path, quietOwned)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		fillOwned(t, table, 300)
		if n := ownedInt(t, table, "SELECT count(*) FROM t"); n != 300*(round+1) {
			t.Fatalf("round %d: %d rows", round, n)
		}
		if done := scrubClean(t, table); done.Unproven != 0 {
			t.Fatalf("round %d: %+v", round, done)
		}
		if err := table.Close(); err != nil {
			t.Fatal(err)
		}
		if err := table.Read(t.Context(), func(*sql.Tx) error { return nil }); !errors.Is(err, ErrClosed) {
			t.Fatalf("read after close: %v", err)
		}
	}
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() != 0 {
		t.Fatalf("the -wal that is left: %v, %v", info, err)
	}
}

func TestOneOwnerAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	openOwned(t, path, quietOwned)
	if _, err := Open(t.Context(), path, quietOwned); !errors.Is(err, ErrLocked) {
		t.Fatalf("second owner: %v", err)
	}
}

func flipOwned(t *testing.T, path string, bit int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], bit/8); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << (bit % 8)
	if _, err := f.WriteAt(b[:], bit/8); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
