package table

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"tablekeeper/storage/childtest"
)

var overwritten = []variety{varieties[0], varieties[1], varieties[2], varieties[3]}

func TestOverwrite(t *testing.T) {
	for _, v := range overwritten {
		t.Run(v.name, func(t *testing.T) {
			s := stage(t, v)
			before, err := os.ReadFile(s.fresh)
			must(t, err)
			var last int64
			done, err := Overwrite(t.Context(), s.table, s.fresh, OverwriteOptions{Now: swapTime, Reason: "restore",
				Progress: func(done, total int64) { last = total - done }})
			if err != nil {
				t.Fatal(err)
			}
			if got := checkWhole(t, s, v); got != "new" || last != 0 {
				t.Errorf("content %q, %d pages left", got, last)
			}
			if want := filepath.Join(QuarantineDir(s.table), "20260304T050607.008Z-restore"); done.Quarantine != want {
				t.Errorf("quarantine %q", done.Quarantine)
			}
			if after, err := os.ReadFile(s.fresh); err != nil || string(after) != string(before) {
				t.Errorf("the new file was changed: %v", err)
			}
			must(t, os.Remove(s.fresh))
			checkLitter(t, s)
		})
	}
}

// What others have open shows them the new content at once.
func TestOverwriteUnderOpenConnections(t *testing.T) {
	for _, v := range overwritten[:2] {
		t.Run(v.name, func(t *testing.T) {
			s := stage(t, v)
			db, err := sql.Open("sqlite", s.table)
			must(t, err)
			defer db.Close()
			var word string
			must(t, db.QueryRowContext(t.Context(), "SELECT word FROM content").Scan(&word))
			_, end := startChild(t, "hold", s.table, "SELECT word FROM content")
			defer end()
			if _, err := Overwrite(t.Context(), s.table, s.fresh, OverwriteOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := db.QueryRowContext(t.Context(), "SELECT word FROM content").Scan(&word); err != nil || word != "new" {
				t.Errorf("an open connection reads %q, %v", word, err)
			}
			end()
			if got := checkWhole(t, s, v); got != "new" {
				t.Errorf("content %q", got)
			}
		})
	}
}

func TestOverwriteRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		table variety
		spoil func(t *testing.T, s scene)
		want  error
	}{
		"a table that others write": {varieties[0], func(t *testing.T, s scene) { startChild(t, "hold", s.table, "BEGIN IMMEDIATE") }, ErrBusy},
		"a WAL that others write":   {varieties[1], func(t *testing.T, s scene) { startChild(t, "hold", s.table, "BEGIN IMMEDIATE") }, ErrBusy},
		"other pages in WAL mode": {varieties[1], func(t *testing.T, s scene) {
			must(t, os.Remove(s.fresh))
			makeContent(t, s.fresh, "new", "PRAGMA page_size=1024")
		}, ErrPageSize},
		"a missing table":     {varieties[4], func(*testing.T, scene) {}, fs.ErrNotExist},
		"no database":         {unopenable, func(*testing.T, scene) {}, ErrNotDatabase},
		"an incomplete file":  {varieties[0], func(t *testing.T, s scene) { must(t, os.Truncate(s.fresh, 4096)) }, fs.ErrInvalid},
		"an interrupted swap": {varieties[0], func(t *testing.T, s scene) { must(t, os.WriteFile(statePath(s.table, ".intent"), nil, 0o644)) }, ErrInterrupted},
	} {
		t.Run(name, func(t *testing.T) {
			s := stage(t, c.table)
			c.spoil(t, s)
			before := tree(t, filepath.Dir(s.table))
			if _, err := Overwrite(t.Context(), s.table, s.fresh, OverwriteOptions{}); !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if after := tree(t, filepath.Dir(s.table)); len(after) > len(before)+1 { // the lock
				t.Errorf("left behind: %v, before: %v", after, before)
			}
		})
	}
}

