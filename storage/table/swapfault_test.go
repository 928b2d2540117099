package table

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

var updateGolden = flag.Bool("update-golden", false, "write testdata/swap.golden anew")

// call is one call that the seam saw.
type call struct {
	op    string
	paths []string
}

// recorder is a disk that remembers its calls, and fails or skips some.
type recorder struct {
	calls []call
	fail  func(n int, c call) error
	hasty bool // leaves out the syncs, which nothing but a power cut would show
}

func (r *recorder) disk() disk {
	return disk{before: func(op string, paths ...string) error {
		c := call{op, paths}
		r.calls = append(r.calls, c)
		if r.fail != nil {
			if err := r.fail(len(r.calls)-1, c); err != nil {
				return err
			}
		}
		if r.hasty && strings.HasPrefix(op, "sync") {
			return errSkip
		}
		return nil
	}}
}

var (
	randomName = regexp.MustCompile(`-[0-9a-f]{16}\.tmp`)
	errFault   = errors.New("injected fault")
)

// readable makes calls comparable from one run to the next.
func readable(dir string, calls []call) string {
	var b strings.Builder
	for _, c := range calls {
		b.WriteString(c.op)
		for _, path := range c.paths {
			rel, err := filepath.Rel(dir, path)
			if err != nil {
				rel = path
			}
			b.WriteString(" " + randomName.ReplaceAllString(filepath.ToSlash(rel), "-*.tmp"))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// The order of the calls is the argument for the swap's safety: a change of it is to be reviewed.
func TestSwapCallsInOrder(t *testing.T) {
	var b strings.Builder
	for _, v := range append(varieties, unopenable) {
		s := stage(t, v)
		var r recorder
		if _, err := swap(t.Context(), r.disk(), s.table, s.fresh, SwapOptions{Now: swapTime}); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "# %s\n%s\n", v.name, readable(filepath.Dir(s.table), r.calls))
	}
	golden := filepath.Join("testdata", "swap.golden")
	if *updateGolden {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(golden, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if b.String() != string(want) {
		t.Errorf("calls:\n%s\nwant:\n%s", b.String(), want)
	}
}

// unopenable is a table that SQLite cannot open, with a WAL beside it. Its words are looked for in the bytes.
var unopenable = variety{"damaged with wal", true, func(t testing.TB, path string) {
	makeCrashed(t, path, "PRAGMA journal_mode=WAL")
	must(t, os.WriteFile(path, []byte("old, and no database"), 0o644))
}}

// checkDamaged is checkWhole for unopenable: file and WAL are both in place, or both in quarantine.
func checkDamaged(t testing.TB, s scene) string {
	t.Helper()
	at := s.table
	content, err := os.ReadFile(at)
	must(t, err)
	word := "old"
	if !strings.HasPrefix(string(content), "old") {
		if word = contentOf(t, s.table); word != "new" {
			t.Fatalf("content %q", word)
		}
		list, err := QuarantineList(filepath.Dir(s.table))
		if err != nil || len(list) != 1 {
			t.Fatalf("quarantine: %v, %v", list, err)
		}
		at = filepath.Join(list[0].Path, "a.db")
		content, err = os.ReadFile(at)
		must(t, err)
	}
	wal, err := os.ReadFile(at + "-wal")
	if err != nil || !strings.HasPrefix(string(content), "old") || len(wal) == 0 {
		t.Fatalf("the old table is not whole at %s: %v", at, err)
	}
	return word
}

// check is for a table at rest.
func check(t testing.TB, s scene, v variety) string {
	t.Helper()
	if v.name == unopenable.name {
		word := checkDamaged(t, s)
		if word == "old" {
			checkLitter(t, s, "a.db-wal")
		} else {
			checkLitter(t, s)
		}
		return word
	}
	defer checkLitter(t, s)
	return checkWhole(t, s, v)
}

// fault is what a call can fail with, and what becomes of the calls after it.
type fault struct {
	name  string
	err   error
	death bool // no later call works either: the process died, as far as the disk can tell
	want  error
}

// at fails call n.
func (f fault) at(n int) func(i int, c call) error {
	return func(i int, _ call) error {
		if i == n || f.death && i > n {
			return f.err
		}
		return nil
	}
}

var faults = []fault{
	{"fails", errFault, false, errFault},
	{"disk full", syscall.ENOSPC, false, ErrNoSpace},
	{"dies", errFault, true, errFault},
}

func TestSwapWhenCallFails(t *testing.T) {
	for _, v := range append(varieties, unopenable) {
		for _, f := range faults {
			t.Run(v.name+"/"+f.name, func(t *testing.T) {
				t.Parallel()
				for n := 0; ; n++ {
					s := stage(t, v)
					r := recorder{hasty: true, fail: f.at(n)}
					_, err := swap(t.Context(), r.disk(), s.table, s.fresh, SwapOptions{Now: swapTime})
					if len(r.calls) <= n {
						must(t, err)
						return
					}
					at := readable(filepath.Dir(s.table), r.calls[n:n+1])
					if !errors.Is(err, f.want) {
						t.Fatalf("call %d, %s: %v", n, at, err)
					}
					if _, err := Resume(t.Context(), s.table); err != nil {
						t.Fatalf("call %d, %s: resume: %v", n, at, err)
					}
					check(t, s, v)
					if t.Failed() {
						t.Fatalf("after call %d, %s", n, at)
					}
				}
			})
		}
	}
}

// Resume dies, too, at each of its calls, after a swap that died at each of its own.
func TestResumeWhenCallFails(t *testing.T) {
	for _, v := range append(varieties, unopenable) {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			for n, more := 0, true; more; n++ {
				for m, inside := 0, true; inside; m++ {
					s := stage(t, v)
					r := recorder{hasty: true, fail: from(n)}
					_, _ = swap(t.Context(), r.disk(), s.table, s.fresh, SwapOptions{Now: swapTime})
					more = len(r.calls) > n
					second := recorder{hasty: true, fail: from(m)}
					_, err := resume(t.Context(), second.disk(), s.table)
					inside = len(second.calls) > m
					if inside == (err == nil) {
						t.Fatalf("call %d of the swap, %d of resume: %v", n, m, err)
					}
					if _, err := Resume(t.Context(), s.table); err != nil {
						t.Fatalf("call %d of the swap, %d of resume, once more: %v", n, m, err)
					}
					check(t, s, v)
					if t.Failed() {
						t.Fatalf("call %d of the swap, %d of resume", n, m)
					}
				}
			}
		})
	}
}

func from(n int) func(int, call) error {
	return func(i int, _ call) error {
		if i >= n {
			return errFault
		}
		return nil
	}
}

// After an error the new file is still there, to be used in another way, and nothing else is.
func TestSwapFailedLeavesTheNewFile(t *testing.T) {
	s := stage(t, varieties[0])
	r := recorder{fail: func(_ int, c call) error {
		if c.op == "lease" {
			return syscall.EAGAIN
		}
		return nil
	}}
	if _, err := swap(t.Context(), r.disk(), s.table, s.fresh, SwapOptions{}); !errors.Is(err, ErrInUse) {
		t.Fatal(err)
	}
	rel, err := filepath.Rel(filepath.Dir(s.table), s.fresh)
	must(t, err)
	checkLitter(t, s, filepath.ToSlash(rel))
	if _, err := Swap(context.Background(), s.table, s.fresh, SwapOptions{}); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, s, varieties[0])
}

// Each step that is left out is found out: by the swap itself, or by what the tests above look at.
func TestSwapNeedsEveryStep(t *testing.T) {
	harmless := map[string]bool{
		// Nothing is there to be removed or changed in these varieties; TestSwapKeepsWhatBelongsToTheTable has some.
		"attributes": true, "journalmode": true, "remove restore": true,
		// Nobody else is there: TestSwapRefusesTableInUse and TestSwapNeedsTheLease.
		"lock": true, "lease": true, "undisturbed": true,
		// Without a power cut: TestSwapNeedsEverySync.
		"sync": true, "syncdir": true,
		// Made by a later step, or by the lock, as well.
		"mkdir": true,
	}
	found := 0
	for _, v := range []variety{varieties[0], varieties[4], unopenable} {
		for n := 0; ; n++ {
			s := stage(t, v)
			r := recorder{hasty: true, fail: func(i int, _ call) error {
				if i == n {
					return errSkip
				}
				return nil
			}}
			_, err := swap(t.Context(), r.disk(), s.table, s.fresh, SwapOptions{Now: swapTime})
			if len(r.calls) <= n {
				break
			}
			op := r.calls[n].op
			if op == "remove" && strings.HasPrefix(r.calls[n].paths[0], s.fresh+"-") {
				op = "remove restore"
			}
			why := judge(t, func(judge *verdict) {
				if err == nil && check(judge, s, v) != "new" {
					judge.Error("not swapped")
				}
			})
			if harmless[op] {
				continue
			}
			found++
			if err == nil && why == "" {
				t.Errorf("%s: nobody notices that this is left out: %s", v.name, readable(filepath.Dir(s.table), r.calls[n:n+1]))
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d steps were left out", found)
	}
}
