package recover

import (
	"errors"
	"testing"

	"tablekeeper/functions"
	"tablekeeper/functions/backup"
	"tablekeeper/functions/functionstest"
	"tablekeeper/functions/restore"
	"tablekeeper/functions/verify"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

func (w *ward) backUp() (backup.Entry, error) {
	f := backup.New(backup.Config{Shelf: w.Shelf, Catalogue: w.Catalogue, Objects: w.Bucket, Bucket: functionstest.BucketName, Now: w.Now})
	w.Refresh()
	return f.Run(w.T.Context(), backup.Event{}, owned, functions.Progress{})
}

// A flip that SQLite cannot see, in a page that nobody reads, is found by the backup, and never gets into the bucket.
func TestASilentFlipReachesNoBackup(t *testing.T) {
	w := newWard(t, 300)
	if entry, err := w.backUp(); err != nil || entry.Status != functions.BackedUp {
		t.Fatalf("%v: %+v", err, entry)
	}
	w.write("INSERT INTO items (label) VALUES ('new')") // so that the table is read
	w.settle()
	changed := w.hash()
	w.one.Lock()
	w.flip((6*4096 + 2000) * 8)
	entry, err := w.backUp()
	if !errors.Is(err, table.ErrCorrupt) || entry.Status != functions.Failed || entry.Reason != "corrupt" {
		t.Fatalf("%v: %+v", err, entry)
	}
	if n := len(w.Backups(owned)); n != 1 {
		t.Fatalf("%d backups", n)
	}
	w.one.Unlock()
	if entry, err := w.next(); err != nil || entry.Status != functions.Repaired {
		t.Fatalf("%v: %+v", err, entry)
	}
	if w.hash() != changed {
		t.Error("the content is another one")
	}
	if entry, err := w.backUp(); err != nil || entry.Status != functions.BackedUp {
		t.Fatalf("%v: %+v", err, entry)
	}
}

func TestVerifyScrubsOwnedTables(t *testing.T) {
	w := newWard(t, 300)
	w.Backup(owned)
	f := verify.New(verify.Config{Shelf: w.Shelf, Catalogue: w.Catalogue, Bucket: functionstest.BucketName, Now: w.Now})
	entry, err := f.Run(t.Context(), verify.Event{}, owned, functions.Progress{})
	if err != nil || entry.Scrubbed == 0 || entry.BadPages != 0 {
		t.Fatalf("%v: %+v", err, entry)
	}
	w.flip((5*4096 + 100) * 8)
	entry, err = f.Run(t.Context(), verify.Event{}, owned, functions.Progress{})
	if !errors.Is(err, table.ErrCorrupt) || entry.BadPages != 1 || entry.Reason != "corrupt" {
		t.Fatalf("%v: %+v", err, entry)
	}
	if entry, err := w.next(); err != nil || entry.Status != functions.Repaired {
		t.Fatalf("%v: %+v", err, entry)
	}
	w.sound()
}

// A restore by hand beneath the users of an owned table; it ends a degraded state.
func TestRestoreOfAnOwnedTable(t *testing.T) {
	w := newWard(t, 100)
	good := w.hash()
	key := w.Backup(owned)
	f := restore.New(restore.Config{Shelf: w.Shelf, Catalogue: w.Catalogue, Bucket: functionstest.BucketName, Now: w.Now})
	event := restore.Event{Table: owned, Backup: key.String(), InPlace: true}
	for _, state := range []shelf.State{shelf.Healthy, shelf.Degraded} {
		w.fill(10)
		w.Must(w.Shelf.SetState(owned, state, "test"))
		entry, err := f.Run(t.Context(), event, owned, functions.Progress{})
		if err != nil || entry.Status != functions.Restored || entry.Method != restore.Swap {
			t.Fatalf("%v: %+v", err, entry)
		}
		if w.hash() != good || w.state() != shelf.Healthy {
			t.Errorf("state %s", w.state())
		}
		w.sound()
	}
	w.write("INSERT INTO items (label) VALUES ('after')")
	w.sound()
}
