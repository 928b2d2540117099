package table

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const goodIntent = `{"format":1,"operation":"swap","table":"a.db","new":".tablekeeper/a.db.restore-0123456789abcdef.tmp",` +
	`"new_inode":7,"old_inode":6,"quarantine":"20260304T050607.008Z-restore","pid":9}`

func TestParseIntent(t *testing.T) {
	if _, err := parseIntent([]byte(goodIntent), "a.db"); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"empty":               "",
		"cut":                 goodIntent[:80],
		"zeros":               strings.Repeat("\x00", 100),
		"newer":               strings.Replace(goodIntent, `"format":1`, `"format":2`, 1),
		"unknown field":       strings.Replace(goodIntent, `"pid"`, `"pids"`, 1),
		"unknown operation":   strings.Replace(goodIntent, `"swap"`, `"merge"`, 1),
		"another table's":     strings.Replace(goodIntent, `"a.db"`, `"b.db"`, 1),
		"a new file outside":  strings.Replace(goodIntent, `.tablekeeper/`, `../`, 1),
		"a new file deeper":   strings.Replace(goodIntent, `.tablekeeper/`, `.tablekeeper/quarantine/`, 1),
		"the table itself":    strings.Replace(goodIntent, `.tablekeeper/a.db.restore-0123456789abcdef.tmp`, `a.db`, 1),
		"a folder":            strings.Replace(goodIntent, `a.db.restore-0123456789abcdef.tmp`, ``, 1),
		"quarantine outside":  strings.Replace(goodIntent, `20260304T050607.008Z-restore`, `../../x`, 1),
		"no quarantine":       strings.Replace(goodIntent, `20260304T050607.008Z-restore`, ``, 1),
		"no new file":         strings.Replace(goodIntent, `"new_inode":7`, `"new_inode":0`, 1),
		"one file twice":      strings.Replace(goodIntent, `"new_inode":7`, `"new_inode":6`, 1),
		"a list":              "[" + goodIntent + "]",
		"an impossible inode": strings.Replace(goodIntent, `"old_inode":6`, `"old_inode":-6`, 1),
	} {
		if in, err := parseIntent([]byte(content), "a.db"); !errors.Is(err, ErrIntent) {
			t.Errorf("%s: %+v, %v", name, in, err)
		}
	}
}

func FuzzParseIntent(f *testing.F) {
	f.Add([]byte(goodIntent))
	f.Add([]byte(`{"format":1}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, content []byte) {
		in, err := parseIntent(content, "a.db")
		if err != nil {
			if !errors.Is(err, ErrIntent) {
				t.Fatal(err)
			}
			return
		}
		s := swapper{path: "/d/a.db", in: in}
		for _, path := range []string{s.newFile(), s.kept()} {
			if path != filepath.Clean(path) || !strings.HasPrefix(path, "/d/") || path == s.path {
				t.Fatalf("an intent leads to %s", path)
			}
		}
		again, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := parseIntent(again, "a.db"); err != nil || same != in {
			t.Fatalf("%+v became %+v: %v", in, same, err)
		}
	})
}

func FuzzParseOwner(f *testing.F) {
	f.Add([]byte(`{"pid":1,"host":"h","function":"backup","run":"r","since":"2026-03-04T05:06:07Z"}`))
	f.Add([]byte(`{"pid":1`))
	f.Fuzz(func(t *testing.T, content []byte) { _ = parseOwner(content).String() })
}

// An intent that is not understood stops everything, and nothing is touched.
func TestResumeStopsAtUnknownIntent(t *testing.T) {
	for _, content := range []string{"", goodIntent[:80], strings.Replace(goodIntent, `"format":1`, `"format":2`, 1)} {
		s := stage(t, varieties[2])
		must(t, os.WriteFile(statePath(s.table, ".intent"), []byte(content), 0o644))
		before := tree(t, filepath.Dir(s.table))
		if _, err := Resume(t.Context(), s.table); !errors.Is(err, ErrIntent) {
			t.Fatal(err)
		}
		after := slices.DeleteFunc(tree(t, filepath.Dir(s.table)), func(name string) bool { return strings.HasSuffix(name, ".lock") })
		if !slices.Equal(before, after) {
			t.Errorf("%v became %v", before, after)
		}
	}
}

// Somebody else put a third file in place while the swap was interrupted.
func TestResumeLeavesForeignFileAlone(t *testing.T) {
	s := stage(t, varieties[0])
	r := recorder{fail: func(_ int, c call) error {
		if c.op == "lease" {
			must(t, os.Rename(s.table, s.table+".theirs"))
			makeContent(t, s.table, "third")
			return errFault
		}
		return nil
	}}
	if _, err := swap(t.Context(), r.disk(), s.table, s.fresh, SwapOptions{}); !errors.Is(err, errFault) {
		t.Fatal(err)
	}
	if _, err := Resume(t.Context(), s.table); err != nil {
		t.Fatal(err)
	}
	if got := contentOf(t, s.table); got != "third" {
		t.Errorf("content %q", got)
	}
	if got := keptContent(t, s); got != "old" {
		t.Errorf("in quarantine %q", got)
	}
}

func TestResumeRemovesOnlyItsOwnLeftovers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	makeContent(t, path, "old")
	must(t, MakeStateDir(path))
	ours := Temporary(path, "compact")
	others := []string{
		Temporary(filepath.Join(dir, "a.db.b"), "compact"),
		filepath.Join(StateDir(path), "a.db.notes"),
		filepath.Join(StateDir(path), "a.db.compact-0123456789abcdef.tmp.keep"),
		filepath.Join(dir, filepath.Base(ours)),
	}
	leftovers := []string{ours, ours + "-wal", ours + "-journal", ours + "-shm"}
	for _, file := range append(leftovers, others...) {
		must(t, os.WriteFile(file, []byte("x"), 0o644))
	}
	must(t, os.MkdirAll(filepath.Join(QuarantineDir(path), "20260304T050607.008Z-restore"), 0o700))
	kept := shelveForTest(t, path, "20260304T050607.009Z-restore", "x")
	unfinished, err := Unfinished(dir)
	if want := []string{path, path + ".b"}; err != nil || !slices.Equal(unfinished, want) {
		t.Errorf("unfinished: %v, %v, want %v", unfinished, err, want)
	}
	if action, err := Resume(t.Context(), path); err != nil || action != ResumeCleaned {
		t.Fatal(action, err)
	}
	for _, file := range leftovers {
		if _, err := os.Lstat(file); !isGone(err) {
			t.Errorf("%s is still there", file)
		}
	}
	for _, file := range append(others, kept) {
		if _, err := os.Lstat(file); err != nil {
			t.Error(err)
		}
	}
	if action, err := Resume(t.Context(), path); err != nil || action != ResumeNothing {
		t.Error("once more:", action, err)
	}
}

func TestResumeWhereNothingWasEverDone(t *testing.T) {
	dir := t.TempDir()
	if action, err := Resume(t.Context(), filepath.Join(dir, "a.db")); err != nil || action != ResumeNothing {
		t.Error(action, err)
	}
	if names := tree(t, dir); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
	if paths, err := Unfinished(dir); err != nil || len(paths) != 0 {
		t.Error(paths, err)
	}
}
