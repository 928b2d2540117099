package salvage

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// image is a database in memory, as Pages.
type image struct {
	content  []byte
	pageSize int
	broken   map[int64]bool
}

func (m image) PageSize() int    { return m.pageSize }
func (m image) PageCount() int64 { return int64(len(m.content) / m.pageSize) }

func (m image) Page(n int64) ([]byte, error) {
	if m.broken[n] {
		return nil, errors.New("input/output error")
	}
	return m.content[(n-1)*int64(m.pageSize):][:m.pageSize], nil
}

const sample = `
CREATE TABLE people (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, note BLOB, born REAL);
CREATE TABLE plain (a, b);
CREATE TABLE keyed (b TEXT, a INT, c TEXT, PRIMARY KEY (a DESC, b)) WITHOUT ROWID;
CREATE TABLE odd (rowid TEXT, k INTEGER PRIMARY KEY DESC, CHECK (k >= 0));
CREATE TABLE computed (a INT, v INT AS (a + 1), s INT AS (a * 2) STORED, z TEXT);
CREATE INDEX people_name ON people (name);
CREATE VIEW names AS SELECT name FROM people;
CREATE TRIGGER forbid BEFORE INSERT ON plain WHEN new.a = 'forbidden' BEGIN SELECT raise(ABORT, 'forbidden'); END;
CREATE VIRTUAL TABLE docs USING fts5 (body);
CREATE VIRTUAL TABLE boxes USING rtree (id, x0, x1);
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 600) INSERT INTO people (name, note, born) SELECT 'person ' || i, zeroblob(i * 7), i FROM n;
INSERT INTO people (name, note) VALUES ('a long one', randomblob(20000));
INSERT INTO plain SELECT id, name FROM people;
INSERT INTO keyed SELECT name, id, 'c' || id FROM people;
INSERT INTO odd SELECT name, id FROM people;
INSERT INTO computed (a, z) SELECT id, name FROM people;
ALTER TABLE plain ADD COLUMN c DEFAULT 'later';
INSERT INTO docs SELECT 'the body of ' || name FROM people;
INSERT INTO boxes SELECT id, id, id + 1 FROM people;
DELETE FROM people WHERE id % 10 = 0;
PRAGMA user_version = 42;
`

// build makes the sample database.
func build(t testing.TB, first string) image {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sample.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(t.Context(), first+sample); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size := int(binary.BigEndian.Uint16(content[16:]))
	if size == 1 {
		size = 65536
	}
	return image{content: content, pageSize: size}
}

var (
	ordinary = []string{"people", "plain", "keyed", "odd", "computed"}
	compared = append([]string{"docs", "boxes", "sqlite_sequence"}, ordinary...)
)

// contents are the rows of each SQL table, as text, with the rowid where there is one.
func contents(t testing.TB, path string, tables ...string) map[string]map[string]bool {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all := map[string]map[string]bool{}
	for _, table := range tables {
		all[table] = rowsOf(t, db, table)
	}
	return all
}

