package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tablekeeper/storage/ledger"
)

// stray is a table under a reader of another program, which keeps checkpoints from coming to their end, and with damage that nobody looks
// after by itself.
type stray struct {
	t      *testing.T
	random *rand.Rand
	path   string
	table  *Table
	reader *conn
	rows   int
}

func newStray(t *testing.T, seed uint64) *stray {
	s := &stray{t: t, random: rand.New(rand.NewPCG(seed, 7)), path: filepath.Join(t.TempDir(), "x.db"), rows: 150}
	opts := quietOwned
	opts.OnCorrupt = func(context.Context, Report) {}
	table, err := Open(t.Context(), s.path, opts)
	must(t, err)
	s.table = table
	fillOwned(t, table, s.rows)
	settleOwned(t, table)
	return s
}

// newShrinking is a stray whose file gets shorter when rows are deleted.
func newShrinking(t *testing.T, seed uint64) *stray {
	s := &stray{t: t, random: rand.New(rand.NewPCG(seed, 11)), path: filepath.Join(t.TempDir(), "x.db")}
	_, err := MakeEmpty(t.Context(), s.path, []string{"CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)"}, Form{AutoVacuum: "full"})
	must(t, err)
	opts := quietOwned
	opts.OnCorrupt = func(context.Context, Report) {}
	s.table, err = Open(t.Context(), s.path, opts)
	must(t, err)
	t.Cleanup(func() {
		s.release()
		must(t, s.table.Close())
	})
	s.grow(150)
	settleOwned(t, s.table)
	return s
}

func (s *stray) grow(rows int) {
	s.t.Helper()
	writeOwned(s.t, s.table, `WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < ?) INSERT INTO t(v) SELECT randomblob(200) FROM c`, rows)
	s.rows += rows
}

func (s *stray) shrink() {
	s.t.Helper()
	s.rows = max(s.rows-10-s.random.IntN(100), 20)
	writeOwned(s.t, s.table, "DELETE FROM t WHERE id > ?", s.rows)
}

// stranger has another program's connection do something.
func (s *stray) stranger(statement string) {
	s.t.Helper()
	c, err := connect(s.t.Context(), s.path, openOptions{})
	must(s.t, err)
	must(s.t, errors.Join(c.exec(s.t.Context(), statement), c.close()))
}

// step does one of the things that move the ledger, the main file and the WAL against each other.
func (s *stray) step() string {
	switch s.random.IntN(8) {
	case 0:
		settleOrNot(s.t, s.table)
		return "checkpoint"
	case 1:
		_, err := s.table.Expect(s.t.Context()) // stages, moves nothing
		must(s.t, err)
		return "stage"
	case 2:
		s.hold()
		return "reader"
	case 3:
		writeOwned(s.t, s.table, `WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 30) INSERT INTO t(v) SELECT randomblob(200) FROM c`)
		s.rows += 30
		return "grow"
	default:
		writeOwned(s.t, s.table, "UPDATE t SET v = randomblob(200) WHERE id = ?", s.random.IntN(s.rows)+1)
		return "update"
	}
}

func (s *stray) anything() string {
	switch s.random.IntN(12) {
	case 0, 1:
		settleOrNot(s.t, s.table)
		return "checkpoint"
	case 2:
		_, err := s.table.Expect(s.t.Context())
		must(s.t, err)
		return "stage"
	case 3, 4:
		s.hold()
		return "reader"
	case 5, 6:
		s.grow(10 + s.random.IntN(100))
		return "grow"
	case 7, 8:
		s.shrink()
		return "shrink"
	case 9:
		mode := []string{"PASSIVE", "PASSIVE", "TRUNCATE"}[s.random.IntN(3)]
		s.stranger("PRAGMA wal_checkpoint(" + mode + ")")
		return "stranger's checkpoint " + mode
	case 10:
		s.stranger("UPDATE t SET v = randomblob(200) WHERE id = 7")
		return "stranger's update"
	default:
		writeOwned(s.t, s.table, "UPDATE t SET v = randomblob(200) WHERE id = ?", s.random.IntN(s.rows)+1)
		return "update"
	}
}

