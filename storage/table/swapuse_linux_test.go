package table

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tablekeeper/storage/needtest"
)

const sayReady = ".print ready\n"

// strangers are other programs that have a table open, each in a way that some proof of sole ownership would miss.
var strangers = []struct {
	name  string
	table variety
	start func(t testing.TB, path string) (pid int, end func())
}{
	{"an idle connection", varieties[0], func(t testing.TB, path string) (int, func()) {
		return startChild(t, "hold", path, "SELECT 1 FROM content")
	}},
	{"an idle connection in WAL mode", varieties[1], func(t testing.TB, path string) (int, func()) {
		return startChild(t, "hold", path, "SELECT 1 FROM content")
	}},
	{"a WAL with commits", varieties[1], func(t testing.TB, path string) (int, func()) {
		return startChild(t, "hold", path, "UPDATE content SET word='old'")
	}},
	{"a read transaction", varieties[0], func(t testing.TB, path string) (int, func()) {
		return startChild(t, "hold", path, "BEGIN", "SELECT 1 FROM content")
	}},
	{"a write transaction", varieties[0], func(t testing.TB, path string) (int, func()) {
		return startChild(t, "hold", path, "BEGIN IMMEDIATE")
	}},
	{"a descriptor without a lock", varieties[1], func(t testing.TB, path string) (int, func()) {
		return startChild(t, "open", path)
	}},
	{"the sqlite3 shell, idle", varieties[0], func(t testing.TB, path string) (int, func()) {
		return start(t, exec.Command(needtest.Program(t, "sqlite3"), path), "SELECT 1 FROM content;\n"+sayReady)
	}},
	{"the sqlite3 shell, WAL", varieties[2], func(t testing.TB, path string) (int, func()) {
		return start(t, exec.Command(needtest.Program(t, "sqlite3"), path), "SELECT 1 FROM content;\n"+sayReady)
	}},
	{"the sqlite3 shell without locks", varieties[0], func(t testing.TB, path string) (int, func()) {
		return start(t, exec.Command(needtest.Program(t, "sqlite3"), "file:"+path+"?nolock=1"), "SELECT 1 FROM content;\n"+sayReady)
	}},
}

func TestSwapRefusesTableInUse(t *testing.T) {
	for _, stranger := range strangers {
		t.Run(stranger.name, func(t *testing.T) {
			s := stage(t, stranger.table)
			pid, end := stranger.start(t, s.table)
			_, err := Swap(t.Context(), s.table, s.fresh, SwapOptions{Now: swapTime})
			var used *InUseError
			if !errors.As(err, &used) || !errors.Is(err, ErrInUse) {
				t.Fatalf("swap: %v", err)
			}
			if i := slices.IndexFunc(used.Processes, func(p Process) bool { return p.PID == pid && p.Name != "" }); i < 0 || used.Own {
				t.Errorf("%v does not name process %d alone", err, pid)
			}
			end()
			checkWhole(t, s, stranger.table)
			if _, err := Swap(t.Context(), s.table, s.fresh, SwapOptions{Now: swapTime}); err != nil {
				t.Fatalf("after it has gone: %v", err)
			}
			if got := checkWhole(t, s, stranger.table); got != "new" {
				t.Fatalf("content %q", got)
			}
		})
	}
}

// Without the lease, the idle connection and the descriptor without a lock go unseen: the tests above would fail.
func TestSwapNeedsTheLease(t *testing.T) {
	unseen := 0
	for _, stranger := range strangers[:6] {
		s := stage(t, stranger.table)
		_, end := stranger.start(t, s.table)
		r := recorder{fail: func(_ int, c call) error {
			if c.op == "lease" || c.op == "undisturbed" {
				return errSkip
			}
			return nil
		}}
		if _, err := swap(t.Context(), r.disk(), s.table, s.fresh, SwapOptions{}); err == nil {
			unseen++
		}
		end()
	}
	if unseen == 0 {
		t.Error("the lock alone has seen everybody")
	}
}

