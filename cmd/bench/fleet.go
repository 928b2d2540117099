package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// row is one figure of a fleet: what was done, and what it cost.
type row struct {
	What   string  `json:"what"`
	WallMS int64   `json:"wall_ms,omitempty"`
	CPU    float64 `json:"cpu,omitempty"` // of one core
	Memory int64   `json:"memory,omitempty"`
	Note   string  `json:"note,omitempty"`
}

func runFleet(ctx context.Context, dir string, tables, streams, rounds int, asJSON bool, stdout, stderr io.Writer) int {
	rows, err := measureFleet(ctx, dir, tables, streams, rounds, stderr)
	if err == nil && asJSON {
		err = json.NewEncoder(stdout).Encode(rows)
	} else if err == nil {
		printFleet(stdout, rows, tables, rounds)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}

// measureFleet measures what is done to many small tables: by the command, and, if streams > 0, by a service with so many browsers.
func measureFleet(ctx context.Context, dir string, tables, streams, rounds int, progress io.Writer) (rows []row, err error) {
	work, err := os.MkdirTemp(dir, "tablekeeper-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	b := &bench{dir: work, rounds: rounds, progress: progress}
	if err := b.prepareFleet(ctx, tables); err != nil {
		return nil, err
	}
	keeper := []string{b.path("tablekeeper"), "--quiet", "--tables", b.path("tables"), "--bucket", "file://" + b.path("bucket")}
	for _, job := range []struct {
		what string
		args []string
	}{
		{"`backup --all`, the first", []string{"backup", "--all"}},
		{"`backup --all`, all unchanged", []string{"backup", "--all"}},
		{"`status`", []string{"status"}},
	} {
		times := rounds
		if len(rows) == 0 {
			times = 1 // there is only one first
		}
		var all []usage
		for range times {
			fmt.Fprintf(progress, "%s, round %d of %d\n", job.what, len(all)+1, times)
			u, err := spend(ctx, keeper[0], append(keeper[1:len(keeper):len(keeper)], job.args...)...)
			if err != nil {
				return rows, err
			}
			all = append(all, u)
		}
		middle := median(all)
		rows = append(rows, row{What: job.what, WallMS: middle.wall.Milliseconds(), Memory: middle.memory})
	}
	if streams == 0 {
		return rows, nil
	}
	served, err := b.measureStreams(ctx, tables, streams)
	return append(rows, served...), err
}

// prepareFleet builds the program and makes tables of about 150 KB each.
func (b *bench) prepareFleet(ctx context.Context, tables int) error {
	fmt.Fprintf(b.progress, "making %d tables\n", tables)
	if _, err := spend(ctx, "go", "build", "-o", b.path("tablekeeper"), "./cmd/tablekeeper"); err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(b.path("tables"), 0o755), os.MkdirAll(b.path("bucket"), 0o755)); err != nil {
		return err
	}
	const script = `PRAGMA journal_mode=WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, noise BLOB);
INSERT INTO t SELECT value, 'name of row '||value, randomblob(200) FROM generate_series(1, 500); CREATE INDEX t_name ON t (name); PRAGMA wal_checkpoint(TRUNCATE);`
	if _, err := spend(ctx, "sqlite3", b.path("original.db"), script); err != nil {
		return err
	}
	for i := range tables {
		if err := copyPlain(b.path("original.db"), filepath.Join(b.path("tables"), fmt.Sprintf("table-%04d.db", i))); err != nil {
			return err
		}
	}
	return nil
}

func copyPlain(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}

func printFleet(w io.Writer, rows []row, tables, rounds int) {
	fmt.Fprintf(w, "%d tables; median of %d rounds; %s/%s, %d cores, %s, %s\n\n", tables, rounds, runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(),
		time.Now().UTC().Format(time.DateOnly))
	fmt.Fprintln(w, "| what | wall | CPU, of one core | memory | |\n|---|---|---|---|---|")
	for _, r := range rows {
		wall, cpu := "", ""
		if r.WallMS > 0 {
			wall = fmt.Sprintf("%.2f s", float64(r.WallMS)/1000)
		}
		if strings.HasPrefix(r.What, "service") {
			cpu = fmt.Sprintf("%.1f %%", 100*r.CPU)
		}
		fmt.Fprintf(w, "| %s | %s | %s | %d MiB | %s |\n", r.What, wall, cpu, r.Memory>>20, r.Note)
	}
}
