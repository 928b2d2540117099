package privatedb

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

var schema = Schema{SQL: "CREATE TABLE IF NOT EXISTS note (text TEXT)", Version: 2}

func TestNobodyElseMayReadIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c%.db")
	if runtime.GOOS == "windows" {
		path = filepath.Join(t.TempDir(), "a b.db")
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is there
		db, err := Open(t.Context(), path, schema, "synchronous(FULL)", "foreign_keys(ON)")
		if err != nil {
			t.Fatal(err)
		}
		var mode string
		var synchronous, foreign, version, rows int
		for query, into := range map[string]any{
			"PRAGMA journal_mode": &mode, "PRAGMA synchronous": &synchronous, "PRAGMA foreign_keys": &foreign, "PRAGMA user_version": &version,
			"INSERT INTO note VALUES ('kept') RETURNING (SELECT count(*) FROM note)": &rows,
		} {
			if err := db.QueryRowContext(t.Context(), query).Scan(into); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
		}
		if mode != "wal" || synchronous != 2 || foreign != 1 || version != 2 {
			t.Errorf("journal_mode %s, synchronous %d, foreign_keys %d, user_version %d", mode, synchronous, foreign, version)
		}
		for _, name := range []string{path, path + "-wal"} {
			info, err := os.Stat(name)
			if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", name, info, err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestANewerFileIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db, err := Open(t.Context(), path, Schema{SQL: "CREATE TABLE other (text TEXT)", Version: 3})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, schema); err == nil || !strings.Contains(err.Error(), "a.db: it is of a newer tablekeeper (version 3, this one knows 2)") {
		t.Errorf("error %v", err)
	}
	if is, err := os.ReadFile(path); err != nil || string(is) != string(was) {
		t.Errorf("the file has changed, %v", err)
	}
}

func TestTheFolderMustExist(t *testing.T) {
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "missing", "a.db"), schema); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