// Where there are no leases, the lock and /proc do.
func TestSwapWithoutLeases(t *testing.T) {
	if _, err := ScanOpen(); err != nil {
		t.Skipf("SKIPPED, /proc is not complete: %v", err)
	}
	noLease := func(_ int, c call) error {
		if c.op == "lease" {
			return unix.EINVAL
		}
		return nil
	}
	for _, stranger := range strangers {
		t.Run(stranger.name, func(t *testing.T) {
			s := stage(t, stranger.table)
			_, end := stranger.start(t, s.table)
			r := recorder{fail: noLease}
			if _, err := swap(t.Context(), r.disk(), s.table, s.fresh, SwapOptions{}); !errors.Is(err, ErrInUse) {
				t.Fatalf("swap: %v", err)
			}
			end()
			if _, err := swap(t.Context(), r.disk(), s.table, s.fresh, SwapOptions{}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestSwapRefusesItsOwnProcess(t *testing.T) {
	s := stage(t, varieties[0])
	f, err := os.Open(s.table)
	must(t, err)
	defer f.Close()
	_, err = Swap(t.Context(), s.table, s.fresh, SwapOptions{})
	var used *InUseError
	if !errors.As(err, &used) || !used.Own {
		t.Fatal(err)
	}
}

// Somebody opens the old file in the very moment of the swap: it goes back to its name, and is what they get.
func TestSwapGoesBackForLateComer(t *testing.T) {
	for _, wait := range []time.Duration{0, time.Minute} {
		s := stage(t, varieties[1])
		opened := make(chan error, 1)
		came := false
		r := recorder{fail: func(_ int, c call) error {
			if c.op != "rename" || c.paths[1] != s.table || came {
				return nil
			}
			came = true
			go func() {
				f, err := os.Open(s.table)
				if err == nil {
					defer f.Close()
					var got, want os.FileInfo
					got, err = f.Stat()
					if err == nil {
						want, err = os.Stat(s.table)
					}
					if err == nil && !os.SameFile(got, want) {
						err = errors.New("it got a file that is not the table")
					}
				}
				opened <- err
			}()
			waitForBreak(t, s.table)
			return nil
		}}
		_, err := swap(t.Context(), r.disk(), s.table, s.fresh, SwapOptions{Now: swapTime, Wait: wait})
		if wait == 0 && !errors.Is(err, ErrInUse) || wait > 0 && err != nil {
			t.Fatalf("with wait %v: %v", wait, err)
		}
		// With a wait the second attempt may have come first; then the table it finds is the new one.
		if err := <-opened; err != nil && wait == 0 {
			t.Error(err)
		}
		want := "old"
		if wait > 0 {
			want = "new"
		}
		if got := checkWhole(t, s, varieties[1]); got != want {
			t.Errorf("with wait %v: content %q", wait, got)
		}
	}
}

// waitForBreak returns when somebody waits for our lease.
func waitForBreak(t testing.TB, path string) {
	ino, err := inode(path)
	must(t, err)
	for {
		locks, err := os.ReadFile("/proc/locks")
		must(t, err)
		for line := range strings.Lines(string(locks)) {
			if strings.Contains(line, "BREAKING") && strings.Contains(line, ":"+strconv.FormatUint(ino, 10)+" ") {
				return
			}
		}
		if t.Context().Err() != nil {
			return
		}
	}
}

func TestHolders(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	makeContent(t, path, "old", "PRAGMA journal_mode=WAL")
	if got, err := Holders(path); len(got) != 0 || err != nil && !errors.Is(err, ErrUnseen) {
		t.Fatalf("%v, %v", got, err)
	}
	writer, end := startChild(t, "hold", path, "UPDATE content SET word='x'")
	reader, _ := startChild(t, "open", path)
	must(t, os.Link(path, filepath.Join(dir, "other name")))
	for _, name := range []string{"a.db", "other name"} {
		got, err := Holders(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, ErrUnseen) {
			t.Fatal(err)
		}
		slices.SortFunc(got, func(a, b Process) int { return a.PID - b.PID })
		want := []Process{{writer, "table.test", true}, {reader, "table.test", false}}
		slices.SortFunc(want, func(a, b Process) int { return a.PID - b.PID })
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	end()
	if got, _ := Holders(path); len(got) != 1 || got[0].PID != reader {
		t.Errorf("after the writer has gone: %v", got)
	}
	if got, err := Holders(filepath.Join(dir, "missing")); len(got) != 0 || err != nil && !errors.Is(err, ErrUnseen) {
		t.Errorf("missing: %v, %v", got, err)
	}
}
