package table

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tablekeeper/storage/btree"
)

// provable has everything that a proof covers: keys of each kind, orders, collations, uniqueness, overflow, rows older than a column.
const provable = `CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE, price REAL, made DATE, body BLOB, any);
	CREATE UNIQUE INDEX item_name ON item(name, id DESC); CREATE INDEX item_price ON item(price DESC, made); CREATE INDEX item_any ON item(any, body);
	CREATE INDEX item_trim ON item(name COLLATE RTRIM);
	WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 220)
	INSERT INTO item SELECT x * 3 - 40, CASE x % 3 WHEN 0 THEN 'Item ' ELSE 'iTEM ' END || (x * 7919 % 1009) || substr('   ', x % 4), x * 1.5, date('2020-01-01', x || ' days'),
	randomblob(CASE x % 20 WHEN 0 THEN 9000 WHEN 7 THEN 700 ELSE 20 END), CASE x % 7 WHEN 0 THEN NULL WHEN 1 THEN x WHEN 2 THEN x / 2.0 WHEN 3 THEN 'text' WHEN 4 THEN x'0102'
	WHEN 5 THEN 9007199254740993 + x ELSE 9007199254740992.0 + x END FROM c;
	CREATE TABLE pair(a TEXT COLLATE NOCASE, b INT, c BLOB, d TEXT UNIQUE, PRIMARY KEY(b DESC, a)) WITHOUT ROWID; CREATE INDEX pair_c ON pair(c, a);
	INSERT INTO pair SELECT name, id, randomblob(id % 5 * 300), 'd' || id FROM item;
	CREATE TABLE strict_one(i INT, r REAL, t TEXT, b BLOB, a ANY, PRIMARY KEY(t)) STRICT; CREATE INDEX strict_a ON strict_one(a, r);
	INSERT INTO strict_one SELECT id, id, 't' || id, randomblob(9), any FROM item;
	CREATE TABLE grown(x INTEGER PRIMARY KEY AUTOINCREMENT, y); INSERT INTO grown SELECT id + 100, name FROM item; ALTER TABLE grown ADD COLUMN z DEFAULT NULL;
	CREATE INDEX grown_y ON grown(y, z); INSERT INTO grown(y, z) VALUES ('new', 1);
	CREATE TABLE heap(a, b); INSERT INTO heap SELECT name, price FROM item; DELETE FROM item WHERE id % 9 = 0; DELETE FROM pair WHERE b % 5 = 0; ANALYZE;`

var provableKinds = []fixture{
	{name: "page512", setup: "PRAGMA page_size=512;", sql: provable},
	{name: "page1024_incremental", setup: "PRAGMA page_size=1024; PRAGMA auto_vacuum=INCREMENTAL;", sql: provable},
	{name: "page4096", sql: provable},
	{name: "page65536", setup: "PRAGMA page_size=65536;", sql: provable},
	{name: "deep", setup: "PRAGMA page_size=512;", sql: `CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT UNIQUE);
		WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 3000) INSERT INTO t SELECT x, x * 7919 % 10007 || 'some text that makes it longer' FROM c;`},
}

// look checks a file both ways; a check that could not be made counts as one that found damage.
func look(t *testing.T, path string, opts CheckOptions) (CheckReport, bool) {
	t.Helper()
	r, err := Check(t.Context(), path, opts)
	return r, err == nil && r.OK
}

func TestSoundTablesAreProved(t *testing.T) {
	for _, f := range provableKinds {
		t.Run(f.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "t.db")
			f.make(t, path)
			r, ok := look(t, path, CheckOptions{Traverse: true})
			if !ok || r.proved.Rows == nil || len(r.proved.Open) > 0 {
				t.Errorf("%v, proved %v, open %v", r.Problems, r.proved.Rows, r.proved.Open)
			}
			if want := shellRows(t, path); !maps.Equal(r.Rows, want) {
				t.Errorf("%v, want %v", r.Rows, want)
			}
		})
	}
}

