// Package privatedb opens the small databases that the program keeps for itself: tokens, and what is to be told. They hold secrets, so
// nobody else may read their files. The tables of others are for storage/table.
package privatedb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver
)

// Schema is the SQL that makes what is missing and leaves alone what is there, and its version.
type Schema struct {
	SQL     string
	Version int
}

// Open opens a file, or makes it in a folder that must exist, with mode 0600. Several processes may have it open. pragmas come on top of
// WAL: "synchronous(FULL)". A file whose schema is newer is refused.
func Open(ctx context.Context, path string, schema Schema, pragmas ...string) (*sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(file.Chmod(0o600), file.Close()); err != nil {
		return nil, err
	}
	query := url.Values{"_txlock": {"immediate"}, "_pragma": append([]string{"busy_timeout(10000)", "journal_mode(WAL)"}, pragmas...)}
	name := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if err := schema.define(ctx, db); err != nil {
		return nil, fmt.Errorf("%s: %w", path, errors.Join(err, db.Close()))
	}
	return db, nil
}

func (s Schema) define(ctx context.Context, db *sql.DB) error {
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > s.Version {
		return fmt.Errorf("it is of a newer tablekeeper (version %d, this one knows %d)", version, s.Version)
	}
	_, err := db.ExecContext(ctx, s.SQL+fmt.Sprintf(";PRAGMA user_version = %d", s.Version))
	return err
}
