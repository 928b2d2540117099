package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// File is the usual name of a history in its state folder.
const File = "history.db"

// The default bounds of a history.
const (
	DefaultKeepRuns   = 10_000
	DefaultKeepEvents = 50_000
	DefaultKeepAge    = 90 * 24 * time.Hour
)

// Options of Open. Zero values are defaults.
type Options struct {
	Logger     *slog.Logger     // default: discards
	Now        func() time.Time // default time.Now
	KeepRuns   int              // newest runs that Prune keeps; default 10,000
	KeepEvents int              // newest events that Prune keeps; default 50,000
	KeepAge    time.Duration    // age beyond which Prune removes runs and events; default 90 days
}

// Store is an open history. Several processes may have one open at the same time. Safe for concurrent use.
type Store struct {
	path     string
	readOnly bool
	opts     Options

	write sync.Mutex // one writer at a time; others of this process wait here, not in SQLite

	mu     sync.RWMutex // guards what follows, against a file that is set aside while it is read
	db     *sql.DB      // nil: the file could not be opened anew
	file   os.FileInfo  // identity of the open file: another process may have set it aside
	owner  *owner
	closed bool
}

// Open opens the history at path for writing, or begins one; its folder must exist. A history that is damaged is renamed
// (history.db.corrupt-<time>) and a new one begun, which is told in the log as an error.
func Open(ctx context.Context, path string, opts Options) (*Store, error) {
	opts.fill()
	s := &Store{path: path, opts: opts}
	err := s.connect(ctx)
	if isCorrupt(err) {
		err = s.setAside(ctx, err)
	}
	if err != nil {
		_ = s.disconnect() // the error above is the one that counts
		return nil, fmt.Errorf("open history %s: %w", path, err)
	}
	return s, nil
}

// OpenReader opens a history that must exist, and never changes it.
func OpenReader(ctx context.Context, path string, opts Options) (*Store, error) {
	opts.fill()
	s := &Store{path: path, opts: opts, readOnly: true}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	if err := s.connect(ctx); err != nil {
		_ = s.disconnect() // the error above is the one that counts
		return nil, fmt.Errorf("open history %s to read: %w", path, err)
	}
	return s, nil
}

func (o *Options) fill() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.KeepRuns == 0 {
		o.KeepRuns = DefaultKeepRuns
	}
	if o.KeepEvents == 0 {
		o.KeepEvents = DefaultKeepEvents
	}
	if o.KeepAge == 0 {
		o.KeepAge = DefaultKeepAge
	}
}

// Path is where the history is.
func (s *Store) Path() string { return s.path }

// Close closes the history. Runs of this process that have not ended will be found as lost.
func (s *Store) Close() error {
	s.write.Lock()
	defer s.write.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	err := s.disconnect()
	if s.owner != nil {
		err = errors.Join(err, s.owner.release())
		s.owner = nil
	}
	return err
}

func (s *Store) connect(ctx context.Context) error {
	if info, err := os.Stat(s.path); !s.readOnly && (err != nil || info.Size() == 0) {
		if err := s.create(ctx); err != nil {
			return err
		}
	}
	db, err := sql.Open("sqlite", s.dsn())
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(4)
	s.db = db
	if s.readOnly {
		version, err := versionOf(ctx, db)
		if err == nil && version == 0 {
			err = ErrForeign
		}
		return err
	}
	if err := quickCheck(ctx, db); err != nil {
		return err
	}
	if err := migrate(ctx, db, s.opts.Now()); err != nil {
		return err
	}
	s.disown()
	s.file, err = os.Stat(s.path)
	return err
}

// create makes the file. auto_vacuum must be set before there is anything in it, and on an existing file it would take
// the write lock for nothing.
func (s *Store) create(ctx context.Context) error {
	db, err := sql.Open("sqlite", s.dsn("auto_vacuum(2)"))
	if err != nil {
		return err
	}
	return errors.Join(migrate(ctx, db, s.opts.Now()), db.Close())
}

func (s *Store) disconnect() error {
	if s.db == nil {
		return nil
	}
	err := s.db.Close()
	s.db = nil
	return err
}

func (s *Store) dsn(first ...string) string {
	path := s.path
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	q := url.Values{"_txlock": {"immediate"}}
	q["_pragma"] = append([]string{"busy_timeout(5000)"}, first...)
	q["_pragma"] = append(q["_pragma"], "journal_mode(WAL)", "synchronous(FULL)", "trusted_schema(0)", "cell_size_check(1)")
	if s.readOnly {
		q.Set("mode", "ro")
		q["_pragma"] = []string{"busy_timeout(5000)", "trusted_schema(0)"}
		if !s.sharable() {
			q.Set("immutable", "1")
		}
	}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: q.Encode()}
	return u.String()
}

// sharable reports whether SQLite can read the file beside a writer: it needs the -shm file, or to be able to make it.
// In a folder that nobody can write there is no writer, and the file can be read as it is.
func (s *Store) sharable() bool {
	if _, err := os.Stat(s.path + "-shm"); err == nil {
		return true
	}
	probe, err := os.CreateTemp(filepath.Dir(s.path), ".probe-*")
	if err != nil {
		return false
	}
	probe.Close()
	return os.Remove(probe.Name()) == nil
}

func quickCheck(ctx context.Context, db *sql.DB) error {
	var verdict string
	if err := db.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return &damage{verdict}
	}
	return nil
}

// damage is what quick_check found.
type damage struct{ verdict string }

func (d *damage) Error() string { return "history is damaged: " + d.verdict }

func isCorrupt(err error) bool {
	if _, ok := errors.AsType[*damage](err); ok {
		return true
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		code := e.Code() & 0xff
		return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
	}
	return false
}

// ErrReadOnly is a write to a history that was opened by OpenReader.
var ErrReadOnly = errors.New("the history is open for reading only")

var errClosed = errors.New("the history is closed")

var errAway = errors.New("the history could not be opened anew; the log says why")

// update runs f in one transaction. A history that turns out to be damaged is set aside and f runs again on a new one.
func (s *Store) update(ctx context.Context, f func(*sql.Tx) error) error {
	if s.readOnly {
		return ErrReadOnly
	}
	s.write.Lock()
	defer s.write.Unlock()
	err := s.follow(ctx)
	if err == nil {
		err = s.transaction(ctx, f)
	}
	if !isCorrupt(err) {
		return err
	}
	s.mu.Lock()
	err = s.setAside(ctx, err)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.transaction(ctx, f)
}

func (s *Store) transaction(ctx context.Context, f func(*sql.Tx) error) error {
	if s.db == nil {
		return errClosed
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// follow opens the file anew if another process has put a new one at its path: writing on into the old one would be
// writing for nobody. What could not be opened the last time, on a full disk or in a folder that was away, is tried again.
func (s *Store) follow(ctx context.Context) error {
	info, err := os.Stat(s.path)
	if s.db != nil && (err == nil && os.SameFile(info, s.file) || err != nil && !errors.Is(err, fs.ErrNotExist)) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	if s.db != nil {
		s.opts.Logger.Error("history was replaced behind our back; continuing in the file that is there now", "path", s.path)
	}
	if err := s.disconnect(); err != nil {
		s.opts.Logger.Warn("close replaced history", "path", s.path, "error", err)
	}
	if err := s.connect(ctx); err != nil {
		return fmt.Errorf("open replaced history %s: %w", s.path, err)
	}
	return nil
}

// view runs f with the database. It waits for no writer.
func (s *Store) view(f func(*sql.DB) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case s.closed:
		return errClosed
	case s.db == nil:
		return errAway
	}
	return f(s.db)
}
