package table

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// modelParts are what a random schema is put together from, each with statements that change it. ? is a small number, @ a text, # a blob.
var modelParts = []struct {
	schema []string
	ops    []string
}{
	{[]string{"CREATE TABLE ipk(id INTEGER PRIMARY KEY, a TEXT, b)", "CREATE INDEX ipk_b ON ipk(b) WHERE b IS NOT NULL", "CREATE INDEX ipk_e ON ipk(length(a))"},
		[]string{"INSERT INTO ipk(a, b) VALUES (@, #)", "INSERT OR REPLACE INTO ipk VALUES (?, @, ?)", "UPDATE ipk SET id = id + 100000 WHERE id = ?",
			"UPDATE ipk SET a = @ WHERE id % 50 = ?", "DELETE FROM ipk WHERE id % 40 = ?", "DELETE FROM ipk"}},
	{[]string{"CREATE TABLE bare(a, b TEXT)", "CREATE UNIQUE INDEX bare_a ON bare(a)", "CREATE TABLE bare2(a, b TEXT)"},
		[]string{"INSERT INTO bare VALUES (?, @)", "REPLACE INTO bare VALUES (?, @)", "INSERT INTO bare2 SELECT * FROM bare", "DELETE FROM bare2",
			"UPDATE OR IGNORE bare SET a = a + 1 WHERE a > ?", "INSERT INTO bare VALUES (?, @) ON CONFLICT DO UPDATE SET b = excluded.b || a"}},
	{[]string{"CREATE TABLE auto(id INTEGER PRIMARY KEY AUTOINCREMENT, v UNIQUE)"},
		[]string{"INSERT INTO auto(v) VALUES (@)", "DELETE FROM auto WHERE id > ?", "UPDATE sqlite_sequence SET seq = seq + ?", "INSERT OR REPLACE INTO auto(v) VALUES (?)"}},
	{[]string{"CREATE TABLE keyed(st TEXT AS (s || 'x') STORED, s TEXT COLLATE NOCASE, v BLOB, n INT, g INT AS (n * 2) VIRTUAL, PRIMARY KEY(n, s)) WITHOUT ROWID",
		"CREATE TABLE keyed2(st TEXT AS (s || 'x') STORED, s TEXT COLLATE NOCASE, v BLOB, n INT, g INT AS (n * 2) VIRTUAL, PRIMARY KEY(n, s)) WITHOUT ROWID",
		"CREATE INDEX keyed_g ON keyed(g)"},
		[]string{"INSERT INTO keyed(s, v, n) VALUES (@, #, ?)", "REPLACE INTO keyed(s, v, n) VALUES (@, #, ?)", "UPDATE OR REPLACE keyed SET n = n + 1 WHERE n = ?",
			"UPDATE OR IGNORE keyed SET s = upper(s) WHERE n < ?", "DELETE FROM keyed WHERE n % 30 = ?", "DELETE FROM keyed2", "INSERT OR REPLACE INTO keyed2(s, v, n) SELECT s, v, n FROM keyed",
			"INSERT INTO keyed(s, v, n) VALUES ('nul' || char(0) || @, #, ?)"}},
	{[]string{"CREATE TABLE plainkey(k PRIMARY KEY, v) WITHOUT ROWID", "CREATE TABLE plainkey2(k PRIMARY KEY, v) WITHOUT ROWID"},
		[]string{"INSERT INTO plainkey VALUES (#, @)", "REPLACE INTO plainkey VALUES (@, ?)", "REPLACE INTO plainkey VALUES (x'', ?)", "REPLACE INTO plainkey VALUES ('', ?)",
			"REPLACE INTO plainkey VALUES (? / 7.0, ?)", "DELETE FROM plainkey2", "INSERT INTO plainkey2 SELECT * FROM plainkey", "UPDATE plainkey SET v = v || 'y'", "DELETE FROM plainkey WHERE v = ?"}},
	{[]string{"CREATE TABLE parent(id INTEGER PRIMARY KEY, v)", "CREATE TABLE log(at INTEGER PRIMARY KEY, what)", "CREATE VIEW tail AS SELECT * FROM log ORDER BY at DESC LIMIT 3",
		"CREATE TRIGGER parent_in AFTER INSERT ON parent BEGIN INSERT INTO log(what) VALUES (new.v); END",
		"CREATE TRIGGER parent_up AFTER UPDATE ON parent BEGIN UPDATE log SET what = new.v WHERE at = new.id; END",
		"CREATE TRIGGER parent_out BEFORE DELETE ON parent BEGIN INSERT INTO log(what) VALUES (old.v || ' gone'); SELECT RAISE(ABORT, 'no') WHERE old.id = 13; END",
		"CREATE TRIGGER tail_in INSTEAD OF INSERT ON tail BEGIN INSERT INTO log(what) VALUES (new.what); END"},
		[]string{"INSERT INTO parent(v) VALUES (@)", "UPDATE parent SET v = @ WHERE id % 20 = ?", "DELETE FROM parent WHERE id % 30 = ?", "INSERT INTO tail(what) VALUES (@)"}},
	{[]string{"CREATE VIRTUAL TABLE words USING fts5(body, extra)"},
		[]string{"INSERT INTO words VALUES (@ || ' ' || @, @)", "UPDATE words SET body = @ WHERE rowid % 20 = ?", "DELETE FROM words WHERE rowid % 25 = ?", "INSERT INTO words(words) VALUES ('optimize')",
			"INSERT INTO words(words, rank) VALUES ('merge', 4)"}},
	{[]string{"CREATE VIRTUAL TABLE box USING rtree(id, x0, x1, y0, y1, +note)"},
		[]string{"INSERT OR REPLACE INTO box VALUES (?, ?, ? + 100, ?, ? + 100, @)", "DELETE FROM box WHERE id % 20 = ?", "UPDATE box SET x1 = x1 + 1 WHERE id = ?"}},
	{[]string{"CREATE TABLE strict(a INTEGER, b REAL, c ANY, CHECK (a > -1)) STRICT", "CREATE TABLE \"odd \"\"name\"(\"rowid\" TEXT, \"_rowid_\" INT, \"from\" BLOB)"},
		[]string{"INSERT INTO strict VALUES (?, ? / 3.0, #)", "UPDATE strict SET c = @ WHERE a = ?", "DELETE FROM strict WHERE a % 20 = ?",
			"INSERT INTO \"odd \"\"name\" VALUES (@, ?, #)", "DELETE FROM \"odd \"\"name\" WHERE _rowid_ = ?", "ANALYZE", "PRAGMA user_version = ?"}},
}

