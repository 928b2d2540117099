package table

import (
	"context"
	"database/sql"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// plain is database/sql with the pragmas of an owned table, checkpointing as SQLite does by itself.
func plain(b *testing.B, path string) (writer, readers *sql.DB) {
	const pragmas = "&_pragma=journal_mode(wal)&_pragma=synchronous(full)"
	base := dsn(path, openOptions{wait: 5 * time.Second})
	base = "file:" + path + "?" + base[len("file://"+escapePath(path)+"?mode=rw&"):] + pragmas
	var err error
	if writer, err = sql.Open("sqlite", base+"&_txlock=immediate"); err != nil {
		b.Fatal(err)
	}
	writer.SetMaxOpenConns(1)
	if readers, err = sql.Open("sqlite", base+"&_query_only=1"); err != nil {
		b.Fatal(err)
	}
	readers.SetMaxOpenConns(4)
	readers.SetMaxIdleConns(4)
	b.Cleanup(func() { _, _ = readers.Close(), writer.Close() })
	return writer, readers
}

// compareBoth runs two ways to do the same in turns, and reports how much longer the second takes: the median over the turns.
func compareBoth(b *testing.B, ops int, base, owned func(n int) error) {
	measure := func(f func(int) error, n int) time.Duration {
		start := time.Now()
		for i := range ops {
			if err := f(n*ops + i); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(start)
	}
	var ratios, bases []float64
	for n := 0; b.Loop(); n++ {
		first, second := base, owned
		if n%2 == 1 {
			first, second = owned, base
		}
		x, y := measure(first, n), measure(second, n)
		if n%2 == 1 {
			x, y = y, x
		}
		ratios, bases = append(ratios, float64(y)/float64(x)), append(bases, float64(x.Nanoseconds())/float64(ops))
	}
	slices.Sort(ratios)
	slices.Sort(bases)
	b.ReportMetric(ratios[len(ratios)/2], "owned/plain")
	b.ReportMetric(bases[len(bases)/2], "plain-ns/op")
	b.ReportMetric(0, "ns/op")
}

const benchSchema = "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, v BLOB)"

const benchRows = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 20000) INSERT INTO t(v) SELECT randomblob(200) FROM c"

func benchTables(b *testing.B) (writer, readers *sql.DB, table *Table) {
	dir := b.TempDir()
	writer, readers = plain(b, filepath.Join(dir, "plain.db"))
	table, err := Open(b.Context(), filepath.Join(dir, "owned.db"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := table.Close(); err != nil {
			b.Error(err)
		}
	})
	for _, statement := range []string{benchSchema, benchRows} {
		if _, err := writer.ExecContext(b.Context(), statement); err != nil {
			b.Fatal(err)
		}
		if err := table.Write(b.Context(), func(tx *sql.Tx) error { _, err := tx.ExecContext(b.Context(), statement); return err }); err != nil {
			b.Fatal(err)
		}
	}
	return writer, readers, table
}

// BenchmarkOwnedRead: a point query, in a transaction, on both sides. The bound is 1.05.
func BenchmarkOwnedRead(b *testing.B) {
	writer, readers, table := benchTables(b)
	if _, err := writer.ExecContext(b.Context(), "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		b.Fatal(err)
	}
	if _, err := table.Checkpoint(b.Context()); err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	query := func(n int) func(tx *sql.Tx) error {
		return func(tx *sql.Tx) error {
			var v []byte
			return tx.QueryRowContext(ctx, "SELECT v FROM t WHERE id = ?", n*7919%20000+1).Scan(&v)
		}
	}
	compareBoth(b, 500,
		func(n int) error { return inTx(ctx, readers, &sql.TxOptions{ReadOnly: true}, query(n)) },
		func(n int) error { return table.Read(ctx, query(n)) })
}

// BenchmarkOwnedWrite: transactions, with checkpoints and the ledger. The bound is 1.05.
func BenchmarkOwnedWrite(b *testing.B) {
	for _, tc := range []struct {
		name string
		rows int
	}{{"1row", 1}, {"100rows", 100}} {
		b.Run(tc.name, func(b *testing.B) {
			writer, _, table := benchTables(b)
			ctx := context.Background()
			change := func(n int) func(tx *sql.Tx) error {
				return func(tx *sql.Tx) error {
					for i := range tc.rows {
						if _, err := tx.ExecContext(ctx, "UPDATE t SET v = randomblob(200) WHERE id = ?", (n*tc.rows+i)*7919%20000+1); err != nil {
							return err
						}
					}
					return nil
				}
			}
			compareBoth(b, 4000/(tc.rows+3),
				func(n int) error { return inTx(ctx, writer, nil, change(n)) },
				func(n int) error { return table.Write(ctx, change(n)) })
		})
	}
}

// BenchmarkLedgerShare: what the ledger does for a checkpoint, as a share of the time that the writes before it took. Most of
// it is done while other writes go on, so that BenchmarkOwnedWrite is what counts.
func BenchmarkLedgerShare(b *testing.B) {
	for _, tc := range []struct {
		name string
		rows int
	}{{"1row", 1}, {"100rows", 100}} {
		b.Run(tc.name, func(b *testing.B) {
			table, err := Open(b.Context(), filepath.Join(b.TempDir(), "owned.db"), Options{CheckpointBytes: 1 << 40, Idle: time.Hour, ProbeEvery: -1})
			must(b, err)
			write := func(fn func(tx *sql.Tx) error) { must(b, table.Write(b.Context(), fn)) }
			for _, statement := range []string{benchSchema, benchRows} {
				write(func(tx *sql.Tx) error { _, err := tx.ExecContext(b.Context(), statement); return err })
			}
			var shares []float64
			n := 0
			for b.Loop() {
				_, err := table.Checkpoint(b.Context())
				must(b, err)
				start := time.Now()
				for range 1000 / tc.rows {
					write(func(tx *sql.Tx) (err error) {
						for range tc.rows {
							n++
							_, err = tx.ExecContext(context.Background(), "UPDATE t SET v = randomblob(200) WHERE id = ?", n*7919%20000+1)
						}
						return err
					})
				}
				writes := time.Since(start)
				shares = append(shares, float64(timeLedger(b, table))/float64(writes))
			}
			slices.Sort(shares)
			b.ReportMetric(shares[len(shares)/2], "ledger/writes")
			b.ReportMetric(0, "ns/op")
			must(b, table.Close())
		})
	}
}

func timeLedger(b *testing.B, table *Table) time.Duration {
	s := table.gate.current()
	s.mu.Lock()
	defer s.mu.Unlock()
	start := time.Now()
	_, err := s.advance(context.Background(), true)
	must(b, err)
	return time.Since(start)
}