func rowsOf(t testing.TB, db *sql.DB, table string) map[string]bool {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT * FROM "+table)
	if err != nil {
		t.Fatalf("%s: %v", table, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, v := range values {
			fmt.Fprintf(&b, "%T %v|", *v.(*any), *v.(*any))
		}
		all[b.String()] = true
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func original(t testing.TB, m image) map[string]map[string]bool {
	t.Helper()
	path := filepath.Join(t.TempDir(), "original.db")
	if err := os.WriteFile(path, m.content, 0o600); err != nil {
		t.Fatal(err)
	}
	return contents(t, path, compared...)
}

func TestAWholeFileComesBackWhole(t *testing.T) {
	for _, first := range []string{"", "PRAGMA page_size = 512;", "PRAGMA page_size = 65536;", "PRAGMA encoding = 'UTF-16le';", "PRAGMA encoding = 'UTF-16be';", "PRAGMA auto_vacuum = FULL;"} {
		t.Run(first, func(t *testing.T) {
			m := build(t, first)
			path := filepath.Join(t.TempDir(), "out.db")
			report, err := File(t.Context(), m, path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if report.PagesLost != 0 || report.CellsLost != 0 || report.LostAndFound != 0 || len(report.Problems) != 0 {
				t.Errorf("%+v", report)
			}
			want, got := original(t, m), contents(t, path, compared...)
			for _, table := range compared {
				if len(want[table]) != len(got[table]) || len(want[table]) == 0 {
					t.Errorf("%s: %d rows of %d", table, len(got[table]), len(want[table]))
				}
				for row := range want[table] {
					if !got[table][row] {
						t.Errorf("%s: %.200s is missing", table, row)
						break
					}
				}
			}
		})
	}
}

// Every thirteenth page is broken in turn. No row appears that was not there, and what is missing is counted.
func TestABrokenPageCostsItsOwnRowsOnly(t *testing.T) {
	m := build(t, "PRAGMA page_size = 4096;")
	want := original(t, m)
	step := int64(13)
	if raceEnabled || testing.Short() {
		step = 101
	}
	total := 0
	for n := int64(2); n <= m.PageCount(); n += step {
		broken := m
		broken.broken = map[int64]bool{n: true}
		path := filepath.Join(t.TempDir(), "out.db")
		report, err := File(t.Context(), broken, path, Options{})
		if err != nil {
			t.Fatalf("page %d: %v", n, err)
		}
		got := contents(t, path, ordinary...)
		missing := 0
		for _, table := range ordinary {
			for row := range got[table] {
				if !want[table][row] {
					t.Errorf("page %d: %s: %.200s was never there", n, table, row)
				}
			}
			missing += len(want[table]) - len(got[table])
		}
		if missing > 0 && report.PagesLost+report.CellsLost == 0 && len(report.Problems) == 0 {
			t.Errorf("page %d: %d rows are missing, and nothing says so", n, missing)
		}
		total += missing
	}
	t.Logf("%d rows lost over pages broken one at a time", total)
}

func TestARowOnAPageThatNothingLeadsToIsLostAndFound(t *testing.T) {
	m := build(t, "PRAGMA page_size = 512;")
	root := rootOf(t, m, "people")
	m.broken = map[int64]bool{root: true}
	path := filepath.Join(t.TempDir(), "out.db")
	report, err := File(t.Context(), m, path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if report.LostAndFound == 0 || report.PagesLost == 0 {
		t.Errorf("%+v", report)
	}
}

func rootOf(t *testing.T, m image, table string) (root int64) {
	t.Helper()
	s := newSalvager(m, Options{})
	s.ctx = t.Context()
	if err := s.readSchema(); err != nil {
		t.Fatal(err)
	}
	for _, o := range s.schema {
		if o.name == table {
			root = o.root
		}
	}
	return root
}

func TestTheGivenSchemaServesWhereTheFilesIsGone(t *testing.T) {
	m := build(t, "")
	content := bytes.Clone(m.content)
	clear(content[:m.pageSize])
	m.content = content
	path := filepath.Join(t.TempDir(), "out.db")
	report, err := File(t.Context(), m, path, Options{Schema: []string{"CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)"}})
	if err != nil {
		t.Fatal(err)
	}
	if report.LostAndFound == 0 {
		t.Errorf("%+v", report)
	}
}

func TestNothingIsSaidToBeNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.db")
	_, err := File(t.Context(), image{content: make([]byte, 8192), pageSize: 4096}, path, Options{})
	if !errors.Is(err, ErrNothing) {
		t.Errorf("got %v", err)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 0 {
		t.Errorf("left behind: %v %v", files, err)
	}
}

func TestAnExistingFileIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.db")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := File(t.Context(), build(t, ""), path, Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
}

// Whatever is damaged: no panic, an end, and a file that passes its integrity check.
func TestRandomDamage(t *testing.T) {
	m := build(t, "PRAGMA page_size = 1024;")
	rng := rand.New(rand.NewPCG(1, 2))
	rounds := 40
	if raceEnabled || testing.Short() {
		rounds = 3
	}
	for round := range rounds {
		damaged := m
		damaged.content = bytes.Clone(m.content)
		for range 1 + rng.IntN(200) {
			damaged.content[rng.IntN(len(damaged.content))] = byte(rng.Uint32())
		}
		path := filepath.Join(t.TempDir(), "out.db")
		if _, err := File(t.Context(), damaged, path, Options{}); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte{3, 1, 0x13, 7, 'a', 'b', 'c'})
	f.Add([]byte{2, 0})
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, text := range []encoding{utf8, utf16le, utf16be} {
			values, err := decodeRecord(payload, text)
			if err != nil && values != nil {
				t.Error("values beside an error")
			}
		}
	})
}