type modelRun struct {
	rng   *rand.Rand
	ops   []string
	table *Table
	plain *sql.DB
	ddl   int
}

// fillIn puts literals in the places of ?, @ and #.
func (m *modelRun) fillIn(op string) string {
	var b strings.Builder
	for _, c := range op {
		switch c {
		case '?':
			b.WriteString(strconv.Itoa(m.rng.IntN(60)))
		case '@':
			fmt.Fprintf(&b, "'%s %d'", strings.Repeat("word"[:1+m.rng.IntN(4)], 1+m.rng.IntN(12)), m.rng.IntN(500))
		case '#':
			fmt.Fprintf(&b, "x'%x'", strings.Repeat(string(rune('a'+m.rng.IntN(26))), m.rng.IntN(900)))
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

func (m *modelRun) next() string {
	if m.rng.IntN(1500) == 0 {
		m.ddl++
		return fmt.Sprintf("CREATE TABLE more%d(a INTEGER PRIMARY KEY, b)", m.ddl)
	}
	if m.ddl > 0 && m.rng.IntN(20) == 0 {
		return m.fillIn(fmt.Sprintf("INSERT OR REPLACE INTO more%d VALUES (?, @)", 1+m.rng.IntN(m.ddl)))
	}
	return m.fillIn(m.ops[m.rng.IntN(len(m.ops))])
}

// step does the same to both, in one transaction.
func (m *modelRun) step(n int) error {
	statements := make([]string, n)
	for i := range statements {
		statements[i] = m.next()
	}
	cancel := m.rng.IntN(12) == 0
	errGiveUp := errors.New("given up")
	results := func(tx *sql.Tx) (all []string) {
		for _, statement := range statements {
			_, err := tx.ExecContext(context.Background(), statement)
			all = append(all, fmt.Sprint(sqliteCode(err)))
		}
		return all
	}
	var ours, theirs []string
	err := m.table.Write(context.Background(), func(tx *sql.Tx) error {
		if ours = results(tx); cancel {
			return errGiveUp
		}
		return nil
	})
	if err != nil && !errors.Is(err, errGiveUp) {
		return err
	}
	tx, err := m.plain.BeginTx(context.Background(), nil)
	if err != nil {
		return err
	}
	if theirs = results(tx); cancel {
		err = tx.Rollback()
	} else {
		err = tx.Commit()
	}
	if err == nil && !slices.Equal(ours, theirs) {
		err = fmt.Errorf("%q: codes %v, the model has %v", statements, ours, theirs)
	}
	return err
}

// contents lists every row of every SQL table, with its rowid.
func contents(query func(string, ...any) (*sql.Rows, error)) (all []string, err error) {
	read := func(q string, args ...any) (rows [][]string, err error) {
		r, err := query(q, args...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", q, err)
		}
		defer r.Close()
		columns, err := r.Columns()
		if err != nil {
			return nil, err
		}
		for r.Next() {
			row, dest := make([]string, len(columns)), make([]any, len(columns))
			for i := range row {
				dest[i] = &row[i]
			}
			if err := r.Scan(dest...); err != nil {
				return nil, err
			}
			rows = append(rows, row)
		}
		return rows, r.Err()
	}
	schema, err := read("SELECT type, name, ifnull(sql, '') FROM sqlite_schema ORDER BY type, name")
	if err != nil {
		return nil, err
	}
	tables, err := read("SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow') AND name <> 'sqlite_schema' ORDER BY name")
	for _, row := range schema {
		all = append(all, strings.Join(row, " "))
	}
	for _, t := range tables {
		if t[0] == "words_data" || t[0] == "words_idx" {
			continue // how FTS5 merges depends on what a connection remembers; integrity_check compares it with the content
		}
		columns, e := read("SELECT name FROM pragma_table_xinfo(?) WHERE hidden <> 1", t[0])
		err = errors.Join(err, e)
		var names, quoted []string
		for _, c := range columns {
			names = append(names, c[0])
			quoted = append(quoted, "quote("+quote(c[0])+")")
		}
		if t[1] == "0" && !strings.HasPrefix(t[0], "sqlite_") {
			quoted = append(quoted, freeName(names))
		}
		rows, e := read("SELECT " + strings.Join(quoted, ", ") + " FROM " + quote(t[0]))
		err = errors.Join(err, e)
		var lines []string
		for _, row := range rows {
			if line := t[0] + ": " + strings.Join(row, " "); !strings.HasPrefix(line, "sqlite_stat") || !strings.Contains(line, "words_") {
				lines = append(lines, line)
			}
		}
		slices.Sort(lines)
		all = append(all, lines...)
	}
	version, e := read("PRAGMA user_version")
	return append(all, fmt.Sprint(version)), errors.Join(err, e)
}

func (m *modelRun) compare(ctx context.Context) error {
	var ours, theirs []string
	err := m.table.Read(ctx, func(tx *sql.Tx) (err error) {
		ours, err = contents(tx.Query)
		return err
	})
	if err == nil {
		theirs, err = contents(m.plain.Query)
	}
	if err != nil {
		return err
	}
	for i := range max(len(ours), len(theirs)) {
		if i >= len(ours) || i >= len(theirs) || ours[i] != theirs[i] {
			return fmt.Errorf("line %d of %d and %d:\n%.300s\nthe model has\n%.300s", i, len(ours), len(theirs), slices.Concat(ours[min(i, len(ours)):], []string{"nothing"})[0],
				slices.Concat(theirs[min(i, len(theirs)):], []string{"nothing"})[0])
		}
	}
	var ourCheck, theirCheck string
	// On a new connection: FTS5 checks with what its connection remembers of an older state.
	c, err := connect(ctx, m.table.path, openOptions{readOnly: true})
	if err != nil {
		return err
	}
	err = errors.Join(c.row(ctx, "PRAGMA integrity_check", &ourCheck), c.close(), m.plain.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&theirCheck))
	if err == nil && (ourCheck != "ok" || theirCheck != "ok") {
		err = fmt.Errorf("integrity_check says %q, of the model %q", ourCheck, theirCheck)
	}
	return err
}

// compactBeside compacts a table of any size by a copy.
func compactBeside(ctx context.Context, table *Table) (Compaction, error) {
	return compactBesideWith(ctx, table, CompactOptions{})
}

func compactBesideWith(ctx context.Context, table *Table, opts CompactOptions) (Compaction, error) {
	k := &compaction{path: table.path, opts: opts, owned: true}
	k.opts.defaults()
	s, err := Stat(ctx, table.path)
	if err != nil {
		return k.Compaction, err
	}
	k.take(s)
	k.Strategy = strategyOnline
	err = table.carryOut(ctx, k)
	return k.Compaction, err
}

func TestOnlineModel(t *testing.T) {
	seeds, operations := []uint64{1, uint64(time.Now().UnixNano())}, 10_000
	if raceEnabled {
		seeds, operations = seeds[1:], 300
	}
	if word := os.Getenv("TABLE_TEST_SEED"); word != "" {
		seed, err := strconv.ParseUint(word, 10, 64)
		must(t, err)
		seeds = []uint64{seed}
	}
	if word := os.Getenv("TABLE_TEST_SEEDS"); word != "" {
		n, err := strconv.Atoi(word)
		must(t, err)
		for range n {
			seeds = append(seeds, rand.Uint64())
		}
	}
	for _, seed := range seeds {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			runModel(t, seed, operations)
		})
	}
}