func TestOverwriteOfOtherPageSize(t *testing.T) {
	s := stage(t, varieties[0])
	must(t, os.Remove(s.fresh))
	makeContent(t, s.fresh, "new", "PRAGMA page_size=1024")
	if _, err := Overwrite(t.Context(), s.table, s.fresh, OverwriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := checkWhole(t, s, varieties[0]); got != "new" {
		t.Errorf("content %q", got)
	}
}

func TestOverwriteCancelled(t *testing.T) {
	for _, v := range overwritten[:2] {
		s := stage(t, v)
		must(t, os.Remove(s.fresh))
		makeContent(t, s.fresh, "new", "CREATE TABLE much(b)", "INSERT INTO much VALUES (zeroblob(3000000))")
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Overwrite(ctx, s.table, s.fresh, OverwriteOptions{Progress: func(int64, int64) { cancel() }})
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		must(t, os.Remove(s.fresh))
		if got := check(t, s, v); got != "old" {
			t.Fatalf("content %q", got)
		}
	}
}

func TestOverwriteWhenCallFails(t *testing.T) {
	for _, v := range overwritten[:2] {
		for _, f := range faults {
			t.Run(v.name+"/"+f.name, func(t *testing.T) {
				for n := 0; ; n++ {
					s := stage(t, v)
					r := recorder{hasty: true, fail: f.at(n)}
					_, err := overwrite(t.Context(), r.disk(), s.table, s.fresh, OverwriteOptions{Now: swapTime})
					if len(r.calls) <= n {
						must(t, err)
						return
					}
					if !errors.Is(err, f.want) {
						t.Fatalf("call %d: %v", n, err)
					}
					_, err = Resume(t.Context(), s.table)
					must(t, err)
					// A copy of what is in place may be left in quarantine when the process died.
					if word := contentOf(t, s.table); word != "old" {
						t.Fatalf("call %d: content %q", n, word)
					}
					checkLitter(t, s)
					if t.Failed() {
						t.Fatalf("call %d: %v", n, r.calls[n])
					}
				}
			})
		}
	}
}

// Of what a busy writer was told is committed, everything is in the table or in quarantine.
func TestOverwriteLosesNoCommit(t *testing.T) {
	for _, mode := range []string{"DELETE", "WAL"} {
		t.Run(mode, func(t *testing.T) {
			dir := t.TempDir()
			s := scene{table: filepath.Join(dir, "a.db"), fresh: filepath.Join(dir, "new")}
			makeContent(t, s.table, "old", "PRAGMA journal_mode="+mode, "CREATE TABLE written(n)")
			makeContent(t, s.fresh, "new", "CREATE TABLE written(n)")
			writer := childtest.Command(t, "write until told", s.table)
			stdin, err := writer.StdinPipe()
			must(t, err)
			stdout, err := writer.StdoutPipe()
			must(t, err)
			writer.Stderr = os.Stderr
			must(t, writer.Start())
			lines := bufio.NewScanner(stdout)
			told := 0
			for told < 20 && lines.Scan() {
				told, _ = strconv.Atoi(lines.Text())
			}
			done, err := Overwrite(t.Context(), s.table, s.fresh, OverwriteOptions{Wait: time.Minute})
			must(t, err)
			for limit := told + 20; told < limit && lines.Scan(); {
				told, _ = strconv.Atoi(lines.Text())
			}
			must(t, stdin.Close())
			for lines.Scan() {
				told, _ = strconv.Atoi(lines.Text())
			}
			must(t, writer.Wait())
			before, after := numbers(t, filepath.Join(done.Quarantine, "a.db")), numbers(t, s.table)
			for n := 1; n <= told; n++ {
				if before[n] == after[n] {
					t.Fatalf("%d was committed: in quarantine %v, in the table %v", n, before[n], after[n])
				}
			}
			if len(before) == 0 || len(after) == 0 {
				t.Errorf("%d before, %d after: nothing was tried", len(before), len(after))
			}
			if got := contentOf(t, s.table); got != "new" {
				t.Errorf("content %q", got)
			}
		})
	}
}

func numbers(t *testing.T, path string) map[int]bool {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	must(t, err)
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), "SELECT n FROM written")
	must(t, err)
	defer rows.Close()
	all := make(map[int]bool)
	for rows.Next() {
		var n int
		must(t, rows.Scan(&n))
		all[n] = true
	}
	must(t, rows.Err())
	return all
}
