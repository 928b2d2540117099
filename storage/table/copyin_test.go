package table

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tablekeeper/storage/childtest"
)

func init() {
	children["write in bursts"] = func(words []string) error { return writeInBursts(words[0], words[1]) }
}

// writeInBursts inserts a few numbers at once, rests for up to so many milliseconds, and goes on, until its input ends. It prints what
// is committed.
func writeInBursts(path, rest string) error {
	most, err := strconv.Atoi(rest)
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_busy_timeout=60000&_txlock=immediate")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	told := make(chan struct{})
	go func() {
		_, _ = io.ReadAll(os.Stdin)
		close(told)
	}()
	for n, burst := 1, 1; ; burst++ {
		for range 1 + rand.IntN(5) {
			if _, err := db.ExecContext(context.Background(), "INSERT INTO log(n) VALUES (?)", n); err != nil {
				return err
			}
			os.Stdout.WriteString(strconv.Itoa(n) + "\n")
			n++
		}
		select {
		case <-told:
			return db.Close()
		case <-time.After(time.Duration(rand.IntN(most)*(1+burst/40)) * time.Millisecond): // longer and longer: on a busy machine a copy takes long, too
		}
	}
}

// byCopy has the next compaction put a copy in: a VACUUM is expected to take long.
func byCopy(t testing.TB, path string) {
	t.Helper()
	learnPace(path, pace{Vacuum: slowestPace})
	if got := readPace(path).Vacuum; got != slowestPace {
		t.Fatalf("a VACUUM is expected to do %v bytes a second", got)
	}
}

func TestCopyInKeepsEverything(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, path string) {
		byCopy(t, path)
		before, stats := sorted(dump(t, path)), mustStat(t, path)
		rowids := allRowids(t, path)
		opts := unhurried
		opts.Force = true
		r, err := Compact(t.Context(), path, opts)
		must(t, err)
		if r.Status != Compacted || r.Reason != "" || r.Note != "" {
			t.Fatalf("%+v", r)
		}
		switch {
		case stats.AutoVacuum == "incremental" && stats.FreePages > 0:
			if r.Strategy != strategySlices {
				t.Errorf("strategy %s", r.Strategy)
			}
		case stats.UsedBytes() > 5000 && r.Strategy != strategyCopyIn:
			t.Errorf("strategy %s", r.Strategy)
		}
		if diff := cmp.Diff(before, sorted(dump(t, path))); diff != "" {
			t.Error(diff)
		}
		if got := allRowids(t, path); got != rowids {
			t.Errorf("rowids\n%s\nbecame\n%s", rowids, got)
		}
		after := mustStat(t, path)
		if after.FreePages != 0 || after.PageCount > stats.PageCount || after.Bytes != after.PageCount*after.PageSize ||
			after.JournalMode != stats.JournalMode || after.AutoVacuum != stats.AutoVacuum || after.Encoding != stats.Encoding {
			t.Errorf("%+v became %+v", stats, after)
		}
		for _, name := range tree(t, filepath.Dir(path)) {
			if name != filepath.Base(path) && name != filepath.Base(path)+"-journal" && !strings.HasSuffix(name, ".pace") {
				t.Errorf("litter: %s", name)
			}
		}
	})
}

// allRowids is the sum of the rowids of each SQL table that has some.
func allRowids(t testing.TB, path string) string {
	t.Helper()
	queries := shell(t, path, `SELECT 'SELECT ''' || replace(name, '''', '''''') || ''', count(*), total(rowid) FROM "' || replace(name, '"', '""') || '";'
		FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND NOT wr AND name NOT LIKE 'sqlite%' ORDER BY name;`)
	return shell(t, path, queries)
}

