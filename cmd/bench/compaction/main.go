// Command compaction measures what a compaction costs the users of a table: a writer offers a steady stream of writes and a
// reader reads, while the table is compacted in each way there is. It prints the section of docs/performance.md.
//
//	go run ./cmd/bench/compaction -sizes 40,1000
//
// Each way runs in a process of its own, on a fresh copy of the same table, half of whose pages are free. The peer is the
// VACUUM of the sqlite3 shell, on such a copy that nobody uses.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("compaction", flag.ContinueOnError)
	flags.SetOutput(stderr)
	sizes := flags.String("sizes", "40,1000", "sizes of the tables in `megabytes`; 10000 takes an hour and 40 GB")
	dir := flags.String("dir", "", "where to work (default: a new temporary folder)")
	one := flags.String("way", "", "only measure this way on -table, and print JSON (for the program itself)")
	path := flags.String("table", "", "see -way")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	var err error
	if *one != "" {
		var m measured
		if m, err = measure(ctx, *one, *path); err == nil {
			err = json.NewEncoder(stdout).Encode(m)
		}
	} else {
		err = compareAll(ctx, *dir, strings.Split(*sizes, ","), stdout, stderr)
	}
	if err != nil {
		fmt.Fprintln(stderr, "compaction:", err)
		return 1
	}
	return 0
}

// measured is what one way did. Times are in microseconds.
type measured struct {
	Way       string  `json:"way"`
	WallUS    int64   `json:"wall_us"`
	P50       int64   `json:"p50"`
	P99       int64   `json:"p99"`
	Max       int64   `json:"max"`
	Writes    int     `json:"writes"`
	Share     float64 `json:"share"` // of the write throughput without a compaction
	ReadMax   int64   `json:"read_max"`
	CutUS     int64   `json:"cut_us"`
	HeldMS    int64   `json:"held_ms"` // what the report says
	Disk      int64   `json:"disk"`
	Memory    int64   `json:"memory"`
	Status    string  `json:"status"`
	IdleP99   int64   `json:"idle_p99"` // of writes without a compaction
	IdleMax   int64   `json:"idle_max"`
	BytesNow  int64   `json:"bytes_now"`
	BytesThen int64   `json:"bytes_then"`
}

func compareAll(ctx context.Context, dir string, sizes []string, stdout, progress io.Writer) error {
	if _, err := exec.LookPath("sqlite3"); err != nil {
		return fmt.Errorf("the sqlite3 shell is the peer and is not installed: try make setup: %w", err)
	}
	work, err := os.MkdirTemp(dir, "tablekeeper-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }() // temporary
	fmt.Fprintf(stdout, "%s/%s, %d cores, %s, %s; load average before: %s\n\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(),
		time.Now().UTC().Format(time.DateOnly), load())
	for _, word := range sizes {
		size, err := strconv.Atoi(word)
		if err != nil {
			return fmt.Errorf("-sizes: %w", err)
		}
		if err := compareSize(ctx, filepath.Join(work, word), size, stdout, progress); err != nil {
			return err
		}
	}
	return nil
}

func load() string {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(content))[:1], "")
}

func compareSize(ctx context.Context, dir string, size int, stdout, progress io.Writer) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	peer, err := shellVacuum(ctx, dir, size, progress)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%d MB, half of it free; the sqlite3 shell's VACUUM, alone: %.2f s\n\n", size, peer.Seconds())
	fmt.Fprintln(stdout, "| way | write p50 | p99 | max | p99, max without | of the writes | longest read | cut | wall | wall / shell | memory | result |\n|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, way := range ways {
		fmt.Fprintf(progress, "%d MB, %s\n", size, way)
		m, err := inChild(ctx, dir, size, way)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "| %s | %s | %s | %s | %s, %s | %.0f %% | %s | %s | %.2f s | %.2f | %d MiB | %s, %d -> %d MB |\n", way, ms(m.P50), ms(m.P99), ms(m.Max),
			ms(m.IdleP99), ms(m.IdleMax), 100*m.Share, ms(m.ReadMax), ms(m.CutUS), float64(m.WallUS)/1e6, float64(m.WallUS)/1e6/peer.Seconds(), m.Memory>>20, m.Status, m.BytesThen/1e6, m.BytesNow/1e6)
	}
	fmt.Fprintln(stdout)
	return os.RemoveAll(dir)
}

func ms(us int64) string {
	if us == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", float64(us)/1000)
}

// make builds the table: rows of about 1 KB; every other hundred is deleted.
func makeTable(ctx context.Context, path string, size int, setup string) error {
	rows := size * 1000
	script := fmt.Sprintf(`%s PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;
CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, v BLOB);
INSERT INTO t SELECT value, 'name of row '||value, randomblob(900) FROM generate_series(1, %d);
CREATE INDEX t_name ON t(name);
DELETE FROM t WHERE id / 100 %% 2 = 0;
PRAGMA wal_checkpoint(TRUNCATE);`, setup, rows)
	if out, err := exec.CommandContext(ctx, "sqlite3", path, script).CombinedOutput(); err != nil {
		return fmt.Errorf("make the table: %w: %s", err, out)
	}
	return exec.CommandContext(ctx, "sync", path).Run()
}

func shellVacuum(ctx context.Context, dir string, size int, progress io.Writer) (time.Duration, error) {
	fmt.Fprintf(progress, "%d MB, the shell\n", size)
	path := filepath.Join(dir, "t.db")
	if err := makeTable(ctx, path, size, ""); err != nil {
		return 0, err
	}
	start := time.Now()
	if out, err := exec.CommandContext(ctx, "sqlite3", path, "VACUUM; PRAGMA wal_checkpoint(TRUNCATE);").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("VACUUM: %w: %s", err, out)
	}
	took := time.Since(start)
	return took, clearAway(path)
}

func clearAway(path string) error {
	return errors.Join(os.RemoveAll(path), os.RemoveAll(path+"-wal"), os.RemoveAll(path+"-shm"), os.RemoveAll(filepath.Join(filepath.Dir(path), ".tablekeeper")))
}

func inChild(ctx context.Context, dir string, size int, way string) (m measured, err error) {
	path := filepath.Join(dir, "t.db")
	setup := ""
	if way == "slices" {
		setup = "PRAGMA auto_vacuum=INCREMENTAL;"
	}
	if err := makeTable(ctx, path, size, setup); err != nil {
		return m, err
	}
	self, err := os.Executable()
	if err != nil {
		return m, err
	}
	cmd := exec.CommandContext(ctx, self, "-way", way, "-table", path)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &m)
	}
	if err != nil {
		return m, fmt.Errorf("%s: %w", way, err)
	}
	m.Memory = peakMemory(cmd.ProcessState)
	return m, clearAway(path)
}

// quantiles of latencies, in microseconds.
func quantiles(all []time.Duration) (p50, p99, longest int64) {
	if len(all) == 0 {
		return 0, 0, 0
	}
	slices.Sort(all)
	at := func(q float64) int64 { return all[min(len(all)-1, int(q*float64(len(all))))].Microseconds() }
	return at(0.5), at(0.99), all[len(all)-1].Microseconds()
}
