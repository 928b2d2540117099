package table

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"tablekeeper/storage/disktest"

	"golang.org/x/sys/unix"
)

// mount mounts a file system for one test, or skips it: only root may, and not everywhere.
func mount(t *testing.T, args ...string) (dir string) {
	t.Helper()
	return disktest.Mount(t, args...)
}

func unmount(t *testing.T, dir string) {
	t.Helper()
	disktest.Unmount(t, dir)
}

// The disk is full for real, at every size that lets the swap come a little further.
func TestSwapOnFullDisk(t *testing.T) {
	dir := mount(t, "-t", "tmpfs", "-o", "size=1m", "tmpfs")
	full, done := 0, 0
	for room := 0; room < 8; room++ {
		must(t, os.RemoveAll(StateDir(filepath.Join(dir, "a.db"))))
		must(t, os.RemoveAll(filepath.Join(dir, "a.db")))
		s := stageIn(t, dir, varieties[0])
		held, err := Lock(t.Context(), s.table, Owner{})
		must(t, err)
		fill(t, dir, room)
		_, err = Swap(t.Context(), s.table, s.fresh, SwapOptions{Lock: held})
		must(t, held.Release())
		switch {
		case errors.Is(err, ErrNoSpace):
			full++
		case err != nil:
			t.Fatalf("with %d pages free: %v", room, err)
		default:
			done++
		}
		must(t, os.Remove(filepath.Join(dir, "fill")))
		_, err = Resume(t.Context(), s.table)
		must(t, err)
		check(t, s, varieties[0])
	}
	if full == 0 || done == 0 {
		t.Errorf("%d times full, %d times done: the disk was never full in the middle", full, done)
	}
}

func TestOverwriteOnFullDisk(t *testing.T) {
	dir := mount(t, "-t", "tmpfs", "-o", "size=1m", "tmpfs")
	for _, v := range overwritten[:2] {
		full, done := 0, 0
		for room := 0; room < 32; room += 2 {
			must(t, os.RemoveAll(StateDir(filepath.Join(dir, "a.db"))))
			removeAll(t, filepath.Join(dir, "a.db"))
			s := stageIn(t, dir, v)
			held, err := Lock(t.Context(), s.table, Owner{})
			must(t, err)
			fill(t, dir, room)
			if _, err := Overwrite(t.Context(), s.table, s.fresh, OverwriteOptions{Lock: held}); !errors.Is(err, ErrNoSpace) {
				t.Fatalf("begun on a full disk: %v", err)
			}
			_, err = overwrite(t.Context(), disk{}, s.table, s.fresh, OverwriteOptions{Lock: held})
			must(t, held.Release())
			must(t, os.Remove(filepath.Join(dir, "fill")))
			want := "new"
			switch {
			case errors.Is(err, ErrNoSpace):
				full++
				want = "old"
			case err != nil: // SQLite does not always say why it could not write
				want = "old"
			default:
				done++
			}
			must(t, os.Remove(s.fresh))
			_, err = Resume(t.Context(), s.table)
			must(t, err)
			if got := check(t, s, v); got != want || t.Failed() {
				t.Fatalf("%s with %d pages free: content %q, want %q", v.name, room, got, want)
			}
		}
		if full == 0 || done == 0 {
			t.Errorf("%s: %d times full, %d times done: the disk was never full in the middle", v.name, full, done)
		}
	}
}

// fill leaves so many pages free.
func fill(t *testing.T, dir string, pages int) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "fill"))
	must(t, err)
	var written int64
	page := make([]byte, 4096)
	for {
		n, err := f.Write(page)
		written += int64(n)
		if err != nil {
			break
		}
	}
	must(t, f.Truncate(max(0, written-int64(pages)*4096)))
	must(t, f.Close())
}

// shutdown is what a power cut is to a file system: nothing that is not on the disk gets there any more.
func shutdown(t *testing.T, dir string) {
	t.Helper()
	disktest.Cut(t, dir)
}

// The power is cut for real, on ext4 and xfs, before each call of the swap and after its end.
func TestSwapSurvivesRealPowerCut(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			for _, v := range []variety{varieties[0], varieties[4]} {
				for n, more := 0, true; more; n++ {
					var r recorder
					var why string
					if more, why = powerCut(t, kind, v, n, &r); why != "" {
						t.Fatalf("the power was cut before call %d: %s", n, why)
					}
				}
			}
		})
	}
}

// If the swap left its syncs out, the tests above would fail.
func TestRealPowerCutShowsMissingSyncs(t *testing.T) {
	const never = 1 << 20
	if _, why := powerCut(t, "xfs", varieties[0], never, &recorder{hasty: true}); why == "" {
		t.Error("nothing was lost without any sync")
	}
}

func makeFileSystem(t *testing.T, kind string) (image string) {
	t.Helper()
	if raceEnabled {
		t.Skip("SKIPPED under -race: it says nothing about the disk")
	}
	return disktest.Image(t, kind, 320<<20)
}

func syncAll(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	must(t, unix.Syncfs(int(f.Fd())))
	must(t, f.Close())
}

// powerCut cuts the power before call n of a swap, or after its end, and says what is wrong then.
func powerCut(t *testing.T, kind string, v variety, n int, r *recorder) (cut bool, why string) {
	image := makeFileSystem(t, kind)
	dir := mount(t, "-o", "loop", image)
	s := stageIn(t, dir, v)
	// What was there before is on the disk, the new file's content is not.
	fresh, err := os.ReadFile(s.fresh)
	must(t, err)
	must(t, os.Remove(s.fresh))
	syncAll(t, dir)
	must(t, os.WriteFile(s.fresh, fresh, 0o644))
	r.fail = func(i int, _ call) error {
		if i == n && !cut {
			cut = true
			shutdown(t, dir)
		}
		return nil
	}
	_, err = swap(t.Context(), r.disk(), s.table, s.fresh, SwapOptions{Now: swapTime})
	if cut && err == nil {
		return cut, "the swap did not notice that the disk is gone"
	}
	if !cut {
		must(t, err)
		shutdown(t, dir)
	}
	unmount(t, dir)
	dir = mount(t, "-o", "loop", image)
	defer unmount(t, dir)
	return cut, judge(t, func(judge *verdict) {
		again := scene{table: filepath.Join(dir, "a.db")}
		if _, err := Resume(t.Context(), again.table); err != nil {
			judge.Fatal(err)
		}
		_ = os.RemoveAll(filepath.Join(dir, "lost+found"))
		if word := check(judge, again, v); !cut && word != "new" {
			judge.Fatal("the swap was told as done, and is not")
		}
	})
}
