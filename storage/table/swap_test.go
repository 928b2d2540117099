package table

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestSwap(t *testing.T) {
	for _, v := range varieties {
		t.Run(v.name, func(t *testing.T) {
			s := stage(t, v)
			done, err := Swap(t.Context(), s.table, s.fresh, SwapOptions{Reason: "Restore!", Now: swapTime})
			if err != nil {
				t.Fatal(err)
			}
			if got := checkWhole(t, s, v); got != "new" {
				t.Fatalf("content %q", got)
			}
			checkLitter(t, s)
			want := filepath.Join(QuarantineDir(s.table), "20260304T050607.008Z-restore")
			if !v.old {
				want = ""
			}
			if done.Quarantine != want {
				t.Errorf("quarantine %q, want %q", done.Quarantine, want)
			}
			if action, err := Resume(t.Context(), s.table); err != nil || action != ResumeNothing {
				t.Errorf("resume after a whole swap: %q, %v", action, err)
			}
		})
	}
}

// A file that is right already keeps every byte: a restored table is the backup.
func TestSwapChangesNoByte(t *testing.T) {
	s := stage(t, varieties[0])
	want, err := os.ReadFile(s.fresh)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Swap(t.Context(), s.table, s.fresh, SwapOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(s.table); err != nil || string(got) != string(want) {
		t.Fatalf("the file was changed: %v", err)
	}
}

// What SQLite cannot open is replaced all the same, and kept with what lies beside it.
func TestSwapOfDamagedTable(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string){
		"no header": func(t *testing.T, path string) { patchFile(t, path, 0, "garbage garbage garbage") },
		"empty":     func(t *testing.T, path string) { patchFile(t, path, -1, "") },
		"foreign wal": func(t *testing.T, path string) {
			patchFile(t, path+"-wal", 3, "damage")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := stage(t, varieties[2])
			damage(t, s.table)
			old, err := os.ReadFile(s.table)
			if err != nil {
				t.Fatal(err)
			}
			wal, err := os.ReadFile(s.table + "-wal")
			if err != nil {
				t.Fatal(err)
			}
			done, err := Swap(t.Context(), s.table, s.fresh, SwapOptions{Reason: "recover"})
			if err != nil {
				t.Fatal(err)
			}
			if got := contentOf(t, s.table); got != "new" {
				t.Errorf("content %q", got)
			}
			checkLitter(t, s)
			kept := filepath.Join(done.Quarantine, "a.db")
			if got, _ := os.ReadFile(kept); string(got) != string(old) {
				t.Error("the old file was changed")
			}
			if got, _ := os.ReadFile(kept + "-wal"); string(got) != string(wal) {
				t.Error("the old WAL was changed or lost")
			}
		})
	}
}

func patchFile(t *testing.T, path string, at int64, with string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		err = f.Truncate(0)
	} else {
		_, err = f.WriteAt([]byte(with), at)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestSwapRefuses(t *testing.T) {
	rollback := varieties[0]
	for name, c := range map[string]struct {
		spoil func(t *testing.T, s *scene)
		want  error
	}{
		"a symbolic link as new file": {func(t *testing.T, s *scene) {
			must(t, os.Rename(s.fresh, s.fresh+".x"))
			must(t, os.Symlink(s.fresh+".y", s.fresh))
		}, fs.ErrNotExist},
		"a missing new file": {func(t *testing.T, s *scene) { must(t, os.Remove(s.fresh)) }, fs.ErrNotExist},
		"an incomplete new file": {func(t *testing.T, s *scene) {
			must(t, os.Truncate(s.fresh, 8192))
		}, fs.ErrInvalid},
		"a new file that is open": {func(t *testing.T, s *scene) {
			must(t, os.WriteFile(s.fresh+"-wal", []byte("x"), 0o644))
		}, fs.ErrInvalid},
		"a text file": {func(t *testing.T, s *scene) {
			must(t, os.WriteFile(s.fresh, []byte("hello"), 0o644))
		}, ErrNotDatabase},
		"a new file elsewhere": {func(t *testing.T, s *scene) {
			elsewhere := filepath.Join(t.TempDir(), "x.db")
			must(t, os.Rename(s.fresh, elsewhere))
			s.fresh = elsewhere
		}, fs.ErrInvalid},
		"a new file with two names": {func(t *testing.T, s *scene) { must(t, os.Link(s.fresh, s.fresh+".x")) }, fs.ErrInvalid},
		"a table with two names":    {func(t *testing.T, s *scene) { must(t, os.Link(s.table, s.table+".x")) }, fs.ErrInvalid},
		"the table itself":          {func(t *testing.T, s *scene) { s.fresh = s.table }, fs.ErrInvalid},
		"a folder as table": {func(t *testing.T, s *scene) {
			must(t, os.Remove(s.table))
			must(t, os.Mkdir(s.table, 0o755))
		}, ErrNotDatabase},
		"a dangling link as table": {func(t *testing.T, s *scene) {
			must(t, os.Remove(s.table))
			must(t, os.Symlink("nowhere", s.table))
		}, fs.ErrNotExist},
		"an unknown intent": {func(t *testing.T, s *scene) {
			must(t, os.WriteFile(statePath(s.table, ".intent"), []byte(`{"format":2}`), 0o644))
		}, ErrInterrupted},
		"a locked table": {func(t *testing.T, s *scene) {
			held, err := Lock(t.Context(), s.table, Owner{})
			must(t, err)
			t.Cleanup(func() { must(t, held.Release()) })
		}, ErrLocked},
	} {
		t.Run(name, func(t *testing.T) {
			s := stage(t, rollback)
			c.spoil(t, &s)
			before := tree(t, filepath.Dir(s.table))
			_, err := Swap(t.Context(), s.table, s.fresh, SwapOptions{})
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			after := tree(t, filepath.Dir(s.table))
			if len(after) > len(before)+1 { // the lock
				t.Errorf("left behind: %v, before: %v", after, before)
			}
		})
	}
}

func TestSwapIntoMissingFolder(t *testing.T) {
	_, err := Swap(t.Context(), filepath.Join(t.TempDir(), "no", "a.db"), "x", SwapOptions{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestSwapThroughSymbolicLink(t *testing.T) {
	s := stage(t, varieties[0])
	link := filepath.Join(t.TempDir(), "link.db")
	must(t, os.Symlink(s.table, link))
	if _, err := Swap(t.Context(), link, s.fresh, SwapOptions{}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
	if got := contentOf(t, s.table); got != "new" {
		t.Errorf("content %q", got)
	}
}

func TestSwapUnderTheCallersLock(t *testing.T) {
	s := stage(t, varieties[0])
	held, err := Lock(t.Context(), s.table, Owner{Function: "restore"})
	must(t, err)
	defer func() { must(t, held.Release()) }()
	if _, err := Swap(t.Context(), s.table, s.fresh, SwapOptions{Lock: held}); err != nil {
		t.Fatal(err)
	}
	other := stage(t, varieties[0])
	if _, err := Swap(t.Context(), other.table, other.fresh, SwapOptions{Lock: held}); !errors.Is(err, fs.ErrInvalid) {
		t.Fatalf("with another table's lock: %v", err)
	}
}

func TestSwapCancelled(t *testing.T) {
	s := stage(t, varieties[0])
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Swap(ctx, s.table, s.fresh, SwapOptions{}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	checkWhole(t, s, varieties[0])
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
