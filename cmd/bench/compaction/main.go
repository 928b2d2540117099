// Command compaction measures what a compaction costs the users of a table: a writer offers a steady stream of writes and a
// reader reads, while the table is compacted in each way there is. It prints the section of docs/performance.md.
//
//	go run ./cmd/bench/compaction -sizes 40,1000
//	go run ./cmd/bench/compaction -sizes 1000 -ways online -rounds 5 -profile /tmp/profile
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

	"tablekeeper/cmd/bench/peak"
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
	only := flags.String("ways", strings.Join(ways, ","), "which `ways` to measure")
	each := flags.Int("nine", 40, "`megabytes` of each of the nine tables that a scheduled run compacts; 0: none")
	rounds := flags.Int("rounds", 1, "how often to measure each")
	profile := flags.String("profile", "", "write a CPU profile of each compaction to `FILE`-way, and an execution trace to FILE-way.trace")
	one := flags.String("way", "", "only measure this way on -table, and print JSON (for the program itself)")
	path := flags.String("table", "", "see -way")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	var err error
	if *one != "" {
		err = measureOne(ctx, *one, *path, *profile, stdout)
	} else {
		b := bench{dir: *dir, ways: strings.Split(*only, ","), rounds: *rounds, profile: *profile, stdout: stdout, progress: stderr}
		err = b.all(ctx, strings.Split(*sizes, ","), *each)
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
	MaxIn     string  `json:"max_in"` // the phase of the compaction in which that write began
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

// bench is what was asked for.
type bench struct {
	dir, profile     string
	ways             []string
	rounds           int
	stdout, progress io.Writer
}

func (b *bench) all(ctx context.Context, sizes []string, each int) error {
	if _, err := exec.LookPath("sqlite3"); err != nil {
		return fmt.Errorf("the sqlite3 shell is the peer and is not installed: try make setup: %w", err)
	}
	work, err := os.MkdirTemp(b.dir, "tablekeeper-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }() // temporary
	fmt.Fprintf(b.stdout, "%s/%s, %d cores, %s, %s; load average before: %s\n\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(),
		time.Now().UTC().Format(time.DateOnly), load())
	for _, word := range sizes {
		size, err := strconv.Atoi(word)
		if err != nil {
			return fmt.Errorf("-sizes: %w", err)
		}
		if size <= 0 {
			continue
		}
		if err := b.size(ctx, filepath.Join(work, word), size); err != nil {
			return err
		}
	}
	if each <= 0 {
		return nil
	}
	return b.nine(ctx, each)
}

func load() string {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(content))[:1], "")
}

func (b *bench) size(ctx context.Context, dir string, size int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	peer, err := b.shellVacuum(ctx, dir, size)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.stdout, "%d MB, half of it free; the sqlite3 shell's VACUUM, alone: %.2f s\n\n", size, peer.Seconds())
	fmt.Fprintln(b.stdout, "| way | write p50 | p99 | max, in | p99, max without | of the writes | longest read | cut | wall | wall / shell | memory | result |\n|---|---|---|---|---|---|---|---|---|---|---|---|")
	for range b.rounds {
		for _, way := range b.ways {
			fmt.Fprintf(b.progress, "%d MB, %s\n", size, way)
			m, err := b.inChild(ctx, dir, size, way)
			if err != nil {
				return err
			}
			m.print(b.stdout, peer)
		}
	}
	fmt.Fprintln(b.stdout)
	return os.RemoveAll(dir)
}

func (m *measured) print(w io.Writer, peer time.Duration) {
	fmt.Fprintf(w, "| %s | %s | %s | %s | %s, %s | %.0f %% | %s | %s | %.2f s | %.2f | %d MiB | %s, %d -> %d MB |\n", m.Way, ms(m.P50), ms(m.P99),
		strings.TrimSpace(ms(m.Max)+" "+m.MaxIn), ms(m.IdleP99), ms(m.IdleMax), 100*m.Share, ms(m.ReadMax), ms(m.CutUS), float64(m.WallUS)/1e6,
		float64(m.WallUS)/1e6/peer.Seconds(), m.Memory>>20, m.Status, m.BytesThen/1e6, m.BytesNow/1e6)
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

func (b *bench) shellVacuum(ctx context.Context, dir string, size int) (time.Duration, error) {
	fmt.Fprintf(b.progress, "%d MB, the shell\n", size)
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

func (b *bench) inChild(ctx context.Context, dir string, size int, way string) (m measured, err error) {
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
	cmd := exec.CommandContext(ctx, self, "-way", way, "-table", path, "-profile", b.profile)
	cmd.Stderr = b.progress
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &m)
	}
	if err != nil {
		return m, fmt.Errorf("%s: %w", way, err)
	}
	m.Memory = peak.Memory(cmd.ProcessState)
	return m, clearAway(path)
}

func measureOne(ctx context.Context, way, path, profile string, stdout io.Writer) error {
	m, err := measure(ctx, way, path, profile)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(m)
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
