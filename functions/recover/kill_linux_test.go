package recover

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket/dir"
	"tablekeeper/storage/disktest"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

const childVariable = "RECOVER_TEST_CHILD"

// TestChild is not a test of its own: it is a service that recovers one table, to be killed.
func TestChild(t *testing.T) {
	role := os.Getenv(childVariable)
	if role == "" {
		t.Skip("only for other tests")
	}
	words := strings.Split(role, "\n")
	if err := serveOnce(words[0], words[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serveOnce opens the table as its owner, finds what is wrong, and waits until the table serves.
func serveOnce(tables, bucket string) error {
	s, err := shelf.Open([]shelf.Source{{Path: tables}}, shelf.Options{})
	if err != nil {
		return err
	}
	if _, err := s.Refresh(context.Background()); err != nil {
		return err
	}
	objects, err := dir.Open(bucket)
	if err != nil {
		return err
	}
	f := New(Config{Shelf: s, Sources: []Source{{Catalogue: archive.NewCatalogue(objects, archive.CatalogueOptions{}), Bucket: functionstest.BucketName}}})
	ended := make(chan error, 16)
	handle, err := s.Own(context.Background(), owned, filepath.Join(tables, owned+".db"), shelf.OwnOptions{
		Table: table.Options{Idle: time.Hour, ProbeEvery: -1},
		Recover: func(ctx context.Context, name string, r table.Report) error {
			_, err := f.Run(ctx, Event{Table: name, Force: true}, name, functions.Progress{})
			ended <- err
			return err
		},
		Backoff: func(int) time.Duration { return time.Millisecond },
	})
	if err != nil {
		return err
	}
	if _, err := handle.Scrub(context.Background(), table.ScrubOptions{}); err != nil && !errors.Is(err, table.ErrCorrupt) {
		return err
	}
	err = handle.Read(context.Background(), func(tx *sql.Tx) error {
		var n int
		return tx.QueryRowContext(context.Background(), "SELECT count(*) FROM items").Scan(&n)
	})
	return errors.Join(err, s.CloseOwned())
}

func needStrace(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		disktest.Missing(t, err)
	}
}

// killedAt runs the child, which is killed at its n-th call that changes the disk, and tells whether it was.
func killedAt(t *testing.T, n int, role ...string) bool {
	t.Helper()
	return killedAtIn(t, n, "TestChild", childVariable, role...)
}

func killedAtIn(t *testing.T, n int, child, variable string, role ...string) bool {
	t.Helper()
	const calls = "link,linkat,rename,renameat,renameat2,fsync,fdatasync,unlink,unlinkat,ftruncate,pwrite64"
	inject := fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", calls, n)
	cmd := exec.CommandContext(t.Context(), "strace", "-f", "-qq", "-o", os.DevNull, "-e", "trace="+calls, "-e", inject, os.Args[0], "-test.run=^"+child+"$")
	cmd.Env = append(os.Environ(), variable+"="+strings.Join(role, "\n"), "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false
	case errors.As(err, &exit) && exit.ExitCode() != 1:
		return true
	}
	t.Fatalf("call %d: %v: %s", n, err, out)
	return false
}

// The service is killed at every call of a recovery, and started again: the table is whole in the end, whichever rung it was on, and
// nothing is lost that need not be.
func TestKilledAtEveryCall(t *testing.T) {
	if functionstest.Race {
		t.Skip("runs in the pass without the race detector")
	}
	needStrace(t)
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
				killed := killedAt(t, n, w.Dir, w.BucketDir)
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
