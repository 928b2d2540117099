package functions_test

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"tablekeeper/functions"
	"tablekeeper/functions/backup"
	"tablekeeper/functions/compact"
	"tablekeeper/functions/functionstest"
	"tablekeeper/functions/restore"
	"tablekeeper/functions/sweep"
	"tablekeeper/functions/verify"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/awss3"
	"tablekeeper/storage/bucket/buckettest"
	"tablekeeper/storage/bucket/dir"
	"tablekeeper/storage/bucket/minio"
	"tablekeeper/storage/bucket/remote"
)

// TestTheWholeCycle goes round on each kind of bucket: back up, skip, compact, back up, prove, lose, restore, sweep.
func TestTheWholeCycle(t *testing.T) {
	t.Run("folder", func(t *testing.T) {
		b, err := dir.Create(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		cycle(t, b)
	})
	t.Run("minio-go on MinIO", func(t *testing.T) {
		cycle(t, store(t, buckettest.StartMinIO(t), "s3", minio.Open))
	})
	t.Run("aws-sdk-go-v2 on versitygw", func(t *testing.T) {
		cycle(t, store(t, buckettest.StartVersityGW(t), "aws", awss3.Open))
	})
}

func store(t *testing.T, s *buckettest.Server, scheme string, open func(context.Context, *url.URL, remote.Options) (*remote.Store, error)) bucket.Bucket {
	t.Helper()
	b, err := open(t.Context(), s.URL(t, scheme, s.NewBucket(t)+"/some/prefix"), s.Options())
	if err != nil {
		t.Fatal(err)
	}
	return bucket.Steady(b, bucket.SteadyOptions{})
}

func cycle(t *testing.T, objects bucket.Bucket) {
	ctx := t.Context()
	f := functionstest.New(t)
	catalogue := archive.NewCatalogue(objects, archive.CatalogueOptions{})
	f.Make("app", 500)
	f.Make("mail", 3)
	back := backup.New(backup.Config{Shelf: f.Shelf, Catalogue: catalogue, Objects: objects, Bucket: "b", Now: f.Now})
	store := func(want functions.Status) {
		t.Helper()
		if entry, err := back.Run(ctx, backup.Event{}, "app", functions.Progress{}); err != nil || entry.Status != want {
			t.Fatalf("%+v, %v, want %s", entry, err, want)
		}
	}
	store(functions.BackedUp)
	store(functions.Skipped)
	f.Exec("app", "DELETE FROM items WHERE id % 4 > 0")
	if entry, err := compact.New(compact.Config{Shelf: f.Shelf, Now: f.Now}).Run(ctx, compact.Event{}, "app", functions.Progress{}); err != nil || entry.Status != functions.Compacted {
		t.Fatalf("%+v, %v", entry, err)
	}
	store(functions.BackedUp)
	prove := verify.New(verify.Config{Shelf: f.Shelf, Catalogue: catalogue, Bucket: "b", Now: f.Now})
	if entry, err := prove.Run(ctx, verify.Event{Backup: "all"}, "app", functions.Progress{}); err != nil || len(entry.Drills) != 2 {
		t.Fatalf("%+v, %v", entry, err)
	}
	want := f.Rows(f.Path("app"))
	f.Must(os.Remove(f.Path("app")))
	f.Refresh()
	bring := restore.New(restore.Config{Shelf: f.Shelf, Catalogue: catalogue, Bucket: "b", Now: f.Now})
	if entry, err := bring.Run(ctx, restore.Event{Table: "app", InPlace: true}, "app", functions.Progress{}); err != nil || entry.RecordCount != 125 {
		t.Fatalf("%+v, %v", entry, err)
	}
	if f.Rows(f.Path("app")) != want {
		t.Error("another table came back")
	}
	agrees(t, f.Path("app"))
	f.Refresh()
	store(functions.Skipped) // it is what the newest backup has
	f.Jump(40 * 24 * 3600e9)
	store(functions.Skipped)
	order := sweep.New(sweep.Config{Shelf: f.Shelf, Bucket: "b", Catalogue: catalogue, Now: f.Now})
	entry, err := order.Run(ctx, sweep.Event{Tables: []string{"app"}}, "", functions.Progress{})
	if err != nil || len(entry.Removed) != 1 {
		t.Errorf("%+v, %v", entry, err)
	}
	if left, err := catalogue.Backups(ctx, "app"); err != nil || len(left) != 1 || left[0].Proved.IsZero() {
		t.Errorf("%+v, %v", left, err)
	}
}

// agrees asks the sqlite3 program.
func agrees(t *testing.T, path string) {
	t.Helper()
	program, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Log("SKIPPED: the sqlite3 program is not installed")
		return
	}
	out, err := exec.CommandContext(t.Context(), program, path, "PRAGMA integrity_check; SELECT count(*) FROM items").CombinedOutput()
	if got := strings.Fields(string(out)); err != nil || strings.Join(got, " ") != "ok 125" {
		t.Errorf("sqlite3 says %q, %v", out, err)
	}
}
