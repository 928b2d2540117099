package table

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"tablekeeper/storage/btree"
)

const (
	defaultLimit = 100             // problems that SQLite lists before it stops
	defaultWait  = 5 * time.Second // how long a reader waits for a lock
	checkPages   = 256             // pages of cache, of 1 to 4 MiB together; more made an integrity_check no faster
)

// CheckOptions say how deep to look. The zero value is what SQLite's integrity_check looks for, and the row counts.
type CheckOptions struct {
	SkipIntegrity bool          // neither a proof nor integrity_check
	SkipRows      bool          // rows are not counted, nor read: CheckReport.Rows stays empty
	Quick         bool          // quick_check in place of integrity_check: SQLite does not look rows up in indexes
	ForeignKeys   bool          // foreign_key_check, too
	Traverse      bool          // read every column of every row, and every entry of every index
	Limit         int           // problems and violations to list; 0, and the most: 100
	Wait          time.Duration // how long to wait for a lock; 0: 5 s
	// Progress is told what is done: integrity_check (in pages), foreign_key_check, count and traverse; the last two by SQL table.
	Progress func(phase string, done, total int64)
	// BySQLite leaves everything to SQLite, which is several times slower: for a second opinion. Otherwise a table of which package
	// btree finds a proof is not checked again.
	BySQLite bool

	alone bool // on the goroutine of the caller, and no other
}

func (o *CheckOptions) defaults() {
	if o.Limit <= 0 || o.Limit > defaultLimit {
		o.Limit = defaultLimit
	}
	if o.Wait <= 0 {
		o.Wait = defaultWait
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
}

// CheckReport is what a check found.
type CheckReport struct {
	OK       bool     `json:"ok"` // no sign of damage
	Problems []string `json:"problems,omitempty"`
	// Violations are rows whose foreign key leads nowhere. They are a matter of the data, not of the file: OK stands.
	Violations []string `json:"violations,omitempty"`
	// Unsupported says what could not be looked at, because it needs a collation, a function or a module that is not
	// here. It is no sign of damage.
	Unsupported []string         `json:"unsupported,omitempty"`
	Rows        map[string]int64 `json:"rows"` // of each SQL table, virtual and shadow tables included
	Stats       Stats            `json:"stats"`

	path   string
	proved btree.Proof // the zero value if there is none
}

// Err is nil for a sound table, else a *CorruptError.
func (r *CheckReport) Err() error {
	if r.OK {
		return nil
	}
	return &CorruptError{Path: r.path, Problems: r.Problems}
}

// Check looks for damage in the table at path, in one read transaction. A table in WAL mode serves its writers meanwhile; the
// writers of one with a rollback journal wait for it.
//
// Damage is not an error but a report that is not OK; an error means that the check could not be done (ErrBusy,
// ErrNotDatabase, ErrForeignJournal, the context's).
func Check(ctx context.Context, path string, opts CheckOptions) (CheckReport, error) {
	opts.defaults()
	r := CheckReport{path: path, Rows: map[string]int64{}}
	c, missing, err := openToCheck(ctx, path, openOptions{wait: opts.Wait})
	if err == nil {
		err = c.read(ctx, func() error { return r.run(ctx, c, missing, opts) })
		err = errors.Join(err, c.close())
	}
	if err = r.take(err); err != nil {
		return r, fmt.Errorf("check %s: %w", path, err)
	}
	r.OK = len(r.Problems) == 0
	r.Problems = r.Problems[:min(len(r.Problems), opts.Limit)]
	return r, nil
}

// take makes a problem of an error that means damage, and returns any other.
func (r *CheckReport) take(err error) error {
	if !errors.Is(err, ErrCorrupt) {
		return err
	}
	r.Problems = append(r.Problems, problem(err))
	return nil
}

// openToCheck opens the table for reading, and its main file besides. Collations that its indexes need and nobody here has get a
// stand-in, without which SQLite reads no such index, not even to look at its pages; their names are returned.
func openToCheck(ctx context.Context, path string, opts openOptions) (*conn, []string, error) {
	main := openMain(path)
	c, missing, err := openWithStandIns(ctx, path, opts)
	if err != nil {
		main.close()
		return nil, nil, err
	}
	c.main = main
	return c, missing, nil
}

func openWithStandIns(ctx context.Context, path string, opts openOptions) (*conn, []string, error) {
	c, err := open(ctx, path, opts)
	if err != nil {
		return nil, nil, err
	}
	missing, err := c.missingCollations(ctx)
	if err == nil && len(missing) == 0 {
		return c, nil, nil
	}
	if err = errors.Join(err, c.close()); err != nil {
		return nil, nil, err
	}
	opts.driver = &sqlite.Driver{}
	for _, name := range missing {
		if err := opts.driver.RegisterCollationUtf8(name, strings.Compare); err != nil {
			return nil, nil, fmt.Errorf("stand in for collation %s: %w", name, err)
		}
	}
	c, err = open(ctx, path, opts)
	return c, missing, err
}

// missingCollations asks for each collation by its use: a list of those that are known names those that are only mentioned, too.
func (c *conn) missingCollations(ctx context.Context) ([]string, error) {
	var named, missing []string
	err := c.list(ctx, &named, `SELECT json_group_array(DISTINCT x.coll) FROM pragma_table_list t, pragma_index_list(t.name) i,
		pragma_index_xinfo(i.name) x WHERE t.schema = 'main' AND upper(x.coll) NOT IN ('BINARY', 'NOCASE', 'RTRIM')`)
	for _, name := range named {
		var known bool
		switch e := c.row(ctx, "SELECT 'a' <> 'b' COLLATE "+quote(name), &known); {
		case errors.Is(e, ErrUnsupported):
			missing = append(missing, name)
		case e != nil:
			return nil, e
		}
	}
	return missing, err
}

// list reads a query whose one value is a JSON array of texts. It is one step of one statement, which is all that a context
// interrupts at once.
func (c *conn) list(ctx context.Context, into *[]string, query string, args ...any) error {
	var text []byte
	if err := c.sql.QueryRowContext(ctx, query, args...).Scan(&text); err != nil {
		return classify(err)
	}
	var all []*string
	if err := json.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("read a list from SQLite: %w", err)
	}
	for _, s := range all {
		if s != nil {
			*into = append(*into, *s)
		}
	}
	return nil
}

