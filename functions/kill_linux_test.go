package functions_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"tablekeeper/functions"
	"tablekeeper/functions/backup"
	"tablekeeper/functions/compact"
	"tablekeeper/functions/functionstest"
	"tablekeeper/functions/restore"
	"tablekeeper/functions/verify"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket/dir"
	"tablekeeper/storage/childtest"
	"tablekeeper/storage/shelf"
)

// changes are the system calls by which a file or a name changes: at each of them a process may die. strace counts the
// calls of each by itself.
var changes = []string{"write", "pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdirat", "fchmod", "fchown"}

// TestChild is not a test of its own: it runs a function on the fleet in a folder, to be killed.
func TestChild(t *testing.T) {
	childtest.Run(t, map[string]func(words []string) error{"call": func(words []string) error { return call(words[0], words[1]) }})
}

// fleet opens what is in root: tables and bucket.
func fleet(root string) (*shelf.Shelf, *dir.Bucket, error) {
	tables, err := shelf.Open([]shelf.Source{{Path: filepath.Join(root, "tables")}}, shelf.Options{})
	if err != nil {
		return nil, nil, err
	}
	if _, err := tables.Refresh(context.Background()); err != nil {
		return nil, nil, err
	}
	objects, err := dir.Open(filepath.Join(root, "bucket"))
	return tables, objects, err
}

// call runs a function on the table app, as a service that has just started would.
func call(name, root string) error {
	tables, objects, err := fleet(root)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if _, err := functions.ResumeAll(ctx, tables.Tables()); err != nil {
		return err
	}
	catalogue := archive.NewCatalogue(objects, archive.CatalogueOptions{})
	switch name {
	case "backup":
		_, err = backup.New(backup.Config{Shelf: tables, Catalogue: catalogue, Objects: objects, Bucket: "b"}).Run(ctx, backup.Event{Force: true}, "app", functions.Progress{})
	case "verify":
		_, err = verify.New(verify.Config{Shelf: tables, Catalogue: catalogue, Bucket: "b"}).Run(ctx, verify.Event{}, "app", functions.Progress{})
	case "restore":
		_, err = restore.New(restore.Config{Shelf: tables, Catalogue: catalogue, Bucket: "b"}).Run(ctx, restore.Event{Table: "app", InPlace: true}, "app", functions.Progress{})
	case "compact":
		_, err = compact.New(compact.Config{Shelf: tables}).Run(ctx, compact.Event{Force: true}, "app", functions.Progress{})
	default:
		err = errors.New("no such function")
	}
	return err
}

// TestKilledAtEachChange kills a process at its first, second, ... change to the disk until one comes through. Whenever it
// dies, the table is as it was or as it should be, every backup in the bucket restores, and the next start cleans up and
// does the work.
func TestKilledAtEachChange(t *testing.T) {
	if functionstest.Race {
		t.Skip("runs without the race detector: each trial starts a process")
	}
	childtest.NeedStrace(t)
	for _, name := range []string{"backup", "verify", "restore", "compact"} {
		t.Run(name, func(t *testing.T) {
			k := newKiller(t, name)
			deaths := 0
			for _, change := range changes {
				for n := 1; k.trial(change, n); n++ {
					deaths++
				}
			}
			t.Logf("%s died at each of %d changes", name, deaths)
			if deaths < 20 {
				t.Errorf("only %d deaths: the harness does not reach the work", deaths)
			}
		})
	}
}

// killer has a fleet in the state before the work, and what its table may hold afterwards.
type killer struct {
	*functionstest.Fleet
	function, before, after string
}

func newKiller(t *testing.T, function string) *killer {
	f := functionstest.New(t)
	f.Make("app", 60)
	k := &killer{Fleet: f, function: function}
	backedUp := f.Rows(f.Path("app"))
	f.Backup("app")
	f.Exec("app", "DELETE FROM items WHERE id > 20")
	k.before = f.Rows(f.Path("app"))
	k.after = k.before
	if function == "restore" {
		k.after = backedUp
	}
	return k
}

// trial lets a child die at its n-th call of one kind, and looks at what it left. It is false if the child came through.
func (k *killer) trial(change string, n int) bool {
	k.T.Helper()
	at := fmt.Sprintf("%s, killed at %s %d", k.function, change, n)
	root, err := os.MkdirTemp(k.T.TempDir(), "")
	k.Must(err)
	k.Must(os.CopyFS(filepath.Join(root, "tables"), os.DirFS(k.Dir)))
	k.Must(os.CopyFS(filepath.Join(root, "bucket"), os.DirFS(k.BucketDir)))
	died := childtest.Killed(k.T, change, n, "call", k.function, root)
	path := filepath.Join(root, "tables", "app.db")
	if got := k.Rows(path); got != k.before && got != k.after {
		k.T.Errorf("%s: the table holds neither the old nor the new content", at)
	}
	k.Sound(path)
	k.backupsRestore(root, at)
	if err := call(k.function, root); err != nil {
		k.T.Errorf("%s: the next start: %v", at, err)
	}
	if got := k.Rows(path); got != k.after {
		k.T.Errorf("%s: the next start does not bring the table to what it should be", at)
	}
	if left := functionstest.Litter(filepath.Join(root, "tables")); len(left) > 0 {
		k.T.Errorf("%s: the next start leaves %v", at, left)
	}
	k.Must(os.RemoveAll(root))
	return died
}

// backupsRestore drills everything that looks like a backup.
func (k *killer) backupsRestore(root, at string) {
	_, objects, err := fleet(root)
	k.Must(err)
	catalogue := archive.NewCatalogue(objects, archive.CatalogueOptions{})
	all, err := catalogue.Backups(context.Background(), "app")
	k.Must(err)
	if len(all) == 0 {
		k.T.Errorf("%s: the backup is gone", at)
	}
	for i, b := range all {
		path := filepath.Join(root, fmt.Sprintf("drill%d", i))
		if _, err := (functions.Drill{From: catalogue}).Run(context.Background(), b.Key, path, functions.Progress{}); err != nil {
			k.T.Errorf("%s: %v", at, err)
		}
	}
}
