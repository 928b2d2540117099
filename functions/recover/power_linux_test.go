package recover

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/childtest"
	"tablekeeper/storage/disktest"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// outlet is a disk whose power can be cut.
type outlet struct {
	t     *testing.T
	image string
	dir   string
}

func newOutlet(t *testing.T, kind string) *outlet {
	t.Helper()
	if functionstest.Race {
		t.Skip("SKIPPED under -race: it says nothing about the disk")
	}
	childtest.NeedStrace(t)
	o := &outlet{t: t, image: disktest.Image(t, kind, 320<<20)} // xfs needs 300 MB
	o.dir = disktest.Mount(t, "-o", "loop", o.image)
	return o
}

func (o *outlet) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

// sync puts everything on the disk.
func (o *outlet) sync() {
	o.t.Helper()
	f, err := os.Open(o.dir)
	o.must(err)
	o.must(unix.Syncfs(int(f.Fd())))
	o.must(f.Close())
}

// cut cuts the power, and gives it back: what is not on the disk is gone.
func (o *outlet) cut() {
	o.t.Helper()
	disktest.Cut(o.t, o.dir)
	disktest.Unmount(o.t, o.dir)
	disktest.Remount(o.t, o.dir, "-o", "loop", o.image)
}

// The power is cut at the calls of a recovery that change the disk, and after its end. Whoever opens the table then, and recovers it if that
// is still to be done, has a sound table: with all that was written, or with a report of what is lost.
func TestPowerCutDuringRecovery(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) { powerCutDuringRecovery(t, newOutlet(t, kind)) })
	}
}

func powerCutDuringRecovery(t *testing.T, o *outlet) {
	const sample = 3 // every third call on either file system: all of them take a minute
	for i, tc := range []struct {
		name   string
		damage func(w *ward)
		lossy  bool
	}{
		{"pages", func(w *ward) { w.scribble(3*4096, make([]byte, 4096)) }, false},
		{"header", func(w *ward) { w.scribble(0, slices.Repeat([]byte("garbage!"), 5*512)) }, false},
		{"restore", func(w *ward) { w.scribble(0, slices.Repeat([]byte("garbage!"), int(size(w.T, w.Path(owned))/8))) }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWard(t, 60)
			w.Backup(owned)
			stored := w.hash()
			w.fill(5)
			w.settle()
			latest := w.hash()
			w.Must(w.Shelf.CloseOwned())
			before := w.Dir
			cuts, lossTold := 0, 0
			for n := 1 + i; ; n += sample {
				w.Dir = filepath.Join(o.dir, "t")
				w.Must(os.RemoveAll(w.Dir))
				w.Must(os.CopyFS(w.Dir, os.DirFS(before)))
				w.Must(serveOnce(w.Dir, w.BucketDir)) // the copy gets a ledger of its own
				tc.damage(w)
				o.sync()
				killed := childtest.Killed(t, diskCalls, n, "serve", w.Dir, w.BucketDir)
				o.cut()
				lost := w.reopen(latest, stored, !killed)
				w.Dir = before
				if lost && !tc.lossy {
					t.Fatalf("the power was cut at call %d: something is lost", n)
				}
				if lost {
					lossTold++
				}
				if !killed {
					break
				}
				cuts++
			}
			t.Logf("the power was cut at %d calls and after the end; %d reports of a loss", cuts, lossTold)
			if cuts < 5 {
				t.Errorf("cut at %d calls only", cuts)
			}
		})
	}
}

// reopen opens the table after a power cut, waits until it serves, and tells whether it lost what was written after the backup. ended: the
// recovery was over before the cut.
func (w *ward) reopen(latest, stored string, ended bool) (lost bool) {
	w.T.Helper()
	path := w.Path(owned)
	over := len(shelf.ReadRecovery(path).Ended) > 0 && shelf.ReadRecovery(path).Outcome == nil
	if ended && !over {
		w.T.Fatal("the recovery was told as done, and is not on the disk")
	}
	s, err := shelf.Open([]shelf.Source{{Path: w.Dir}}, shelf.Options{Now: w.Now})
	w.Must(err)
	_, err = s.Refresh(w.T.Context())
	w.Must(err)
	f := *w.function
	f.Shelf = s
	told := over
	handle, err := s.Own(w.T.Context(), owned, path, shelf.OwnOptions{
		Table: table.Options{Idle: time.Hour, ProbeEvery: -1},
		Recover: func(ctx context.Context, name string, r table.Report) error {
			entry, err := f.Run(ctx, Event{Table: name, Force: true}, name, functions.Progress{})
			told = told || entry.Lost != ""
			return err
		},
		Backoff: func(int) time.Duration { return time.Millisecond },
	})
	w.Must(err)
	kept, keptShelf := w.handle, w.Shelf
	w.handle, w.Shelf = handle, s
	defer func() { w.handle, w.Shelf = kept, keptShelf }()
	w.scrub()
	content := w.hash()
	w.sound()
	w.write("INSERT INTO items (label) VALUES ('after')")
	w.Must(s.CloseOwned())
	if left := functionstest.Litter(w.Dir); len(left) > 0 {
		w.T.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	switch {
	case content == latest:
		return false
	case content == stored && told:
		return true
	}
	w.T.Fatalf("after the cut the content is another one; a loss was told: %v", told)
	return false
}
