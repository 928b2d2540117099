package table

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// save writes a snapshot's pages to a file, and returns how many were free.
func save(ctx context.Context, s *Snapshot, path string) (free int64, err error) {
	var b bytes.Buffer
	for page, err := range s.Pages(ctx) {
		if err != nil {
			return 0, err
		}
		if page.Free {
			free++
		}
		b.Write(page.Data)
	}
	return free, os.WriteFile(path, b.Bytes(), 0o644)
}

func TestSnapshotIsTheTable(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, path string) {
		want, rows := dump(t, path), shellRows(t, path)
		copied := path + ".copy"
		must(t, TakeSnapshot(t.Context(), path, SnapshotOptions{}, func(ctx context.Context, s *Snapshot) error {
			if diff := cmp.Diff(rows, s.Rows()); diff != "" {
				t.Error(diff)
			}
			if s.Stats().Path != path || len(s.Unsupported()) > 0 {
				t.Errorf("%+v %v", s.Stats(), s.Unsupported())
			}
			if got, want := strings.Join(s.Schema(), "\n"), shell(t, path, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid;"); got != want {
				t.Errorf("schema: %s", got)
			}
			free, err := save(ctx, s, copied)
			if free > s.Stats().FreePages || f.free && free == 0 {
				t.Errorf("%d of %d free pages", free, s.Stats().FreePages)
			}
			return err
		}))
		soundAtEnd(t, copied)
		if diff := cmp.Diff(want, dump(t, copied)); diff != "" {
			t.Error(diff)
		}
		if got := shell(t, copied, "PRAGMA integrity_check;"); got != "ok" {
			t.Errorf("the copy: %s", got)
		}
		if left, _ := os.ReadDir(StateDir(path)); len(left) > 0 {
			t.Errorf("litter: %v", left)
		}
		same(t, path, copied)
	})
}

// same compares two files page by page, free pages aside.
func same(t *testing.T, path, copied string) {
	t.Helper()
	c, err := open(t.Context(), path, openOptions{})
	must(t, err)
	defer func() { must(t, c.close()) }()
	s, err := c.stats(t.Context())
	must(t, err)
	free, err := c.freeMap(t.Context(), s)
	must(t, err)
	a, err := os.ReadFile(path)
	must(t, err)
	b, err := os.ReadFile(copied)
	must(t, err)
	for i := range s.PageCount {
		if from, to := i*s.PageSize, (i+1)*s.PageSize; free[i] == 0 && !bytes.Equal(a[from:to], b[from:to]) {
			t.Errorf("page %d differs", i+1)
		}
	}
}

// A snapshot is one moment, whatever others write meanwhile.
func TestSnapshotIsOneMoment(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "a.db")
			shell(t, path, "PRAGMA journal_mode="+mode+"; CREATE TABLE log(n INTEGER PRIMARY KEY, filler BLOB); CREATE INDEX log_f ON log(filler);")
			w := startWriter(t, path, "PRAGMA wal_autocheckpoint=10; PRAGMA synchronous=OFF")
			rounds := 5
			if raceEnabled {
				rounds = 1
			}
			for range rounds {
				before, _ := w.count()
				copied := path + ".copy"
				err := TakeSnapshot(t.Context(), path, SnapshotOptions{Wait: time.Minute, MaxPause: time.Minute}, func(ctx context.Context, s *Snapshot) error {
					if n := s.Rows()["log"]; n < int64(before) {
						t.Errorf("%d rows, %d were committed before", n, before)
					}
					_, err := save(ctx, s, copied)
					return err
				})
				must(t, err)
				if got := shell(t, copied, "PRAGMA integrity_check;", "SELECT count(*) = max(n) FROM log;"); got != "ok\n1" {
					t.Error(got)
				}
				removeAll(t, copied)
			}
			w.verify(t)
		})
	}
}

// A writer of a rollback-journal table commits while the snapshot is in use.
func TestSnapshotKeepsNobodyWaiting(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE"} {
		path := filepath.Join(t.TempDir(), "a.db")
		shell(t, path, "PRAGMA journal_mode="+mode+"; CREATE TABLE a(x);")
		must(t, TakeSnapshot(t.Context(), path, SnapshotOptions{}, func(context.Context, *Snapshot) error {
			shell(t, path, "INSERT INTO a VALUES (1);")
			return nil
		}))
		soundAtEnd(t, path)
	}
}

func TestSnapshotReturnsTheErrorOfUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	for _, mode := range []string{"WAL", "DELETE"} {
		shell(t, path, "PRAGMA journal_mode="+mode+"; CREATE TABLE IF NOT EXISTS a(x);")
		want := errors.New("the store is full")
		if err := TakeSnapshot(t.Context(), path, SnapshotOptions{}, func(context.Context, *Snapshot) error { return want }); err != want { //nolint:errorlint // the very error
			t.Errorf("%v", err)
		}
		if left, _ := os.ReadDir(StateDir(path)); len(left) > 0 {
			t.Errorf("litter: %v", left)
		}
	}
	soundAtEnd(t, path)
}

func TestSnapshotPagesCanBeLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	bulk(t, path, "PRAGMA journal_mode=WAL;", 1000)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := TakeSnapshot(ctx, path, SnapshotOptions{}, func(ctx context.Context, s *Snapshot) error {
		for range 2 {
			for page, err := range s.Pages(ctx) {
				must(t, err)
				if page.Number == 3 {
					break
				}
			}
		}
		for page, err := range s.Pages(ctx) {
			if page.Number == 5 {
				cancel()
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Where commits never stop, a copy that does not fit into the pause is not made.
func TestCopyGivesUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	bulk(t, path, "", 3000)
	c, err := open(t.Context(), path, openOptions{})
	must(t, err)
	defer func() { must(t, c.close()) }()
	from, err := os.Open(path)
	must(t, err)
	defer from.Close()
	to, err := os.Create(path + ".copy")
	must(t, err)
	defer to.Close()
	silent := func(string, int64, int64) {}
	commits := 0
	copying := &tableCopy{conn: c, from: from, to: to, buffer: make([]byte, 4096), progress: silent,
		yield: func(context.Context, time.Duration) error {
			commits++
			shell(t, path, "UPDATE item SET id = id WHERE id = 100;")
			return nil
		}}
	if err := copying.run(t.Context(), time.Nanosecond); !errors.Is(err, ErrWouldBlock) {
		t.Errorf("%v", err)
	}
	if commits != copyRestarts+1 {
		t.Errorf("%d commits made it start again", commits)
	}
	copying = &tableCopy{conn: c, from: from, to: to, buffer: make([]byte, 4096), progress: silent, yield: pause}
	must(t, copying.run(t.Context(), time.Nanosecond))
	same(t, path, path+".copy")
}

// The page of the lock bytes lies at 1 GiB, and is never used.
func TestLockPageIsFree(t *testing.T) {
	if raceEnabled {
		t.Skip("SKIPPED under -race: 1 GiB is too slow")
	}
	path := filepath.Join(t.TempDir(), "a.db")
	shell(t, path, "PRAGMA page_size=65536; PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; CREATE TABLE a(x); CREATE TABLE b(x);",
		"INSERT INTO a VALUES (zeroblob(540000000)), (zeroblob(540000000));",
		"INSERT INTO b SELECT randomblob(300000); DELETE FROM a;")
	soundAtEnd(t, path)
	s, err := Stat(t.Context(), path)
	must(t, err)
	if s.PageCount*s.PageSize <= lockByte {
		t.Fatalf("%d pages", s.PageCount)
	}
	var seen bool
	must(t, TakeSnapshot(t.Context(), path, SnapshotOptions{}, func(ctx context.Context, s *Snapshot) error {
		for page, err := range s.Pages(ctx) {
			must(t, err)
			if page.Number == lockByte/65536+1 {
				seen = page.Free && len(bytes.Trim(page.Data, "\x00")) == 0
			}
		}
		return nil
	}))
	if !seen {
		t.Error("the lock page is not reported as free zeros")
	}
	r, err := Compact(t.Context(), path, CompactOptions{MaxPause: time.Minute})
	if err != nil || r.Status != Compacted || r.BytesAfter > 2<<20 {
		t.Errorf("%+v, %v", r, err)
	}
}