// TestWhatIsNotProvedIsLeftToSQLite has the fixtures, which have much that is not for us.
func TestWhatIsNotProvedIsLeftToSQLite(t *testing.T) {
	open := map[string]string{"generated": "g", "fts5": "own", "rtree": "box"}
	eachFixture(t, func(t *testing.T, f fixture, path string) {
		r, ok := look(t, path, CheckOptions{})
		if !ok || r.proved.Rows == nil {
			t.Fatalf("%v, proved %v", r.Problems, r.proved.Rows)
		}
		want := open[f.name]
		if f.sql == "" {
			want = "item"
		}
		if got := strings.Join(slices.Sorted(maps.Keys(r.proved.Open)), " "); got != want {
			t.Errorf("open: %q, want %q: %v", got, want, r.proved.Open)
		}
	})
}

// damages change a file of pages of some size.
var damages = []func(r *rand.Rand, file []byte, size int){
	func(r *rand.Rand, file []byte, _ int) { file[r.IntN(len(file))] ^= 1 << r.IntN(8) },
	func(r *rand.Rand, file []byte, size int) {
		somePage(r, file, size)[r.IntN(min(size, 64))] = byte(r.IntN(256))
	},
	func(r *rand.Rand, file []byte, size int) { somePage(r, file, size)[r.IntN(12)] ^= 1 << r.IntN(8) },
	func(r *rand.Rand, file []byte, size int) { // near the beginning of a cell
		page := somePage(r, file, size)
		if at := someCell(r, page); at > 0 {
			at += r.IntN(14)
			page[min(at, len(page)-1)] ^= 1 << r.IntN(8)
		}
	},
	func(r *rand.Rand, file []byte, size int) { // near the end of one
		page := somePage(r, file, size)
		if at := someCell(r, page); at > 0 {
			page[at-1-r.IntN(min(6, at))] += byte(1 + r.IntN(3))
		}
	},
	func(r *rand.Rand, file []byte, size int) { // two cells change places
		page := somePage(r, file, size)
		a, b := somePointer(r, page), somePointer(r, page)
		if a > 0 && b > 0 {
			x, y := binary.BigEndian.Uint16(page[a:]), binary.BigEndian.Uint16(page[b:])
			binary.BigEndian.PutUint16(page[a:], y)
			binary.BigEndian.PutUint16(page[b:], x)
		}
	},
	func(r *rand.Rand, file []byte, size int) {
		a, b := somePage(r, file, size), somePage(r, file, size)
		held := slices.Clone(a)
		copy(a, b)
		copy(b, held)
	},
	func(r *rand.Rand, file []byte, size int) { copy(somePage(r, file, size), somePage(r, file, size)) },
	func(r *rand.Rand, file []byte, size int) { clear(somePage(r, file, size)) },
	func(r *rand.Rand, file []byte, _ int) { file[24+r.IntN(50)] ^= 1 << r.IntN(8) },
	func(r *rand.Rand, file []byte, size int) { // a number of a page, wherever it may be
		page := somePage(r, file, size)
		last := len(page) - 4
		at := r.IntN(last)
		for i := range last {
			k := (at + i) % last
			if n := binary.BigEndian.Uint32(page[k:]); n > 1 && int(n) <= len(file)/size {
				binary.BigEndian.PutUint32(page[k:], n+uint32(r.IntN(3))-1)
				return
			}
		}
	},
}

func somePage(r *rand.Rand, file []byte, size int) []byte {
	n := r.IntN(len(file) / size)
	if n == 0 {
		return file[100:size]
	}
	return file[n*size:][:size]
}

// somePointer is where in a page of a b-tree the offset of a cell is; 0: it has none.
func somePointer(r *rand.Rand, page []byte) int {
	cells, first := int(binary.BigEndian.Uint16(page[3:])), 8
	if page[0] == 2 || page[0] == 5 {
		first = 12
	}
	if cells == 0 || first+2*cells > len(page) {
		return 0
	}
	return first + 2*r.IntN(cells)
}

