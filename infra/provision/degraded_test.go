package provision

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tablekeeper/functions"
	"tablekeeper/functions/backup"
	"tablekeeper/functions/functionstest"
	"tablekeeper/functions/recover"
	"tablekeeper/functions/restore"
	"tablekeeper/functions/sweep"
	"tablekeeper/functions/verify"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/buckettest"
	"tablekeeper/storage/bucket/faulty"
	"tablekeeper/storage/bucket/minio"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// A table that had to begin anew is backed up and proved again and again, and the rule that Apply makes has long passed: MinIO itself keeps the
// last backup that has rows, and a restore of it ends the degraded state.
func TestDegradedTableKeepsItsLastGoodBackup(t *testing.T) {
	server := buckettest.StartMinIO(t)
	ctx := t.Context()
	p := on(t, server, server.NewBucket(t)+"/some/prefix", usual, Options{})
	apply(t, p)
	objects, err := minio.Open(ctx, server.URL(t, "s3", p.loc.Bucket+"/some/prefix"), server.Options())
	if err != nil {
		t.Fatal(err)
	}
	f := functionstest.New(t)
	catalogue := archive.NewCatalogue(bucket.Steady(objects, bucket.SteadyOptions{}), archive.CatalogueOptions{})
	spoiled := faulty.Wrap(objects)
	spoiled.Decide(func(faulty.Call) faulty.Fault { return faulty.Fault{Kind: faulty.Zeros} })
	again := recover.New(recover.Config{
		Shelf: f.Shelf, Sources: []recover.Source{{Catalogue: archive.NewCatalogue(spoiled, archive.CatalogueOptions{}), Bucket: "b"}}, Now: f.Now,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	recovered := make(chan recover.Entry, 10)
	const name = "mailbox"
	handle, err := f.Shelf.Own(ctx, name, f.Path(name), shelf.OwnOptions{
		Table: table.Options{ProbeEvery: -1, Idle: time.Hour},
		Recover: func(ctx context.Context, name string, r table.Report) error {
			entry, err := again.Run(ctx, recover.Event{Table: name, Reason: string(r.Cause)}, name, functions.Progress{})
			if err == nil {
				recovered <- entry
			}
			return err
		},
	})
	f.Must(err)
	t.Cleanup(func() { f.Must(f.Shelf.CloseOwned()) })
	exec := func(query string) {
		t.Helper()
		f.Must(handle.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, query)
			return err
		}))
		_, err := handle.Checkpoint(ctx)
		f.Must(err)
		f.Refresh()
	}
	exec("CREATE TABLE items (id INTEGER PRIMARY KEY, label TEXT, body BLOB)")
	exec("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 100) INSERT INTO items SELECT i, 'label ' || i, randomblob(200) FROM n")

	store := backup.New(backup.Config{Shelf: f.Shelf, Catalogue: catalogue, Objects: objects, Bucket: "b", Now: f.Now})
	prove := verify.New(verify.Config{Shelf: f.Shelf, Catalogue: catalogue, Bucket: "b", Now: f.Now})
	proved := func() {
		t.Helper()
		if entry, err := store.Run(ctx, backup.Event{}, name, functions.Progress{}); err != nil || entry.Status != functions.BackedUp {
			t.Fatalf("%v: %+v", err, entry)
		}
		if entry, err := prove.Run(ctx, verify.Event{}, name, functions.Progress{}); err != nil || entry.Status != functions.Verified {
			t.Fatalf("%v: %+v", err, entry)
		}
	}
	all := func() []archive.Backup {
		t.Helper()
		found, err := catalogue.Backups(ctx, name)
		f.Must(err)
		return found
	}
	proved()
	good := all()[0]
	if good.Proved.IsZero() {
		t.Fatalf("%+v", good)
	}

	// The file is garbage, and what recover is given of the bucket is zeros.
	info, err := os.Stat(f.Path(name))
	f.Must(err)
	f.Must(os.WriteFile(f.Path(name), slices.Repeat([]byte("garbage!"), int(info.Size()/8)), 0o600))
	_, _ = handle.Scrub(ctx, table.ScrubOptions{}) // finds it
	entry := <-recovered
	if entry.Status != functions.Degraded || entry.Rung != recover.RungEmpty {
		t.Fatalf("%+v", entry)
	}
	yesterday(t, p)
	remove := sweep.New(sweep.Config{Shelf: f.Shelf, Catalogue: catalogue, Bucket: "b", Now: f.Now})
	for i := range 3 {
		f.Jump(40 * 24 * time.Hour) // longer than anything is kept
		exec("CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, label TEXT, body BLOB)")
		exec(fmt.Sprintf("INSERT INTO items (label) VALUES ('in the degraded table %d')", i))
		proved()
		if _, err := remove.Run(ctx, sweep.Event{}, name, functions.Progress{}); err != nil {
			t.Fatal(err)
		}
		left := all()
		if i := slices.IndexFunc(left, func(b archive.Backup) bool { return b.Key == good.Key }); i < 0 || left[i].Superseded {
			t.Fatalf("the last good backup is gone, or may go: %+v", left)
		}
	}
	bring := restore.New(restore.Config{Shelf: f.Shelf, Catalogue: catalogue, Bucket: "b", Now: f.Now})
	event := restore.Event{Table: name, Backup: good.Key.String(), InPlace: true}
	back, err := bring.Run(ctx, event, name, functions.Progress{})
	if err != nil || back.RecordCount != 100 {
		t.Fatalf("%v: %+v", err, back)
	}
	if got, err := f.Shelf.Get(name); err != nil || got.State != shelf.Healthy {
		t.Errorf("state %s, %v", got.State, err)
	}
	if kept, err := table.QuarantineList(filepath.Dir(f.Path(name))); err != nil || len(kept) < 2 {
		t.Errorf("both damaged copies are to be kept: %v, %v", kept, err)
	}
}