// run does the check inside a read transaction. Damage on the way ends it, with ErrCorrupt.
func (r *CheckReport) run(ctx context.Context, c *conn, missing []string, opts CheckOptions) error {
	// A CHECK constraint that does not hold is no damage: constraints can be switched off, and may call what is not here.
	if err := c.exec(ctx, "PRAGMA query_only=ON; PRAGMA ignore_check_constraints=ON"); err != nil {
		return err
	}
	stats, err := c.stats(ctx)
	if err != nil {
		return err
	}
	cache := min(max(checkPages*stats.PageSize, 1<<20), 4<<20)
	if err := c.exec(ctx, fmt.Sprintf("PRAGMA cache_size=-%d", cache>>10)); err != nil {
		return err
	}
	r.Stats = stats
	for _, name := range missing {
		r.Unsupported = append(r.Unsupported, fmt.Sprintf("needs collation %s: the order of its indexes is not checked", name))
	}
	if !opts.SkipIntegrity {
		if err := r.integrity(ctx, c, opts, len(missing) > 0); err != nil {
			return err
		}
	}
	if opts.ForeignKeys {
		if err := r.foreignKeys(ctx, c, opts); err != nil {
			return err
		}
	}
	if opts.SkipRows {
		return nil
	}
	return r.rows(ctx, c, opts)
}