func someCell(r *rand.Rand, page []byte) int {
	pointer := somePointer(r, page)
	if pointer == 0 {
		return 0
	}
	at := int(binary.BigEndian.Uint16(page[pointer:]))
	if at >= len(page) {
		return 0
	}
	return at
}

// TestProofAgreesWithSQLite damages sound tables in all kinds of ways: whatever SQLite's own check finds must not be proved sound.
// PROVE_TEST_ROUNDS sets how many damages each table gets, PROVE_TEST_SEED which.
func TestProofAgreesWithSQLite(t *testing.T) {
	rounds := numberFrom(t, "PROVE_TEST_ROUNDS", 20)
	seed := numberFrom(t, "PROVE_TEST_SEED", rand.Uint64())
	for _, f := range append(slices.Clone(provableKinds), fixtures...) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "t.db")
			f.make(t, path)
			sound, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			found := 0
			for round := range rounds {
				r := rand.New(rand.NewPCG(seed, round))
				file := slices.Clone(sound)
				size := int(binary.BigEndian.Uint16(file[16:]))
				if size == 1 {
					size = 65536
				}
				kind := r.IntN(len(damages))
				damages[kind](r, file, size)
				damaged := filepath.Join(dir, fmt.Sprint(round, ".db"))
				if err := os.WriteFile(damaged, file, 0o600); err != nil {
					t.Fatal(err)
				}
				ours, okOurs := look(t, damaged, CheckOptions{})
				theirs, okTheirs := look(t, damaged, CheckOptions{BySQLite: true})
				if okOurs != okTheirs {
					t.Errorf("seed %d, round %d, damage %d: %v (%v), SQLite says %v", seed, round, kind, ours.Problems, ours.proved, theirs.Problems)
				}
				if okOurs && !maps.Equal(ours.Rows, theirs.Rows) {
					t.Errorf("seed %d, round %d, damage %d: %v, SQLite says %v", seed, round, kind, ours.Rows, theirs.Rows)
				}
				if !okTheirs {
					found++
				}
				_ = os.Remove(damaged)
				_ = os.Remove(damaged + "-wal")
				_ = os.Remove(damaged + "-shm")
			}
			if found == 0 && rounds >= 20 {
				t.Error("nothing was damaged")
			}
		})
	}
}

func numberFrom(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// memory is a file at hand.
type memory struct {
	bytes []byte
	size  int
}

func (m memory) ReadPages(first uint32, into []byte) error {
	if at := int64(first-1) * int64(m.size); first < 1 || at+int64(len(into)) > int64(len(m.bytes)) {
		return io.ErrUnexpectedEOF
	}
	copy(into, m.bytes[int(first-1)*m.size:])
	return nil
}

// TestHostilePages has pages damaged many times over: whatever they say, the search for a proof ends, with or without one.
func TestHostilePages(t *testing.T) {
	rounds := numberFrom(t, "PROVE_TEST_ROUNDS", 20) * 20
	seed := numberFrom(t, "PROVE_TEST_SEED", rand.Uint64())
	for _, f := range provableKinds[:3] {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "t.db")
			f.make(t, path)
			sound, err := os.ReadFile(path)
			must(t, err)
			c, err := open(t.Context(), path, openOptions{})
			must(t, err)
			schema, _, err := c.provable(t.Context())
			must(t, errors.Join(err, c.close()))
			size := int(binary.BigEndian.Uint16(sound[16:]))
			proved := 0
			for round := range rounds {
				r := rand.New(rand.NewPCG(seed, round))
				file := slices.Clone(sound)
				for range r.IntN(12) {
					damages[r.IntN(len(damages))](r, file, size)
				}
				_, err := btree.Prove(t.Context(), memory{file, size}, size, uint32(len(file)/size), schema, btree.Options{Workers: 1 + r.IntN(3)})
				var doubt *btree.DoubtError
				switch {
				case err == nil:
					proved++
				case !errors.As(err, &doubt) && !errors.Is(err, io.ErrUnexpectedEOF):
					t.Errorf("seed %d, round %d: %v", seed, round, err)
				}
			}
			if proved == 0 || proved == int(rounds) {
				t.Errorf("%d of %d were proved", proved, rounds)
			}
		})
	}
}

