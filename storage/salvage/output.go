package salvage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the driver
)

// output is the new file. All of it is one transaction.
type output struct {
	path  string
	db    *sql.DB
	conn  *sql.Conn
	found *sql.Stmt // into lost_and_found, once it is there
}

// lostAndFoundTable is named as the sqlite3 shell's .recover names its own.
const lostAndFoundTable = "lost_and_found"

// maxFound is how many values of a row lost_and_found keeps as columns.
const maxFound = 100

func create(ctx context.Context, path string, h header) (*output, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	name := url.URL{Scheme: "file", Path: filepath.ToSlash(absolute), RawQuery: "mode=rwc"}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	o := &output{path: path, db: db, conn: conn}
	vacuum := "NONE"
	if h.vacuum && h.increment {
		vacuum = "INCREMENTAL"
	} else if h.vacuum {
		vacuum = "FULL"
	}
	err = o.exec(ctx,
		fmt.Sprintf("PRAGMA page_size = %d", h.pageSize),
		fmt.Sprintf("PRAGMA encoding = '%s'", h.text),
		"PRAGMA auto_vacuum = "+vacuum,
		"PRAGMA journal_mode = MEMORY", "PRAGMA synchronous = OFF", "PRAGMA foreign_keys = OFF", "PRAGMA trusted_schema = OFF",
		"PRAGMA ignore_check_constraints = ON",
		"BEGIN EXCLUSIVE",
		fmt.Sprintf("PRAGMA user_version = %d", int32(h.version)),
		fmt.Sprintf("PRAGMA application_id = %d", int32(h.appID)))
	if err != nil {
		return nil, errors.Join(err, o.abandon())
	}
	return o, nil
}

func (o *output) exec(ctx context.Context, statements ...string) error {
	for _, statement := range statements {
		if _, err := o.conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%.80s: %w", statement, err)
		}
	}
	return nil
}

func (o *output) abandon() error {
	if o.found != nil {
		return errors.Join(o.found.Close(), o.conn.Close(), o.db.Close())
	}
	return errors.Join(o.conn.Close(), o.db.Close())
}

// finish commits, checks and syncs. tables are the SQL tables that must be sound; what is wrong with virtual ones is returned:
// their shadow tables hold what could be read, which may not be all that they need.
func (o *output) finish(ctx context.Context, tables []TableReport) (problems []string, err error) {
	err = o.exec(ctx, "COMMIT")
	for _, t := range tables {
		if err == nil {
			err = o.check(ctx, t.Name)
		}
	}
	if err == nil {
		problems, err = o.verdicts(ctx, "PRAGMA integrity_check(10)")
	}
	if err := errors.Join(err, o.abandon()); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(o.path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return problems, errors.Join(file.Sync(), file.Close())
}

func (o *output) check(ctx context.Context, table string) error {
	verdicts, err := o.verdicts(ctx, fmt.Sprintf("PRAGMA integrity_check(%s)", quote(table)))
	if err == nil && len(verdicts) > 0 {
		err = fmt.Errorf("the new SQL table %s fails its integrity check: %s", table, verdicts[0])
	}
	return err
}

// verdicts are the findings of an integrity check; none if all is well.
func (o *output) verdicts(ctx context.Context, check string) ([]string, error) {
	rows, err := o.conn.QueryContext(ctx, check)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var verdict string
		if err := rows.Scan(&verdict); err != nil {
			return nil, err
		}
		if verdict != "ok" {
			found = append(found, verdict)
		}
	}
	return found, rows.Err()
}

// outTable is one SQL table of the new file.
type outTable struct {
	name         string
	withoutRowid bool
	alias        int      // the stored column that is the rowid, -1 if there is none
	columns      []string // stored ones, quoted, in the order of a record
	out          *output
	inserts      map[int]*sql.Stmt // by the number of values
}

// table makes a SQL table as its statement says.
func (o *output) table(ctx context.Context, obj object) (*outTable, error) {
	if obj.name == "sqlite_sequence" {
		return o.describe(ctx, obj.name) // SQLite made it, with the first AUTOINCREMENT table
	}
	if obj.internal() {
		return nil, errors.New("left to SQLite, which makes it when it is needed")
	}
	before, err := o.tables(ctx)
	if err != nil {
		return nil, err
	}
	if err := o.exec(ctx, obj.sql); err != nil {
		return nil, err
	}
	if obj.name == "" { // of a schema that was given
		after, err := o.tables(ctx)
		if err != nil {
			return nil, err
		}
		for name := range after {
			if !before[name] && name != "sqlite_sequence" {
				obj.name = name
			}
		}
	}
	return o.describe(ctx, obj.name)
}

func (o *output) tables(ctx context.Context) (map[string]bool, error) {
	rows, err := o.conn.QueryContext(ctx, "SELECT name FROM sqlite_schema WHERE type = 'table'")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names := map[string]bool{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names[name] = true
	}
	return names, rows.Err()
}

