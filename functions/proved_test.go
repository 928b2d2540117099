package functions_test

import (
	"context"
	"io"
	"os"
	"testing"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/functions/restore"
	"tablekeeper/functions/verify"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/table"
)

// unsound stores a backup that SQLite's check refuses, though every sum in it is right.
func unsound(t *testing.T, f *functionstest.Fleet) archive.Key {
	t.Helper()
	f.Make("app", 300)
	good, err := os.ReadFile(f.Path("app"))
	f.Must(err)
	bad := append([]byte(nil), good...)
	for at := 4096; ; at += 4096 {
		if bad[at] == 0x0d { // a leaf of an SQL table: its list of free blocks leads nowhere
			bad[at+1], bad[at+2] = 0x0f, 0xff
			break
		}
	}
	f.Must(os.WriteFile(f.Path("app"), bad, 0o644))
	var key archive.Key
	f.Must(table.TakeSnapshot(t.Context(), f.Path("app"), table.SnapshotOptions{SkipCheck: true}, func(ctx context.Context, s *table.Snapshot) error {
		key, err = f.Catalogue.NextKey(ctx, "app", f.Now(), "00000000")
		f.Must(err)
		_, _, err = f.Catalogue.Put(ctx, key, func(w io.Writer) (archive.Manifest, error) {
			e, err := f.Catalogue.NewEncoder(w, archive.EncoderOptions{Table: "app", Created: key.Created, PageSize: int(s.Stats().PageSize), PageCount: s.Stats().PageCount})
			f.Must(err)
			for page, err := range s.Pages(ctx) {
				f.Must(err)
				f.Must(e.WritePage(page.Data, page.Free))
			}
			return e.Close(archive.Manifest{Rows: s.Rows(), Schema: s.Schema()})
		})
		return err
	}))
	f.Must(os.WriteFile(f.Path("app"), good, 0o644))
	return key
}

// A mark is taken at its word by a restore that is not asked to check; a drill checks all the same, and withdraws it.
func TestADrillChecksWhatIsMarkedAsProved(t *testing.T) {
	f := functionstest.New(t)
	key := unsound(t, f)
	f.Must(f.Catalogue.MarkProved(t.Context(), key, f.Now()))
	out := restore.Event{Table: "app", Output: f.Dir + "/out.db"}
	bring := restore.New(restore.Config{Shelf: f.Shelf, Catalogue: f.Catalogue, Bucket: functionstest.BucketName, Now: f.Now})
	refused := func(why string) {
		t.Helper()
		if entry, err := bring.Run(t.Context(), out, "app", functions.Progress{}); err == nil || entry.Reason != "no_good_backup" {
			t.Errorf("%s: %+v, %v", why, entry, err)
		}
	}
	if entry, err := bring.Run(t.Context(), out, "app", functions.Progress{}); err != nil || entry.Status != functions.Restored {
		t.Errorf("%+v, %v", entry, err)
	}
	f.Must(functions.RemoveTable(out.Output))
	drills := verify.New(verify.Config{Shelf: f.Shelf, Catalogue: f.Catalogue, Bucket: functionstest.BucketName, Now: f.Now})
	entry, err := drills.Run(t.Context(), verify.Event{}, "app", functions.Progress{})
	if err == nil || entry.Outcome != verify.Failed {
		t.Errorf("%+v, %v", entry, err)
	}
	refused("found bad by a drill")
	f.Must(f.Catalogue.MarkProved(t.Context(), key, f.Now()))
	out.FullCheck = true
	refused("marked, and to be checked")
}
