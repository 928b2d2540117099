package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
)

// demoTables are the tables of the demo.
var demoTables = []string{"articles", "metrics", busy, victim}

// count is a series of numbers 1 to n, in SQL.
const count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) "

// demoSQL makes each of them: with a full-text index, without rowid, in WAL mode with a writer to come, and with most of it deleted.
var demoSQL = map[string][]string{
	"articles": {
		"CREATE TABLE article(id INTEGER PRIMARY KEY, title TEXT, body TEXT)",
		"CREATE VIRTUAL TABLE search USING fts5(title, body)",
		fmt.Sprintf(count, 1500) + "INSERT INTO article SELECT i, 'Article ' || i, hex(randomblob(300)) FROM n",
		"INSERT INTO search SELECT title, body FROM article",
	},
	"metrics": {
		"CREATE TABLE metric(name TEXT, at INTEGER, value REAL, PRIMARY KEY(name, at)) WITHOUT ROWID",
		fmt.Sprintf(count, 40000) + "INSERT INTO metric SELECT 'sensor-' || (i % 20), i, (i * 7919 % 1000) / 10.0 FROM n",
	},
	busy: {
		"PRAGMA journal_mode=WAL",
		"CREATE TABLE purchase(id INTEGER PRIMARY KEY, customer TEXT, amount INTEGER, note BLOB)",
		"CREATE INDEX by_customer ON purchase(customer)",
		"CREATE TABLE live(id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT)",
		fmt.Sprintf(count, 20000) + "INSERT INTO purchase SELECT i, 'customer ' || (i * 7919 % 500), i % 1000, randomblob(200) FROM n",
		"DELETE FROM purchase WHERE id < 5000",
	},
	victim: {
		"PRAGMA journal_mode=WAL",
		"CREATE TABLE session(token TEXT PRIMARY KEY, data BLOB)",
		fmt.Sprintf(count, 30000) + "INSERT INTO session SELECT printf('%064x', i), randomblob(400) FROM n",
		"DELETE FROM session WHERE rowid > 9000",
		"PRAGMA wal_checkpoint(TRUNCATE)",
	},
}

func makeDemoTables(ctx context.Context, path func(string) string) error {
	for _, table := range demoTables {
		if err := makeDemoTable(ctx, path(table), demoSQL[table]); err != nil {
			return fmt.Errorf("make %s: %w", table, err)
		}
	}
	return nil
}

func makeDemoTable(ctx context.Context, path string, statements []string) error {
	db, err := openSQL(path)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// openSQL opens one connection to a table of our own making.
func openSQL(path string) (*sql.DB, error) {
	address := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: "_pragma=busy_timeout(10000)"}
	db, err := sql.Open("sqlite", address.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// fingerprint is the content of the table that gets lost.
type fingerprint struct {
	rows int64
	sum  [sha256.Size]byte
}

func takeFingerprint(ctx context.Context, path string) (f fingerprint, err error) {
	db, err := openSQL(path)
	if err != nil {
		return f, err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, "SELECT token, data FROM session ORDER BY token")
	if err != nil {
		return f, err
	}
	defer rows.Close()
	h := sha256.New()
	for rows.Next() {
		var token string
		var data []byte
		if err := rows.Scan(&token, &data); err != nil {
			return f, err
		}
		fmt.Fprintf(h, "%d %s %d ", len(token), token, len(data))
		h.Write(data)
		f.rows++
	}
	h.Sum(f.sum[:0])
	return f, rows.Err()
}

func countWrites(ctx context.Context, path string) (n int64, err error) {
	err = ask(ctx, path, "SELECT count(*) FROM live", &n)
	return n, err
}

func checkIntegrity(ctx context.Context, path string) error {
	var verdict string
	if err := ask(ctx, path, "PRAGMA integrity_check", &verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("integrity_check of %s: %s", filepath.Base(path), verdict)
	}
	return nil
}

func ask(ctx context.Context, path, query string, answer any) error {
	db, err := openSQL(path)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.QueryRowContext(ctx, query).Scan(answer); err != nil {
		return fmt.Errorf("%s: %s: %w", filepath.Base(path), query, err)
	}
	return nil
}