// What others have open shows them the compacted table, and takes their writes.
func TestCopyInUnderOpenConnections(t *testing.T) {
	for name, setup := range map[string]string{"WAL": "PRAGMA journal_mode=WAL;", "DELETE": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "a.db")
			bulk(t, path, setup+"CREATE TABLE log(n INTEGER PRIMARY KEY);", 1000)
			byCopy(t, path)
			db, err := sql.Open("sqlite", "file:"+path+"?_busy_timeout=60000")
			must(t, err)
			db.SetMaxOpenConns(1)
			defer db.Close()
			read, err := db.PrepareContext(t.Context(), "SELECT count(*), sum(length(body)) FROM item")
			must(t, err)
			defer read.Close()
			write, err := db.PrepareContext(t.Context(), "INSERT INTO log(n) SELECT ifnull(max(n), 0) + 1 FROM log")
			must(t, err)
			defer write.Close()
			var rows, bytes int
			must(t, read.QueryRowContext(t.Context()).Scan(&rows, &bytes))
			_, end := startChild(t, "hold", path, "SELECT count(*) FROM item") // has the file open, with its pages in memory
			for range 3 {
				r, err := Compact(t.Context(), path, CompactOptions{Force: true, MaxPause: time.Minute, Wait: time.Minute})
				if err != nil || r.Status != Compacted || r.Strategy != strategyCopyIn || r.Note != "" {
					t.Fatalf("%+v, %v", r, err)
				}
				var nowRows, nowBytes, free int
				must(t, read.QueryRowContext(t.Context()).Scan(&nowRows, &nowBytes))
				must(t, db.QueryRowContext(t.Context(), "PRAGMA freelist_count").Scan(&free))
				if nowRows != rows || nowBytes != bytes || free != 0 {
					t.Errorf("an open connection sees %d rows, %d bytes, %d free pages", nowRows, nowBytes, free)
				}
				_, err = write.ExecContext(t.Context())
				must(t, err)
			}
			end()
			if got := shell(t, path, "SELECT count(*), max(n) FROM log;"); got != "3|3" {
				t.Errorf("written: %s", got)
			}
		})
	}
}

// A commit between the copy and the lock is seen, whenever it comes; nothing of it is lost, and what is left to do is done or said.
func TestCopyInSeesCommits(t *testing.T) {
	for name, setup := range map[string]string{"WAL": "PRAGMA journal_mode=WAL;", "DELETE": "", "PERSIST": "PRAGMA journal_mode=PERSIST;"} {
		for _, phase := range []string{"copy", "verify", "compact"} {
			for _, times := range []int{1, mostCopyIns} {
				t.Run(name+"/"+phase+"/"+strconv.Itoa(times), func(t *testing.T) {
					t.Parallel()
					path := filepath.Join(t.TempDir(), "a.db")
					bulk(t, path, setup+"CREATE TABLE log(n INTEGER PRIMARY KEY);", 500)
					byCopy(t, path)
					commits := 0
					opts := CompactOptions{MaxPause: time.Minute, Wait: time.Minute}
					opts.Progress = func(p string, done, _ int64) {
						if p == phase && done == 0 && commits < times {
							commits++
							shell(t, path, "INSERT INTO log DEFAULT VALUES;")
						}
					}
					r, err := Compact(t.Context(), path, opts)
					if err != nil || r.Status != Compacted {
						t.Fatalf("%+v, %v", r, err)
					}
					want := strategyCopyIn
					if times == mostCopyIns {
						want = strategyVacuum
					}
					if r.Strategy != want || commits != times {
						t.Errorf("%d commits, %+v", commits, r)
					}
					if got := shell(t, path, "SELECT count(*) FROM log;"); got != strconv.Itoa(times) {
						t.Errorf("%s of %d commits", got, times)
					}
					if s := mustStat(t, path); s.FreePages != 0 {
						t.Errorf("%+v", s)
					}
				})
			}
		}
	}
}

// Users that never rest, and no time for a VACUUM.
func TestCopyInTooBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	bulk(t, path, "PRAGMA journal_mode=WAL; CREATE TABLE log(n INTEGER PRIMARY KEY);", 1000)
	byCopy(t, path)
	opts := CompactOptions{MaxPause: 3 * time.Second, Wait: time.Minute} // a VACUUM is expected to take twice as long
	opts.Progress = func(p string, done, _ int64) {
		if p == "compact" && done == 0 {
			shell(t, path, "INSERT INTO log DEFAULT VALUES;")
		}
	}
	r, err := Compact(t.Context(), path, opts)
	if err != nil || r.Status != Skipped || r.Reason != TooBusy || !strings.Contains(r.Note, "convert") || r.PagesAfter != r.PagesBefore {
		t.Errorf("%+v, %v", r, err)
	}
	if got := shell(t, path, "SELECT count(*) FROM log;"); got != strconv.Itoa(mostCopyIns) {
		t.Errorf("%s commits", got)
	}
}