func settleOrNot(t *testing.T, table *Table) {
	t.Helper()
	if _, err := table.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// hold begins the transaction of a reader, or ends it.
func (s *stray) hold() {
	s.t.Helper()
	if s.reader != nil {
		s.release()
		return
	}
	c, err := connect(s.t.Context(), s.path, openOptions{readOnly: true})
	must(s.t, err)
	must(s.t, c.hold(s.t.Context()))
	s.reader = c
}

func (s *stray) release() {
	if s.reader != nil {
		must(s.t, errors.Join(s.reader.letGo(context.WithoutCancel(s.t.Context())), s.reader.close()))
		s.reader = nil
	}
}

// read are the pages that whoever begins to read now gets from the main file, not from the WAL.
func (s *stray) read() []uint32 {
	s.t.Helper()
	return fromMain(s.t, s.table.gate.current())
}

func fromMain(t *testing.T, session *session) (pages []uint32) {
	t.Helper()
	length, moved, err := session.length(t.Context())
	must(t, err)
	o, err := readOverlay(session.tail.file, session.pageSize, length)
	must(t, err)
	info, err := session.main.Stat()
	must(t, err)
	count := uint32(info.Size() / session.pageSize)
	if n := len(o.frames); n > 0 {
		count = o.frames[n-1].Pages
	}
	for p := uint32(1); p <= count; p++ {
		if i, ok := o.newest[p]; !ok || i < int(moved) {
			pages = append(pages, p)
		}
	}
	return pages
}

// copyTo copies what is on the disk now, as a process finds it that comes after this one was killed.
func (s *stray) copyTo(dir string) string {
	s.t.Helper()
	to := filepath.Join(dir, "x.db")
	must(s.t, MakeStateDir(to))
	for from, to := range map[string]string{s.path: to, s.path + "-wal": to + "-wal", ledgerPath(s.path): ledgerPath(to)} {
		b, err := os.ReadFile(from)
		if !errors.Is(err, os.ErrNotExist) {
			must(s.t, err)
			must(s.t, os.WriteFile(to, b, 0o600))
		}
	}
	return to
}

// truth are the pages that SQLite makes of main file and WAL, before there is any damage.
func (s *stray) truth() [][]byte {
	s.t.Helper()
	path := s.copyTo(s.t.TempDir())
	c, err := connect(s.t.Context(), path, openOptions{})
	must(s.t, err)
	_, _, err = c.walCheckpoint(s.t.Context(), "TRUNCATE")
	must(s.t, errors.Join(err, c.close()))
	b, err := os.ReadFile(path)
	must(s.t, err)
	return slices.Collect(slices.Chunk(b, 4096))
}

// damage also returns how many pages are damaged in such a way that they still look like pages, at most.
func (s *stray) damage() (how string, partly int) {
	s.t.Helper()
	info, err := os.Stat(s.path)
	must(s.t, err)
	pages := info.Size() / 4096
	switch p := s.random.Int64N(pages); s.random.IntN(6) {
	case 0:
		scribble(s.t, s.path, 0, make([]byte, 100))
		return "header", 0
	case 1:
		scribble(s.t, s.path, 0, bytes.Repeat([]byte("garbage!"), int(info.Size()/8)))
		return "garbage", 0
	case 2:
		scribble(s.t, s.path, p*4096, make([]byte, 4096))
		return fmt.Sprintf("zero %d", p+1), 0
	case 3:
		flipOwned(s.t, s.path, (p*4096+s.random.Int64N(4096))*8+s.random.Int64N(8))
		return fmt.Sprintf("flip %d", p+1), 1
	case 4:
		must(s.t, os.Truncate(s.path, s.random.Int64N(info.Size())))
		return "truncate", 1
	default:
		scribble(s.t, s.path, p*4096+2000, bytes.Repeat([]byte{7}, 300))
		return fmt.Sprintf("scratch %d", p+1), 1
	}
}

// agree fails the test unless what CompareLedger says of the files at path is what the last commit left: the sums of all pages, and every
// page that is another one. Of those that are said to have taken damage over, that cannot be asked.
func (s *stray) agree(path string, truth [][]byte, carried []uint32) error {
	c, err := CompareLedger(s.t.Context(), path)
	if err != nil {
		return err
	}
	if len(c.Sums) != len(truth) || !c.Certain || c.Short {
		return fmt.Errorf("%d pages of %d, certain %v, short %v", len(c.Sums), len(truth), c.Certain, c.Short)
	}
	for i, page := range truth {
		if c.Sums[i] != ledger.Sum(page) && !slices.Contains(carried, uint32(i+1)) {
			return fmt.Errorf("page %d should have another sum", i+1)
		}
	}
	raw, err := OpenRaw(path)
	if err != nil {
		return err
	}
	defer func() { _ = raw.Close() }() // only read
	for i, page := range truth {
		is, err := raw.Page(int64(i + 1))
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if bad := slices.Contains(c.Bad, uint32(i+1)); bad == bytes.Equal(is, page) && !slices.Contains(slices.Concat(c.Carried, carried), uint32(i+1)) {
			return fmt.Errorf("page %d is said to be bad: %v", i+1, bad)
		}
	}
	return nil
}

// orders is how many are tried.
func orders(t *testing.T) uint64 {
	orders := uint64(60)
	if raceEnabled {
		orders = 8
	}
	if s := os.Getenv("TABLEKEEPER_ORDERS"); s != "" {
		if _, err := fmt.Sscan(s, &orders); err != nil {
			t.Fatal(err)
		}
	}
	return orders
}
