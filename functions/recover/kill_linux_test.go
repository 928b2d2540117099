package recover

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/childtest"
	"tablekeeper/storage/disktest"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// serveOnce opens the table as its owner, finds what is wrong, and waits until the table serves.
func serveOnce(tables, bucket string) error {
	ctx := context.Background()
	s, sources, err := openHouse(ctx, tables, bucket)
	if err != nil {
		return err
	}
	f := New(Config{Shelf: s, Sources: sources})
	handle, err := s.Own(ctx, owned, filepath.Join(tables, owned+".db"), shelf.OwnOptions{
		Table: table.Options{Idle: time.Hour, ProbeEvery: -1},
		Recover: func(ctx context.Context, name string, r table.Report) error {
			_, err := f.Run(ctx, Event{Table: name, Force: true}, name, functions.Progress{})
			return err
		},
		Backoff: func(int) time.Duration { return time.Millisecond },
	})
	if err != nil {
		return err
	}
	return errors.Join(scrubUntilServed(ctx, handle), s.CloseOwned())
}

// The service is killed at every call of a recovery, and started again: the table is whole in the end, whichever rung it was on, and
// nothing is lost that need not be.
func TestKilledAtEveryCall(t *testing.T) {
	if functionstest.Race {
		t.Skip("runs in the pass without the race detector")
	}
	childtest.NeedStrace(t)
	for name, tc := range map[string]struct {
		damage func(w *ward)
	}{
		"pages":   {func(w *ward) { w.scribble(3*4096, make([]byte, 4096)) }},
		"restore": {func(w *ward) { w.scribble(0, slices.Repeat([]byte("garbage!"), 5*512)) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWard(t, 60)
			good := w.hash()
			w.Backup(owned)
			w.Must(w.Shelf.CloseOwned())
			kills := 0
			for n := 1; ; n++ {
				tc.damage(w)
				killed := childtest.Killed(t, diskCalls, n, "serve", w.Dir, w.BucketDir)
				w.Refresh()
				w.Must(serveOnce(w.Dir, w.BucketDir))
				w.Refresh()
				w.own()
				if w.hash() != good || w.state() != shelf.Healthy {
					t.Fatalf("killed at call %d: state %s, and another content", n, w.state())
				}
				w.sound()
				w.Must(w.Shelf.CloseOwned())
				for _, q := range w.quarantined() {
					w.Must(os.RemoveAll(q.Path))
				}
				if !killed {
					break
				}
				kills++
			}
			t.Logf("killed at %d calls", kills)
			if kills < 5 {
				t.Errorf("killed at %d calls only", kills)
			}
		})
	}
}

// The disk is full, for real: the table stays out of service, and is whole as soon as there is room.
func TestFullDisk(t *testing.T) {
	mounted := disktest.Mount(t, "-t", "tmpfs", "-o", "size=2m", "tmpfs")
	w := newWard(t, 300)
	good := w.hash()
	w.Backup(owned)
	w.Must(w.Shelf.CloseOwned())
	w.Must(os.CopyFS(filepath.Join(mounted, "t"), os.DirFS(w.Dir)))
	w.Must(os.RemoveAll(filepath.Join(w.Dir, ".tablekeeper")))
	w.Must(os.Remove(w.Path(owned)))
	w.Dir = filepath.Join(mounted, "t")
	var err error
	w.Shelf, err = shelf.Open([]shelf.Source{{Path: w.Dir}}, shelf.Options{Now: w.Now})
	w.Must(err)
	w.function.Shelf = w.Shelf
	w.Refresh()
	w.own()
	fill := filepath.Join(mounted, "fill")
	f, err := os.Create(fill)
	w.Must(err)
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	w.Must(f.Close())
	w.scribble(3*4096, make([]byte, 4096))
	w.scrub()
	if _, err := w.next(); err == nil {
		t.Fatal("it was recovered on a full disk")
	} else if reason := functions.ReasonOf(err); reason != "no_space" {
		t.Errorf("reason %s: %v", reason, err)
	}
	w.Must(os.Remove(fill))
	for {
		entry, err := w.next()
		if err == nil {
			if entry.Status != functions.Repaired {
				t.Fatalf("%+v", entry)
			}
			break
		}
	}
	if w.hash() != good {
		t.Error("the content is another one")
	}
	w.sound()
	w.Must(w.Shelf.CloseOwned())
}