// A process that writes in bursts loses no commit that it was told of.
func TestCopyInUnderAWriter(t *testing.T) {
	for name, setup := range map[string]string{"WAL": "PRAGMA journal_mode=WAL;", "DELETE": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "a.db")
			bulk(t, path, setup+"CREATE TABLE log(n INTEGER PRIMARY KEY);", 1000)
			items := shell(t, path, "SELECT count(*) FROM item;")
			rounds, rest := 12, "120"
			if raceEnabled {
				rounds, rest = 3, "3000"
			}
			writer := childtest.Command(t, "write in bursts", path, rest)
			stdin, err := writer.StdinPipe()
			must(t, err)
			stdout, err := writer.StdoutPipe()
			must(t, err)
			writer.Stderr = os.Stderr
			must(t, writer.Start())
			var told []string
			done := make(chan struct{})
			go func() {
				defer close(done)
				for lines := bufio.NewScanner(stdout); lines.Scan(); {
					told = append(told, lines.Text())
				}
			}()
			did := map[string]int{}
			for round := 0; round < rounds || round < 20*rounds && did["compacted copy_in "] == 0; round++ {
				byCopy(t, path)
				r, err := Compact(t.Context(), path, CompactOptions{Force: true, MaxPause: time.Minute, Wait: time.Minute})
				must(t, err)
				did[r.Status+" "+r.Strategy+" "+r.Reason]++
			}
			must(t, stdin.Close())
			<-done
			must(t, writer.Wait())
			t.Logf("%v, %d commits", did, len(told))
			if did["compacted copy_in "] == 0 {
				t.Error("no copy was ever put in")
			}
			if got := strings.Fields(shell(t, path, "SELECT n FROM log ORDER BY n;")); !slices.Equal(got, told) {
				t.Errorf("%d commits were acknowledged, %d are there", len(told), len(got))
			}
			if got := shell(t, path, "SELECT count(*) FROM item;"); got != items {
				t.Errorf("%s items", got)
			}
		})
	}
}

// When the time is up nothing has changed, and the next prediction knows.
func TestCopyInIsInterrupted(t *testing.T) {
	for name, setup := range map[string]string{"WAL": "PRAGMA journal_mode=WAL;", "DELETE": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "a.db")
			bulk(t, path, setup, 10000)
			before := dump(t, path)
			opts := CompactOptions{MaxPause: time.Second, Wait: time.Minute}
			opts.defaults()
			k := compaction{path: path, opts: opts}
			must(t, k.measure(t.Context()))
			if k.Strategy != strategyCopyIn {
				t.Fatalf("%+v", k.Compaction)
			}
			k.opts.MaxPause = time.Millisecond
			k.PredictedPauseMS = 0
			if err := k.work(t.Context()); !errors.Is(err, ErrWouldBlock) {
				t.Errorf("%v", err)
			}
			if dump(t, path) != before {
				t.Error("the content changed")
			}
			if s := mustStat(t, path); s.FreePages != k.FreeBefore {
				t.Errorf("%+v", s)
			}
			r, err := Compact(t.Context(), path, CompactOptions{MaxPause: 25 * time.Millisecond})
			if err != nil || r.Reason != WouldBlock || r.BlockedMS != 0 {
				t.Errorf("the next one: %+v, %v", r, err)
			}
		})
	}
}

func TestCopyInEndsWithItsContext(t *testing.T) {
	for name, setup := range map[string]string{"WAL": "PRAGMA journal_mode=WAL;", "DELETE": ""} {
		for _, phase := range []string{"copy", "verify", "compact"} {
			path := filepath.Join(t.TempDir(), "a.db")
			bulk(t, path, setup, 1000)
			byCopy(t, path)
			before := dump(t, path)
			ctx, cancel := context.WithCancel(t.Context())
			opts := unhurried
			opts.Progress = func(p string, done, _ int64) {
				if p == phase && done == 0 {
					cancel()
				}
			}
			r, err := Compact(ctx, path, opts)
			if !errors.Is(err, context.Canceled) || r.Status != Failed || r.PagesAfter != r.PagesBefore {
				t.Errorf("%s, %s: %+v, %v", name, phase, r, err)
			}
			if dump(t, path) != before {
				t.Errorf("%s, %s: the content changed", name, phase)
			}
			for _, left := range tree(t, filepath.Dir(path)) {
				if strings.Contains(left, ".tmp") {
					t.Errorf("%s, %s: litter: %s", name, phase, left)
				}
			}
			cancel()
		}
	}
}

// A damaged table is not compacted, and a copy that is not like it is not put in.
func TestCopyInRefusesDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	bulk(t, path, "", 1000)
	byCopy(t, path)
	whole, err := os.ReadFile(path)
	must(t, err)
	content := slices.Clone(whole)
	root, err := strconv.Atoi(shell(t, path, "SELECT rootpage FROM sqlite_schema WHERE name = 'item';"))
	must(t, err)
	copy(content[(root-1)*4096+3:], []byte{0xff, 0xff}) // so many cells are in no page
	must(t, os.WriteFile(path, content, 0o644))
	r, err := Compact(t.Context(), path, unhurried)
	if !errors.Is(err, ErrCorrupt) || r.Status != Failed || r.Reason != Damaged {
		t.Errorf("%+v, %v", r, err)
	}
	if now, err := os.ReadFile(path); err != nil || !slices.Equal(now, content) {
		t.Errorf("the file changed: %v", err)
	}
	must(t, os.WriteFile(path, whole, 0o644))
}
