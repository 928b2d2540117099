package table

import (
	"context"
	"path/filepath"
	"testing"
	"time"
)

// benchRowCount rows are 240 MB, half of them free.
const benchRowCount = 200_000

func benchTable(b *testing.B, setup string) string {
	path := filepath.Join(b.TempDir(), "a.db")
	bulk(b, path, setup, benchRowCount)
	b.SetBytes(mustStat(b, path).Bytes)
	b.ResetTimer()
	return path
}

func BenchmarkSnapshotPages(b *testing.B) {
	path := benchTable(b, "PRAGMA journal_mode=WAL;")
	err := TakeSnapshot(b.Context(), path, SnapshotOptions{SkipCheck: true}, func(ctx context.Context, s *Snapshot) error {
		b.ReportAllocs()
		b.SetBytes(s.Stats().UsedBytes())
		b.ResetTimer()
		for b.Loop() {
			for _, err := range s.Pages(ctx) {
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	must(b, err)
}

// BenchmarkCheck compares the proof, on one processor, with SQLite's own check in the same driver.
func BenchmarkCheck(b *testing.B) {
	path := filepath.Join(b.TempDir(), "a.db")
	bulk(b, path, "PRAGMA journal_mode=WAL;", benchRowCount)
	shell(b, path, "ALTER TABLE item ADD COLUMN name TEXT;",
		"UPDATE item SET name = 'name of ' || (id * 7919 % 1000003); CREATE INDEX item_name ON item(name);")
	for name, opts := range map[string]CheckOptions{"proof": {alone: true}, "sqlite": {BySQLite: true}} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(mustStat(b, path).Bytes)
			for b.Loop() {
				r, err := Check(b.Context(), path, opts)
				if err != nil || !r.OK {
					b.Fatal(r.Problems, err)
				}
			}
		})
	}
}

func BenchmarkTraverse(b *testing.B) {
	path := benchTable(b, "PRAGMA journal_mode=WAL;")
	for b.Loop() {
		_, err := Check(b.Context(), path, CheckOptions{Quick: true, Traverse: true})
		must(b, err)
	}
}

func BenchmarkSnapshotOfCopy(b *testing.B) {
	path := benchTable(b, "")
	for b.Loop() {
		must(b, TakeSnapshot(b.Context(), path, SnapshotOptions{SkipCheck: true, MaxPause: time.Minute},
			func(context.Context, *Snapshot) error { return nil }))
	}
}

func BenchmarkStat(b *testing.B) {
	path := filepath.Join(b.TempDir(), "a.db")
	bulk(b, path, "PRAGMA journal_mode=WAL;", 100)
	for b.Loop() {
		mustStat(b, path)
	}
}

func BenchmarkReadToken(b *testing.B) {
	path := filepath.Join(b.TempDir(), "a.db")
	bulk(b, path, "PRAGMA journal_mode=WAL;", 100)
	for b.Loop() {
		_, err := ReadToken(path)
		must(b, err)
	}
}

func benchCompact(b *testing.B, setup string) {
	for b.Loop() {
		b.StopTimer()
		path := filepath.Join(b.TempDir(), "a.db")
		bulk(b, path, setup, benchRowCount)
		b.StartTimer()
		r, err := Compact(b.Context(), path, unhurried)
		must(b, err)
		b.ReportMetric(float64(r.BlockedMS), "blocked-ms")
		b.ReportMetric(float64(r.PredictedPauseMS), "predicted-ms")
	}
}

func BenchmarkVacuumWAL(b *testing.B) { benchCompact(b, "PRAGMA journal_mode=WAL;") }
func BenchmarkVacuum(b *testing.B)    { benchCompact(b, "") }
func BenchmarkSlicesWAL(b *testing.B) {
	benchCompact(b, "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL;")
}

func BenchmarkShellVacuum(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		path := filepath.Join(b.TempDir(), "a.db")
		bulk(b, path, "PRAGMA journal_mode=WAL;", benchRowCount)
		b.StartTimer()
		shell(b, path, "VACUUM;")
	}
}