// describe finds out in which order a record of the SQL table holds its columns: as declared; without rowid, those of the
// primary key first (file format, section 2.4).
func (o *output) describe(ctx context.Context, name string) (*outTable, error) {
	t := &outTable{name: name, alias: -1, out: o, inserts: map[int]*sql.Stmt{}}
	var wr, keyIndexes int
	err := o.conn.QueryRowContext(ctx, "SELECT wr, (SELECT count(*) FROM pragma_index_list(?1) WHERE origin = 'pk') FROM pragma_table_list(?1) WHERE schema = 'main'", name).
		Scan(&wr, &keyIndexes)
	if err != nil {
		return nil, err
	}
	t.withoutRowid = wr != 0
	rows, err := o.conn.QueryContext(ctx, "SELECT name, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid", name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	keys := map[int]string{}
	for rows.Next() {
		var column string
		var pk, hidden int
		if err := rows.Scan(&column, &pk, &hidden); err != nil {
			return nil, err
		}
		const virtual, stored = 2, 3
		switch {
		case hidden == virtual:
			continue
		case t.withoutRowid && pk > 0:
			keys[pk] = quote(column)
			continue
		case pk > 0 && keyIndexes == 0: // a key without an index of its own is the rowid
			t.alias = len(t.columns)
		}
		if hidden == stored {
			column = "" // it is in the record, and is computed again
		}
		t.columns = append(t.columns, quote(column))
	}
	first := make([]string, 0, len(keys)+len(t.columns))
	for i := 1; i <= len(keys); i++ {
		first = append(first, keys[i])
	}
	t.columns = append(first, t.columns...)
	return t, rows.Err()
}

func quote(name string) string {
	if name == "" {
		return ""
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// insert adds a row; kept is false if a constraint refuses it.
func (t *outTable) insert(ctx context.Context, r row) (kept bool, err error) {
	values := r.values[:min(len(r.values), len(t.columns))]
	statement, err := t.statement(ctx, len(values)) //nolint:sqlclosecheck // it is kept for the next row; close ends it
	if err != nil {
		return false, err
	}
	var args []any
	if !t.withoutRowid {
		args = append(args, r.rowid)
	}
	for i, value := range values {
		if t.columns[i] != "" && i != t.alias {
			args = append(args, value)
		}
	}
	result, err := statement.ExecContext(ctx, args...)
	if err != nil {
		// CHECK and datatype constraints are not covered by OR IGNORE in every case.
		return false, ctx.Err()
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// statement is the INSERT for a record of n values: columns that were added by ALTER TABLE are missing from older records.
func (t *outTable) statement(ctx context.Context, n int) (*sql.Stmt, error) {
	if s := t.inserts[n]; s != nil {
		return s, nil
	}
	var names []string
	if !t.withoutRowid {
		names = append(names, t.rowidName())
	}
	for i, column := range t.columns[:n] {
		if column != "" && i != t.alias {
			names = append(names, column)
		}
	}
	s, err := t.out.conn.PrepareContext(ctx, fmt.Sprintf("INSERT OR IGNORE INTO %s (%s) VALUES (?%s)",
		quote(t.name), strings.Join(names, ", "), strings.Repeat(", ?", len(names)-1)))
	if err != nil {
		return nil, err
	}
	t.inserts[n] = s
	return s, nil
}

// rowidName is a name of the rowid that no column has taken.
func (t *outTable) rowidName() string {
	if t.alias >= 0 {
		return t.columns[t.alias]
	}
	for _, name := range []string{"_rowid_", "rowid", "oid"} {
		if !t.has(name) {
			return name
		}
	}
	return "_rowid_"
}

func (t *outTable) has(name string) bool {
	for _, column := range t.columns {
		if strings.EqualFold(column, quote(name)) {
			return true
		}
	}
	return false
}

func (t *outTable) close() {
	for _, s := range t.inserts {
		s.Close()
	}
}

// lostAndFound adds a row that nothing led to.
func (o *output) lostAndFound(ctx context.Context, r row) error {
	if o.found == nil {
		if err := o.createLostAndFound(ctx); err != nil {
			return err
		}
	}
	args := make([]any, 3+maxFound)
	args[0], args[1], args[2] = r.page, len(r.values), r.rowid
	copy(args[3:], r.values[:min(len(r.values), maxFound)])
	_, err := o.found.ExecContext(ctx, args...)
	return err
}

func (o *output) createLostAndFound(ctx context.Context) error {
	var columns strings.Builder
	for i := range maxFound {
		fmt.Fprintf(&columns, ", c%d", i)
	}
	err := o.exec(ctx, fmt.Sprintf("CREATE TABLE %s (page INTEGER, fields INTEGER, id INTEGER%s)", lostAndFoundTable, columns.String()))
	if err != nil {
		return err
	}
	o.found, err = o.conn.PrepareContext(ctx, fmt.Sprintf("INSERT INTO %s VALUES (?%s)", lostAndFoundTable, strings.Repeat(", ?", 2+maxFound)))
	return err
}

// object makes an index, a view, a trigger or a virtual table.
func (o *output) object(ctx context.Context, obj object) error {
	if !obj.virtual() {
		return o.exec(ctx, obj.sql)
	}
	err := o.schema(ctx, "INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql) VALUES ('table', ?1, ?1, 0, ?2)", obj.name, obj.sql)
	if err == nil {
		_, err = o.verdicts(ctx, "SELECT 'ok' FROM "+quote(obj.name)+" LIMIT 1")
	}
	if err != nil {
		err = fmt.Errorf("left out, what could be read is in its shadow tables: %w", err)
		return errors.Join(err, o.schema(ctx, "DELETE FROM sqlite_schema WHERE name = ?1 AND rootpage = 0", obj.name))
	}
	return nil
}

// schema changes the schema by hand: CREATE VIRTUAL TABLE would make the shadow tables, which are there.
func (o *output) schema(ctx context.Context, statement string, args ...any) error {
	if err := o.exec(ctx, "PRAGMA writable_schema = ON"); err != nil {
		return err
	}
	_, err := o.conn.ExecContext(ctx, statement, args...)
	return errors.Join(err, o.exec(ctx, "PRAGMA writable_schema = RESET"))
}