func runModel(t *testing.T, seed uint64, operations int) {
	m := &modelRun{rng: rand.New(rand.NewPCG(seed, 1))}
	dir := t.TempDir()
	opts := quietOwned
	opts.CheckpointBytes = 1 << 20
	m.table = openOwned(t, filepath.Join(dir, "x.db"), opts)
	var err error
	m.plain, err = sql.Open("sqlite", "file:"+filepath.Join(dir, "model.db")+"?_pragma=synchronous(0)&_pragma=trusted_schema(0)")
	must(t, err)
	t.Cleanup(func() { must(t, m.plain.Close()) })
	m.plain.SetMaxOpenConns(1)
	for _, part := range modelParts {
		if m.rng.IntN(4) == 0 {
			continue
		}
		m.ops = append(m.ops, part.ops...)
		for _, statement := range part.schema {
			writeOwned(t, m.table, statement)
			_, err := m.plain.ExecContext(t.Context(), statement)
			must(t, err)
		}
	}
	if len(m.ops) == 0 {
		t.Skip("an empty schema")
	}
	reports := map[string]int{}
	var cut int64
	for done := 0; done < operations; {
		end := make(chan error, 1)
		go func() {
			report, err := compactBeside(context.WithoutCancel(t.Context()), m.table)
			reports[report.Status+" "+report.Reason]++
			cut = max(cut, report.CutUS)
			end <- err
		}()
		for next := done + 100 + m.rng.IntN(800); ; {
			n := 1 + m.rng.IntN(20)
			if err := m.step(n); err != nil {
				t.Fatalf("seed %d, operation %d: %v", seed, done, err)
			}
			if done += n; done >= next && len(end) > 0 {
				break
			}
		}
		if err := <-end; err != nil {
			t.Fatalf("seed %d, operation %d: %v", seed, done, err)
		}
		if err := m.compare(t.Context()); err != nil {
			t.Fatalf("seed %d, operation %d: %v", seed, done, err)
		}
	}
	if reports["compacted "] == 0 { // a machine too slow for a writer that never rests: now it rests
		report, err := compactBeside(t.Context(), m.table)
		must(t, errors.Join(err, m.compare(t.Context())))
		if report.Status != Compacted {
			t.Errorf("seed %d: nothing was compacted: %v, and at rest: %+v", seed, reports, report)
		}
	}
	settleOwned(t, m.table)
	scrubClean(t, m.table)
	t.Logf("seed %d: %v, longest cut %d us", seed, reports, cut)
}
