package table

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tablekeeper/storage/childtest"
)

// killCalls are the system calls by which a disk changes.
var killCalls = []string{"openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "link", "linkat",
	"unlink", "unlinkat", "ftruncate", "mkdir", "mkdirat"}

var traceLine = regexp.MustCompile(`^(\d+) +([a-z0-9_]+)\((.*)`)

// fromHere is the name of a folder. Of a child that makes it, the calls before do not count.
const fromHere = "from-here"

// traceChild runs a child and finds out which of its calls change something in dir: their numbers, by name, as strace
// counts them for the thread that makes them.
func traceChild(t *testing.T, dir string, words ...string) map[string][]int {
	t.Helper()
	log := filepath.Join(t.TempDir(), "strace.log")
	out, err := childtest.Strace(t, words, "-y", "-o", log, "-e", "trace="+strings.Join(killCalls, ",")).CombinedOutput()
	if err != nil {
		t.Fatalf("strace: %v\n%s", err, out)
	}
	content, err := os.ReadFile(log)
	must(t, err)
	count, found := make(map[string]int), make(map[string][]int)
	for line := range strings.Lines(string(content)) {
		m := traceLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		thread, name := m[1], m[2]
		count[thread+name]++
		if strings.Contains(m[3], "/"+fromHere+`"`) {
			clear(found)
			continue
		}
		if strings.Contains(m[3], dir) && (name != "openat" || strings.Contains(m[3], "O_CREAT")) {
			found[name] = append(found[name], count[thread+name])
		}
	}
	return found
}

// needStrace ends a test where no process may be traced, or strace does not see its calls.
func needStrace(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("SKIPPED under -race: it says nothing about other processes")
	}
	childtest.NeedStrace(t)
}

// killAtEachCall runs a role in a child that is killed at each of its calls, calls after what has to be true then, and returns how
// often it was killed.
func killAtEachCall(t *testing.T, prepare func(t *testing.T) (dir string, words []string), after func(t *testing.T, dir, at string)) int {
	_, _, kills := killAtSomeCalls(t, 1, prepare, after)
	return kills
}

// killAtSomeCalls is killAtEachCall at one call of every few. Of all calls some were tried, and some of those came to be.
func killAtSomeCalls(t *testing.T, every int, prepare func(t *testing.T) (dir string, words []string), after func(t *testing.T, dir, at string)) (all, tried, kills int) {
	dir, words := prepare(t)
	calls, chosen := traceChild(t, dir, words...), today(every)
	for _, name := range killCalls {
		for _, n := range calls[name] {
			if all++; !chosen(all) {
				continue
			}
			tried++
			dir, words := prepare(t)
			if !childtest.Killed(t, name, n, words...) {
				break
			}
			kills++
			after(t, dir, fmt.Sprintf("killed at %s %d", name, n))
			if t.Failed() {
				return all, tried, kills
			}
		}
	}
	return all, tried, kills
}

func TestSwapKilledAtEachCall(t *testing.T) {
	needStrace(t)
	for _, v := range []variety{varieties[1], varieties[2], varieties[4], unopenable} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			seen := make(map[string]int)
			var s scene
			kills := killAtEachCall(t, func(t *testing.T) (string, []string) {
				s = stage(t, v)
				return filepath.Dir(s.table), []string{"swap", s.table, s.fresh}
			}, func(t *testing.T, _, at string) {
				// In a process of its own: nothing of this one may hold the dead one's locks, or have seen its files.
				if out, err := childtest.Command(t, "resume", s.table).CombinedOutput(); err != nil {
					t.Fatalf("%s: resume: %v\n%s", at, err, out)
				}
				seen[check(t, s, v)]++
				if t.Failed() {
					t.Fatal(at)
				}
			})
			if kills < 15 || seen["old"] == 0 || seen["new"] == 0 {
				t.Errorf("%d kills, outcomes %v: not the swap was killed", kills, seen)
			}
			t.Logf("%d kills, outcomes %v", kills, seen)
		})
	}
}

func TestResumeKilledAtEachCall(t *testing.T) {
	needStrace(t)
	for _, v := range []variety{varieties[0], unopenable} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			for _, op := range []string{"lease", "rename", "undisturbed"} {
				var s scene
				kills := killAtEachCall(t, func(t *testing.T) (string, []string) {
					s = stage(t, v)
					r := recorder{hasty: true}
					died := false
					r.fail = func(_ int, c call) error {
						died = died || c.op == op && !slices.ContainsFunc(c.paths, func(p string) bool { return strings.Contains(p, ".intent") })
						if died {
							return errFault
						}
						return nil
					}
					if _, err := swap(t.Context(), r.disk(), s.table, s.fresh, SwapOptions{}); err == nil {
						t.Fatal("the swap did not die")
					}
					return filepath.Dir(s.table), []string{"resume", s.table}
				}, func(t *testing.T, _, at string) {
					if _, err := Resume(t.Context(), s.table); err != nil {
						t.Fatalf("%s: %v", at, err)
					}
					check(t, s, v)
				})
				t.Logf("died at %s: resume killed %d times", op, kills)
				if kills == 0 {
					t.Error("resume was never killed")
				}
			}
		})
	}
}

func TestOverwriteKilledAtEachCall(t *testing.T) {
	needStrace(t)
	for _, v := range overwritten[:2] {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			seen := make(map[string]int)
			var s scene
			kills := killAtEachCall(t, func(t *testing.T) (string, []string) {
				s = stage(t, v)
				return filepath.Dir(s.table), []string{"overwrite", s.table, s.fresh}
			}, func(t *testing.T, _, at string) {
				if out, err := childtest.Command(t, "resume", s.table).CombinedOutput(); err != nil {
					t.Fatalf("%s: resume: %v\n%s", at, err, out)
				}
				// SQLite's own recovery comes with the first reader. A copy of what is still in place may be kept.
				word, kept := contentOf(t, s.table), keptContent(t, s)
				if word != "old" && (word != "new" || kept != "old") {
					t.Fatalf("%s: content %q, in quarantine %q", at, word, kept)
				}
				seen[word]++
				// An empty journal is SQLite's to use again.
				checkLitter(t, s, "a.db-journal")
				if hotJournal(s.table + "-journal") {
					t.Fatalf("%s: the journal is still hot", at)
				}
			})
			if seen["old"] == 0 || seen["new"] == 0 {
				t.Errorf("outcomes %v: not the overwrite was killed", seen)
			}
			t.Logf("%d kills, outcomes %v", kills, seen)
		})
	}
}
