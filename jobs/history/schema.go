package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// applicationID marks the file as a tablekeeper history ("tkhi"), see sqlite.org/pragma.html#pragma_application_id.
const applicationID = 0x746b6869

// ErrNewer means that a newer tablekeeper wrote the history.
var ErrNewer = errors.New("the history was written by a newer tablekeeper")

// ErrForeign means that the file is a database of another program. It is left alone.
var ErrForeign = errors.New("the file is a database, but not a tablekeeper history")

// migrations lead from each version of the schema to the next; user_version counts them. Never change one that was
// released: append.
var migrations = []string{`
CREATE TABLE runs (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  function TEXT NOT NULL,
  job TEXT NOT NULL,
  trigger TEXT NOT NULL,
  actor TEXT NOT NULL,
  retry_of TEXT NOT NULL,
  key TEXT UNIQUE,
  event TEXT NOT NULL,
  status TEXT NOT NULL,
  reason TEXT NOT NULL,
  queued INTEGER NOT NULL,
  started INTEGER NOT NULL,
  ended INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  error TEXT NOT NULL,
  hint TEXT NOT NULL,
  tables INTEGER NOT NULL,
  done INTEGER NOT NULL,
  skipped INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  log_dropped INTEGER NOT NULL,
  owner TEXT NOT NULL
) STRICT;
CREATE INDEX runs_function ON runs (function, seq);
CREATE INDEX runs_open ON runs (owner) WHERE ended = 0;
CREATE TABLE entries (
  run INTEGER NOT NULL,
  n INTEGER NOT NULL,
  tbl TEXT NOT NULL,
  status TEXT NOT NULL,
  reason TEXT NOT NULL,
  duration_ms INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  report TEXT NOT NULL,
  PRIMARY KEY (run, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX entries_tbl ON entries (tbl, run);
CREATE TABLE latest (
  function TEXT NOT NULL,
  tbl TEXT NOT NULL,
  run INTEGER NOT NULL,
  n INTEGER NOT NULL,
  PRIMARY KEY (function, tbl)
) STRICT, WITHOUT ROWID;
CREATE TABLE phases (
  run INTEGER NOT NULL,
  n INTEGER NOT NULL,
  name TEXT NOT NULL,
  tbl TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  started INTEGER NOT NULL,
  duration_ms INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  PRIMARY KEY (run, n)
) STRICT, WITHOUT ROWID;
CREATE TABLE log (
  run INTEGER NOT NULL,
  n INTEGER NOT NULL,
  time INTEGER NOT NULL,
  level TEXT NOT NULL,
  tbl TEXT NOT NULL,
  message TEXT NOT NULL,
  attrs TEXT NOT NULL,
  PRIMARY KEY (run, n)
) STRICT, WITHOUT ROWID;
CREATE TABLE events (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  time INTEGER NOT NULL,
  body TEXT NOT NULL
) STRICT;
CREATE TABLE jobs (
  name TEXT PRIMARY KEY,
  slot INTEGER NOT NULL DEFAULT 0,
  paused INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
`}

// migrate brings the schema up to date. Several processes may do so at once: each step is one transaction that looks
// at the version again.
func migrate(ctx context.Context, db *sql.DB, now time.Time) error {
	for {
		version, err := versionOf(ctx, db)
		if err != nil || version == len(migrations) {
			return err
		}
		if err := migrateFrom(ctx, db, version, now); err != nil {
			return fmt.Errorf("migrate history from version %d: %w", version, err)
		}
	}
}

func versionOf(ctx context.Context, q interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}) (int, error) {
	var version, id, objects int
	err := q.QueryRowContext(ctx, `SELECT user_version, application_id, (SELECT count(*) FROM sqlite_schema) FROM pragma_user_version, pragma_application_id`).
		Scan(&version, &id, &objects)
	switch {
	case err != nil:
		return 0, err
	case id != applicationID && (objects > 0 || id != 0):
		return 0, ErrForeign
	case version > len(migrations):
		return 0, ErrNewer
	}
	return version, nil
}

func migrateFrom(ctx context.Context, db *sql.DB, version int, now time.Time) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if current, err := versionOf(ctx, tx); err != nil || current != version {
		return err
	}
	if _, err := tx.ExecContext(ctx, migrations[version]); err != nil {
		return err
	}
	if version == 0 {
		if err := seed(ctx, tx, now); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf(`PRAGMA user_version = %d`, version+1)); err != nil {
		return err
	}
	return tx.Commit()
}

// seed starts the numbers of a new file at the time in seconds: a history that was begun anew must not give out
// sequence numbers again, or a client that resumes would wait for ever.
func seed(ctx context.Context, tx *sql.Tx, now time.Time) error {
	for _, table := range []string{"events", "runs"} {
		if _, err := tx.ExecContext(ctx, `INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)`, table, now.Unix()); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, fmt.Sprintf(`PRAGMA application_id = %d`, applicationID))
	return err
}
