// Command bench measures what docs/performance.md states: each job against a named peer, both in the same run on the same
// file, as the median of several rounds. It needs the sqlite3 shell and zstd.
//
//	go run ./cmd/bench -size 1000 -rounds 3
//	go run ./cmd/bench -tables 1000 -streams 50
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
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	size := flags.Int("size", 1000, "`megabytes` of the table, half of them free pages")
	rounds := flags.Int("rounds", 3, "how often each is measured; the median counts")
	only := flags.String("jobs", "", "measure only the `JOBS` whose name contains this: backup, restore, compact")
	asJSON := flags.Bool("json", false, "print JSON instead of a Markdown table")
	tables := flags.Int("tables", 0, "measure `N` small tables instead")
	streams := flags.Int("streams", 0, "with -tables: a service with `N` browsers, too")
	dir := flags.String("dir", "", "where to work (default: a new temporary folder)")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *tables > 0 {
		return runFleet(ctx, *dir, *tables, *streams, *rounds, *asJSON, stdout, stderr)
	}
	results, err := measureAll(ctx, *dir, *only, *size, *rounds, stderr)
	if err == nil && *asJSON {
		err = json.NewEncoder(stdout).Encode(results)
	} else if err == nil {
		printMarkdown(stdout, results, *size, *rounds)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}

// result is one comparison. Times are medians in milliseconds, memory is the peak resident set in bytes.
type result struct {
	Job        string  `json:"job"`
	Peer       string  `json:"peer"`
	OursMS     int64   `json:"ours_ms"`
	PeerMS     int64   `json:"peer_ms"`
	Ratio      float64 `json:"ratio"`
	Bound      float64 `json:"bound"`
	OursMemory int64   `json:"ours_memory"`
	PeerMemory int64   `json:"peer_memory"`
}

func measureAll(ctx context.Context, dir, only string, size, rounds int, progress io.Writer) ([]result, error) {
	for _, name := range []string{"sqlite3", "zstd"} {
		if _, err := exec.LookPath(name); err != nil {
			return nil, fmt.Errorf("%s is the peer and is not installed: try make setup: %w", name, err)
		}
	}
	work, err := os.MkdirTemp(dir, "tablekeeper-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	b := &bench{dir: work, rounds: rounds, progress: progress}
	if err := b.prepare(ctx, size); err != nil {
		return nil, err
	}
	var results []result
	for _, job := range b.jobs() {
		if !strings.Contains(job.name, only) {
			continue
		}
		r, err := b.compare(ctx, job)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", job.name, err)
		}
		results = append(results, r)
	}
	return results, nil
}

// bench is a working folder with the table to measure on.
type bench struct {
	dir      string
	rounds   int
	progress io.Writer
}

func (b *bench) path(elements ...string) string {
	return filepath.Join(append([]string{b.dir}, elements...)...)
}

// prepare builds the program and makes a table of size MB: rows of about 1 KB, half text and half noise; every other
// thousand is deleted, so that half of the pages are free.
func (b *bench) prepare(ctx context.Context, size int) error {
	fmt.Fprintf(b.progress, "making a table of %d MB, half of it free\n", size)
	if _, err := spend(ctx, "go", "build", "-o", b.path("tablekeeper"), "./cmd/tablekeeper"); err != nil {
		return err
	}
	if err := os.MkdirAll(b.path("tables"), 0o755); err != nil {
		return err
	}
	script := fmt.Sprintf(`PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;
CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, note TEXT, noise BLOB);
INSERT INTO t SELECT value, 'name of row '||value, replace(hex(zeroblob(24)), '00', 'a word '||(value %% 977)||' '), randomblob(480) FROM generate_series(1, %d);
CREATE INDEX t_name ON t (name);
DELETE FROM t WHERE (id / 1000) %% 2 = 0;
PRAGMA wal_checkpoint(TRUNCATE);`, size*1000)
	_, err := spend(ctx, "sqlite3", b.path("original.db"), script)
	return err
}

// job is one comparison: ours and the peer's commands, run after reset.
type job struct {
	name, peer string
	bound      float64
	reset      func() error
	ours       [][]string
	theirs     [][]string
}

