package table

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"modernc.org/sqlite"
)

// minSQLite is the first SQLite without the bug that corrupts a database when its WAL is reset.
const minSQLite = "3.51.3"

func init() {
	// Only before the first connection of the process, hence here. Elsewhere than on Linux there are no OFD locks, and
	// the driver says so; POSIX locks have to do there.
	_, _ = sqlite.OFDLocking(true)
}

// openOptions say how to open a database. The zero value is for work that may write.
type openOptions struct {
	// readOnly opens with mode=ro: nothing is written, recovered or checkpointed. A hot journal cannot be rolled back,
	// so such a table gives ErrReadOnly.
	readOnly bool
	// wait is how long a statement waits for a lock; its context ends the wait earlier. Zero: not at all.
	wait time.Duration
	// driver, if not nil, opens the connection: one that has functions or collations registered.
	driver *sqlite.Driver
	// bare leaves SQLite without its defences against the file: for a copy that we make, and whose schema we write.
	bare bool
	// private skips the checks of what lies beside the file: it is a temporary of our own.
	private bool
}

// conn is one connection to one database. It is not safe for concurrent use. Errors of its methods are classified.
type conn struct {
	path string
	pool *sql.DB
	sql  *sql.Conn
	main *mainFile // nil: SQLite reads all pages
}

// open opens the existing database at path, of which nothing is trusted, and reads it once, so that a database that cannot
// be used is known at once.
//
// What SQLite does at that moment, unless readOnly: a hot journal is rolled back, and a WAL that no process has open is
// recovered (and checkpointed when the connection is closed). Both are what any other program does that opens the file.
// A journal that does not fit the file is refused before.
//
// Errors: fs.ErrNotExist, ErrNotDatabase, ErrEmpty, ErrNetworkFS, ErrForeignJournal, ErrBusy, ErrCorrupt, ErrReadOnly.
func open(ctx context.Context, path string, opts openOptions) (*conn, error) {
	path, err := absolute(path)
	if err != nil {
		return nil, err
	}
	h, _, err := readHeader(path)
	if err != nil {
		return nil, err
	}
	if !opts.private {
		if err := fitToOpen(ctx, path, h); err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
	}
	c, err := connect(ctx, path, opts)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, classify(err))
	}
	return c, nil
}

// openWithMain opens the main file besides.
func openWithMain(ctx context.Context, path string, opts openOptions) (*conn, error) {
	main := openMain(path)
	c, err := open(ctx, path, opts)
	if err != nil {
		main.close()
		return nil, err
	}
	c.main = main
	return c, nil
}

// fitToOpen refuses what SQLite would open and should not.
func fitToOpen(ctx context.Context, path string, h header) error {
	if h.walMode {
		if err := refuseNetworkFS(path, fileSystem); err != nil {
			return err
		}
	}
	_, _, err := besides(ctx, path)
	return err
}

func connect(ctx context.Context, path string, opts openOptions) (*conn, error) {
	connector, err := newConnector(dsn(path, opts), opts.driver)
	if err != nil {
		return nil, err
	}
	c := &conn{path: path, pool: sql.OpenDB(connector)}
	c.pool.SetMaxOpenConns(1)
	if c.sql, err = c.pool.Conn(ctx); err != nil {
		return nil, errors.Join(err, c.pool.Close())
	}
	var version string
	var cookie int64
	err = c.row(ctx, "SELECT sqlite_version()", &version)
	if err == nil {
		err = checkVersion(version)
	}
	if err == nil {
		err = c.row(ctx, "PRAGMA schema_version", &cookie) // takes the read lock: recovery happens here
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// dsn builds the URI. Every byte of the path that could mean something else is escaped.
func dsn(path string, opts openOptions) string {
	mode := "rw"
	if opts.readOnly {
		mode = "ro"
	}
	defensive := 1
	if opts.bare {
		defensive = 0
	}
	return fmt.Sprintf("file://%s?mode=%s&_defensive=%d&_error_rc=1&_busy_timeout=%d"+
		"&_pragma=trusted_schema(0)&_pragma=cell_size_check(1)&_pragma=mmap_size(0)",
		escapePath(path), mode, defensive, opts.wait.Milliseconds())
}

func escapePath(path string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/"
	var b strings.Builder
	if !strings.HasPrefix(path, "/") {
		b.WriteByte('/') // C:\x becomes /C:\x, which is how SQLite wants a drive in a URI
	}
	for i := range len(path) {
		if c := path[i]; strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// driverConnector opens the connections of one DSN with a driver of our own.
type driverConnector struct {
	driver *sqlite.Driver
	dsn    string
}

func (c driverConnector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c driverConnector) Driver() driver.Driver                        { return c.driver }

func newConnector(dsn string, d *sqlite.Driver) (driver.Connector, error) {
	if d != nil {
		return driverConnector{d, dsn}, nil
	}
	return sqlite.NewConnector(dsn)
}

// checkVersion refuses an SQLite older than minSQLite.
func checkVersion(version string) error {
	var have, want [3]int
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &have[0], &have[1], &have[2]); err != nil {
		return fmt.Errorf("SQLite calls itself version %q: %w", version, ErrUnsupported)
	}
	_, _ = fmt.Sscanf(minSQLite, "%d.%d.%d", &want[0], &want[1], &want[2])
	for i := range have {
		if have[i] != want[i] {
			if have[i] < want[i] {
				return fmt.Errorf("SQLite %s is linked: before %s it corrupts databases in WAL mode: %w", version, minSQLite, ErrUnsupported)
			}
			return nil
		}
	}
	return nil
}

func (c *conn) exec(ctx context.Context, query string, args ...any) error {
	_, err := c.sql.ExecContext(ctx, query, args...)
	return classify(err)
}

// patience sets how long a statement waits for a lock.
func (c *conn) patience(ctx context.Context, wait time.Duration) error {
	return c.exec(ctx, fmt.Sprintf("PRAGMA busy_timeout=%d", wait.Milliseconds()))
}

// row reads the one row of a query. The whole statement ends when ctx does.
func (c *conn) row(ctx context.Context, query string, dest ...any) error {
	return classify(c.sql.QueryRowContext(ctx, query).Scan(dest...))
}

// each calls f for every row of a query, with a function that scans it.
func (c *conn) each(ctx context.Context, query string, args []any, f func(scan func(dest ...any) error) error) error {
	rows, err := c.sql.QueryContext(ctx, query, args...)
	if err != nil {
		return classify(err)
	}
	defer func() { _ = rows.Close() }() // Err has told of what went wrong
	for err == nil && rows.Next() {
		err = f(rows.Scan)
	}
	return classify(cmp.Or(err, rows.Err()))
}

// raw hands out the driver's connection.
func (c *conn) raw(f func(driverConn any) error) error { return classify(c.sql.Raw(f)) }

// read runs f inside one read transaction. The transaction never writes; it ends in a rollback, whatever becomes of ctx.
func (c *conn) read(ctx context.Context, f func() error) error {
	// Nothing to lose, and close ends it anyway. Also after an error: a BEGIN that is cancelled may have begun.
	defer func() { _ = c.exec(context.WithoutCancel(ctx), "ROLLBACK") }()
	if err := c.exec(ctx, "BEGIN"); err != nil {
		return err
	}
	return f()
}

// close closes the connection: its locks are gone when it returns.
func (c *conn) close() error {
	err := errors.Join(c.sql.Close(), c.pool.Close())
	c.main.close() // after the connection
	return err
}

// quote makes an SQL identifier of any name.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