// integrity looks for a proof, and asks SQLite about what was not proved. A whole check of SQLite's may be impossible where the
// schema calls a function that is not here; then each SQL table is checked by itself.
func (r *CheckReport) integrity(ctx context.Context, c *conn, opts CheckOptions, quick bool) error {
	pragma := "integrity_check"
	if quick || opts.Quick {
		pragma = "quick_check"
	}
	opts.Progress("integrity_check", 0, 1)
	if !opts.BySQLite {
		if proof, ok := c.prove(ctx, r.Stats, opts); ok {
			r.proved = proof
			return r.integrityByTable(ctx, c, pragma, slices.Sorted(maps.Keys(proof.Open)))
		}
	}
	err := c.list(ctx, &r.Problems, fmt.Sprintf(integrityQuery, pragma, ""))
	if isPlainError(err) {
		var names []string
		if names, err = c.tables(ctx); err == nil {
			r.Unsupported = append(r.Unsupported, "the list of free pages is not checked")
			err = r.integrityByTable(ctx, c, pragma, names)
		}
	}
	if err == nil {
		opts.Progress("integrity_check", 1, 1)
	}
	return err
}

// problems are what is found inside the read transaction of c, whose settings stay as they are.
func (c *conn) problems(ctx context.Context, opts CheckOptions) ([]string, error) {
	opts.defaults()
	r := CheckReport{path: c.path}
	var err error
	if r.Stats, err = c.stats(ctx); err == nil {
		err = r.integrity(ctx, c, opts, false)
	}
	err = r.take(err)
	return r.Problems, err
}

// integrityQuery makes one row of what SQLite lists, 100 problems at most.
const integrityQuery = "SELECT json_group_array(%[1]s) FROM pragma_%[1]s%[2]s WHERE %[1]s <> 'ok'"

func (r *CheckReport) integrityByTable(ctx context.Context, c *conn, pragma string, names []string) error {
	for _, name := range names {
		err := c.list(ctx, &r.Problems, fmt.Sprintf(integrityQuery, pragma, "(?)"), name)
		if isPlainError(err) {
			r.Unsupported = append(r.Unsupported, fmt.Sprintf("%s: not checked: %v", name, err))
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *CheckReport) foreignKeys(ctx context.Context, c *conn, opts CheckOptions) error {
	opts.Progress("foreign_key_check", 0, 1)
	err := c.list(ctx, &r.Violations, `SELECT json_group_array(message) FROM (SELECT
		format('%s: row %s has no row in %s', "table", ifnull(rowid, '?'), parent) AS message FROM pragma_foreign_key_check LIMIT ?)`, opts.Limit)
	if isPlainError(err) {
		r.Violations = append(r.Violations, err.Error()) // a key that does not fit the SQL table it leads to
		err = nil
	}
	if err == nil {
		opts.Progress("foreign_key_check", 1, 1)
	}
	return err
}

// isPlainError: SQLite did not understand, as opposed to could not read. A schema that needs what is not here ends so.
func isPlainError(err error) bool { return sqliteCode(err)&0xff == sqlite3.SQLITE_ERROR }

// stats measures the table inside a transaction.
func (c *conn) stats(ctx context.Context) (Stats, error) {
	var page1 []byte
	if err := c.row(ctx, "SELECT data FROM sqlite_dbpage('main') WHERE pgno = 1", &page1); err != nil {
		return Stats{}, err
	}
	h, err := parseHeader(page1)
	if err != nil {
		return Stats{}, err
	}
	_, info, err := readHeader(c.path)
	if err != nil {
		return Stats{}, err
	}
	s := h.stats(c.path, info.Size())
	var count, free int64
	if err := c.row(ctx, "PRAGMA page_count", &count); err != nil {
		return Stats{}, err
	}
	if err := c.row(ctx, "PRAGMA freelist_count", &free); err != nil {
		return Stats{}, err
	}
	s.setPages(count, free)
	s.WALBytes = sizeOf(c.path + "-wal")
	return s, nil
}