// TestProofEndsWithItsContext needs no damage.
func TestProofEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	bulk(t, path, "", 10000)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Check(ctx, path, CheckOptions{Progress: func(phase string, done, _ int64) {
		if phase == "integrity_check" && done > 0 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestProofUnderWrites has a table whose newest pages are in the WAL alone, and one that is written meanwhile.
func TestProofUnderWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	bulk(t, path, "PRAGMA journal_mode=WAL;", 4000)
	c, err := open(t.Context(), path, openOptions{wait: defaultWait})
	must(t, err)
	defer func() { must(t, c.close()) }()
	must(t, c.exec(t.Context(), "PRAGMA wal_autocheckpoint=0; CREATE INDEX item_body ON item(substr(body, 1, 4)); DROP INDEX item_body"))
	must(t, c.exec(t.Context(), "UPDATE item SET body = zeroblob(900) WHERE id % 97 = 0"))
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := c.exec(context.Background(), "UPDATE item SET body = randomblob(1000) WHERE id = 97 * (1 + abs(random() % 30))"); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 5 {
		r, err := Check(t.Context(), path, CheckOptions{})
		if err != nil || !r.OK || r.proved.Rows == nil || r.Rows["item"] != 2000 {
			t.Errorf("%+v, proved %v, %v", r, r.proved, err)
		}
	}
	close(stop)
	must(t, <-done)
}

// TestProofSeesWrongIndexes makes what is well formed and wrong: by schemas that say something else than those under which the
// rows were stored. Each is compared with what SQLite says.
func TestProofSeesWrongIndexes(t *testing.T) {
	const rows = `WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 50) INSERT INTO t `
	change := func(from, to string) string {
		return fmt.Sprintf("PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql = replace(sql, '%s', '%s');", from, to)
	}
	hidden := func(statements string) string { // from the index
		return "PRAGMA writable_schema=ON; CREATE TABLE held AS SELECT * FROM sqlite_schema WHERE name = 'i'; DELETE FROM sqlite_schema WHERE name = 'i'; PRAGMA writable_schema=RESET;" +
			statements + "PRAGMA writable_schema=ON; INSERT INTO sqlite_schema SELECT * FROM held; PRAGMA writable_schema=RESET;"
	}
	for name, c := range map[string]struct {
		make, then string
		sound      bool
	}{
		"nothing":                    {"CREATE TABLE t(a, b); CREATE INDEX i ON t(b);" + rows + "SELECT x, 'b' || x FROM c;", "", true},
		"a row without entry":        {"CREATE TABLE t(a, b); CREATE INDEX i ON t(b);" + rows + "SELECT x, 'b' || x FROM c;", hidden("INSERT INTO t VALUES (51, 'b51');"), false},
		"an entry without row":       {"CREATE TABLE t(a, b); CREATE INDEX i ON t(b);" + rows + "SELECT x, 'b' || x FROM c;", hidden("DELETE FROM t WHERE a = 20;"), false},
		"an entry of another row":    {"CREATE TABLE t(a, b); CREATE INDEX i ON t(b);" + rows + "SELECT x, 'b' || x FROM c;", hidden("UPDATE t SET b = 'c' WHERE a = 20;"), false},
		"two rows exchanged":         {"CREATE TABLE t(a, b); CREATE INDEX i ON t(b);" + rows + "SELECT x, 'b' || x FROM c;", hidden("UPDATE t SET b = CASE a WHEN 1 THEN 'b2' ELSE 'b1' END WHERE a < 3;"), false},
		"another column":             {"CREATE TABLE t(a, b); CREATE INDEX i ON t(b);" + rows + "SELECT x, 'b' || x FROM c;", change("t(b)", "t(a)"), false},
		"not unique":                 {"CREATE TABLE t(a, b); CREATE INDEX i ON t(b);" + rows + "SELECT x, x / 2 FROM c;", change("CREATE INDEX", "CREATE UNIQUE INDEX"), false},
		"unique but for NULL":        {"CREATE TABLE t(a, b); CREATE INDEX i ON t(b);" + rows + "SELECT x, nullif(max(x, 10), 10) FROM c;", change("CREATE INDEX", "CREATE UNIQUE INDEX"), true},
		"another order":              {"CREATE TABLE t(a, b); CREATE INDEX i ON t(b);" + rows + "SELECT x, 'b' || x FROM c;", change("t(b)", "t(b DESC)"), false},
		"another collation":          {"CREATE TABLE t(a, b); CREATE INDEX i ON t(b);" + rows + "SELECT x, CASE x % 2 WHEN 0 THEN 'b' ELSE 'C' END || x FROM c;", change("t(b)", "t(b COLLATE NOCASE)"), false},
		"NULL where none may be":     {"CREATE TABLE t(a, b);" + rows + "SELECT x, nullif(x, 7) FROM c;", change("b)", "b NOT NULL)"), false},
		"a number in a text column":  {"CREATE TABLE t(a, b);" + rows + "SELECT x, x FROM c;", change("b)", "b TEXT)"), false},
		"a text that is a number":    {"CREATE TABLE t(a, b);" + rows + "SELECT x, CAST(x AS TEXT) FROM c;", change("b)", "b INT)"), false},
		"a text that is none":        {"CREATE TABLE t(a, b);" + rows + "SELECT x, date('2020-01-01', x || ' days') FROM c;", change("b)", "b DATE)"), true},
		"the wrong type when strict": {"CREATE TABLE t(a INT, b ANY) STRICT;" + rows + "SELECT x, 'b' FROM c;", change("b ANY", "b INT"), false},
		"rows older than a column":   {"CREATE TABLE t(a);" + rows + "SELECT x FROM c; ALTER TABLE t ADD COLUMN b DEFAULT 7; CREATE INDEX i ON t(b); INSERT INTO t VALUES (51, 8);", "", true},
		"without rowid, a row less":  {"CREATE TABLE t(a PRIMARY KEY, b) WITHOUT ROWID; CREATE INDEX i ON t(b);" + rows + "SELECT x, 'b' || x FROM c;", hidden("DELETE FROM t WHERE a = 9;"), false},
		"without rowid, other order": {"CREATE TABLE t(a, b, PRIMARY KEY(a)) WITHOUT ROWID;" + rows + "SELECT x, 'b' || x FROM c;", change("KEY(a)", "KEY(a DESC)"), false},
		"partial":                    {"CREATE TABLE t(a, b); CREATE INDEX i ON t(b) WHERE a > 10;" + rows + "SELECT x, 'b' || x FROM c;", hidden("INSERT INTO t VALUES (51, 'b51');"), false},
		"of an expression":           {"CREATE TABLE t(a, b); CREATE INDEX i ON t(a + 1);" + rows + "SELECT x, 'b' || x FROM c;", hidden("DELETE FROM t WHERE a = 20;"), false},
		"a row of another SQL table": {"CREATE TABLE t(a, b); CREATE TABLE u(c); CREATE INDEX i ON u(c);" + rows + "SELECT x, x FROM c; INSERT INTO u SELECT a FROM t;", hidden("DELETE FROM u WHERE c = 9;"), false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "t.db")
			shell(t, path, c.make)
			if c.then != "" {
				shell(t, path, c.then)
			}
			ours, okOurs := look(t, path, CheckOptions{})
			theirs, okTheirs := look(t, path, CheckOptions{BySQLite: true})
			if okOurs != c.sound || okTheirs != c.sound {
				t.Errorf("sound %v (%v, open %v), SQLite says %v (%v)", okOurs, ours.Problems, ours.proved.Open, okTheirs, theirs.Problems)
			}
		})
	}
}