func (b *bench) jobs() []job {
	table, copied, bucket := b.path("tables", "t.db"), b.path("copy.db"), b.path("bucket")
	keeper := func(args ...string) []string {
		return append([]string{b.path("tablekeeper"), "--quiet", "--tables", b.path("tables"), "--bucket", "file://" + bucket}, args...)
	}
	fresh := func() error {
		return errors.Join(os.RemoveAll(b.path("tables")), os.RemoveAll(bucket), os.MkdirAll(b.path("tables"), 0o755), os.MkdirAll(bucket, 0o755),
			removeAll(copied, copied+".zst", b.path("peer.zst"), b.path("out.db")), copyFile(b.path("original.db"), table))
	}
	download := [][]string{{"cp", b.path("peer.zst"), copied + ".zst"}, {"zstd", "-q", "-d", copied + ".zst", "-o", copied}, {"sync", copied},
		{"sqlite3", copied, "PRAGMA integrity_check"}}
	return []job{
		{name: "backup", peer: ".backup, zstd -1, upload", bound: 0.5, reset: fresh,
			ours: [][]string{keeper("backup", "t")},
			theirs: [][]string{{"sqlite3", table, ".backup " + copied}, {"zstd", "-q", "-1", copied, "-o", copied + ".zst"},
				{"cp", copied + ".zst", b.path("peer.zst")}, {"sync", b.path("peer.zst")}}},
		{name: "restore of a backup that a drill has proved", peer: "download, zstd -d, integrity_check", bound: 0.7, reset: b.resetRestore(fresh, keeper, table, true),
			ours: [][]string{keeper("restore", "t", "-o", b.path("out.db"))}, theirs: download},
		{name: "restore of one not proved", peer: "download, zstd -d, integrity_check", bound: 0.7, reset: b.resetRestore(fresh, keeper, table, false),
			ours: [][]string{keeper("restore", "t", "-o", b.path("out.db"))}, theirs: download},
		{name: "compact", peer: "the sqlite3 shell's VACUUM", bound: 1.0, reset: fresh,
			ours:   [][]string{keeper("compact", "t", "--force", "--max-pause", "10m")},
			theirs: [][]string{{"sqlite3", table, "VACUUM; PRAGMA wal_checkpoint(TRUNCATE)"}}},
	}
}

// resetRestore leaves a fresh backup of ours in the bucket, proved by a drill or not, and the same content as the peer would have stored it.
func (b *bench) resetRestore(fresh func() error, keeper func(...string) []string, table string, proved bool) func() error {
	return func() error {
		if err := fresh(); err != nil {
			return err
		}
		ctx := context.Background()
		commands := [][]string{keeper("backup", "t")}
		if proved {
			commands = append(commands, keeper("verify", "t"))
		}
		_, err := spendAll(ctx, commands)
		if err == nil {
			_, err = spend(ctx, "zstd", "-q", "-1", table, "-o", b.path("peer.zst"))
		}
		return err
	}
}

func (b *bench) compare(ctx context.Context, j job) (result, error) {
	var ours, theirs []usage
	for round := range b.rounds {
		fmt.Fprintf(b.progress, "%s, round %d of %d\n", j.name, round+1, b.rounds)
		for _, side := range []struct {
			commands [][]string
			into     *[]usage
		}{{j.ours, &ours}, {j.theirs, &theirs}} {
			if err := j.reset(); err != nil {
				return result{}, err
			}
			u, err := spendAll(ctx, side.commands)
			if err != nil {
				return result{}, err
			}
			*side.into = append(*side.into, u)
		}
	}
	a, p := median(ours), median(theirs)
	return result{Job: j.name, Peer: j.peer, OursMS: a.wall.Milliseconds(), PeerMS: p.wall.Milliseconds(),
		Ratio: a.wall.Seconds() / p.wall.Seconds(), Bound: j.bound, OursMemory: a.memory, PeerMemory: p.memory}, nil
}

func median(all []usage) usage {
	slices.SortFunc(all, func(a, b usage) int { return int(a.wall - b.wall) })
	middle := all[len(all)/2]
	for _, u := range all {
		middle.memory = max(middle.memory, u.memory)
	}
	return middle
}

// usage is what a command cost: wall time and peak resident memory in bytes.
type usage struct {
	wall   time.Duration
	memory int64
}

func spendAll(ctx context.Context, commands [][]string) (total usage, err error) {
	for _, c := range commands {
		u, err := spend(ctx, c[0], c[1:]...)
		if err != nil {
			return usage{}, err
		}
		total.wall += u.wall
		total.memory = max(total.memory, u.memory)
	}
	return total, nil
}

func spend(ctx context.Context, name string, args ...string) (usage, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return usage{}, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out.String())
	}
	return usage{wall: time.Since(start), memory: peak.Memory(cmd.ProcessState)}, nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

func removeAll(paths ...string) error {
	var errs []error
	for _, p := range paths {
		errs = append(errs, os.RemoveAll(p))
	}
	return errors.Join(errs...)
}

func printMarkdown(w io.Writer, results []result, size, rounds int) {
	fmt.Fprintf(w, "%d MB, half of the pages free; median of %d rounds; %s/%s, %d cores, %s, %s\n\n",
		size, rounds, runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), time.Now().UTC().Format(time.DateOnly))
	fmt.Fprintln(w, "| job | peer | ours | peer's | ratio | bound | our memory | peer's memory |\n|---|---|---|---|---|---|---|---|")
	for _, r := range results {
		fmt.Fprintf(w, "| %s | %s | %.2f s | %.2f s | %.2f | %.2f | %d MiB | %d MiB |\n", r.Job, r.Peer,
			float64(r.OursMS)/1000, float64(r.PeerMS)/1000, r.Ratio, r.Bound, r.OursMemory>>20, r.PeerMemory>>20)
	}
}
