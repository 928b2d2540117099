package provision

import (
	"errors"
	"io/fs"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"tablekeeper/functions"
	"tablekeeper/functions/backup"
	"tablekeeper/functions/functionstest"
	"tablekeeper/functions/restore"
	"tablekeeper/functions/verify"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/buckettest"
	"tablekeeper/storage/bucket/minio"
)

// retention lets MinIO itself expire what the rule that Apply makes selects: the superseded backup of a busy table goes; its last proved one, the
// only one of a table that never changes, and one that nobody has proved yet stay, and restore.
func retention(t *testing.T, server *buckettest.Server) {
	ctx := t.Context()
	p := on(t, server, server.NewBucket(t)+"/some/prefix", usual, Options{})
	apply(t, p)
	objects, err := minio.Open(ctx, server.URL(t, "s3", p.loc.Bucket+"/some/prefix"), server.Options())
	if err != nil {
		t.Fatal(err)
	}
	if rules, err := objects.Lifecycle(ctx); err != nil || len(rules) != 1 {
		t.Errorf("the service would not leave retention to %q, %v", rules, err)
	}
	f := functionstest.New(t)
	catalogue := archive.NewCatalogue(bucket.Steady(objects, bucket.SteadyOptions{}), archive.CatalogueOptions{})
	for _, name := range []string{"busy", "still", "fresh"} {
		f.Make(name, 50)
	}
	store := backup.New(backup.Config{Shelf: f.Shelf, Catalogue: catalogue, Objects: objects, Bucket: "b", Now: f.Now})
	prove := verify.New(verify.Config{Shelf: f.Shelf, Catalogue: catalogue, Bucket: "b", Now: f.Now})
	run := func(name string, proved bool) {
		t.Helper()
		if _, err := store.Run(ctx, backup.Event{}, name, functions.Progress{}); err != nil {
			t.Fatal(err)
		}
		if !proved {
			return
		}
		if _, err := prove.Run(ctx, verify.Event{}, name, functions.Progress{}); err != nil {
			t.Fatal(err)
		}
	}
	run("still", true)
	run("busy", true)
	f.Fill("busy", 50)
	f.Refresh()
	run("busy", true) // supersedes the first
	f.Fill("busy", 50)
	f.Refresh()
	run("busy", false)
	run("fresh", false)
	before := backups(t, catalogue)
	if len(before["busy"]) != 3 || !before["busy"][2].Superseded {
		t.Fatalf("before: %+v", before)
	}
	yesterday(t, p)
	after := backups(t, catalogue)
	if !slices.Equal(after["busy"], before["busy"][:2]) || !slices.Equal(after["still"], before["still"]) || !slices.Equal(after["fresh"], before["fresh"]) {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	if _, err := catalogue.Open(ctx, before["busy"][2].Key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the superseded one is still there: %v", err)
	}
	// Time passes, and the table that never changes is looked at again and again.
	for range 3 {
		f.Jump(400 * 24 * time.Hour)
		run("still", true)
		if got := backups(t, catalogue)["still"]; len(got) != 1 || got[0].Proved.IsZero() {
			t.Fatalf("still: %+v", got)
		}
	}
	bring := restore.New(restore.Config{Shelf: f.Shelf, Catalogue: catalogue, Bucket: "b", Now: f.Now})
	for name, rows := range map[string]int64{"busy": 150, "still": 50, "fresh": 50} {
		entry, err := bring.Run(ctx, restore.Event{Table: name, Output: t.TempDir() + "/" + name}, name, functions.Progress{})
		if err != nil || entry.RecordCount != rows {
			t.Errorf("restore %s: %+v, %v", name, entry, err)
		}
	}
}

func backups(t *testing.T, c *archive.Catalogue) map[string][]archive.Backup {
	t.Helper()
	all := map[string][]archive.Backup{}
	for _, name := range []string{"busy", "still", "fresh"} {
		found, err := c.Backups(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = found
	}
	return all
}

// yesterday makes the days of Apply's rule have passed, and nothing else: its filter is as Apply made it. Without waiting 30 days there is no other way
// to see a server act on it.
func yesterday(t *testing.T, p *Provisioner) {
	t.Helper()
	out, err := p.s3.GetBucketLifecycleConfiguration(t.Context(), &s3.GetBucketLifecycleConfigurationInput{Bucket: p.name()})
	if err != nil {
		t.Fatal(err)
	}
	past := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -1)
	for i, r := range out.Rules {
		if r.Expiration != nil {
			out.Rules[i].Expiration = &types.LifecycleExpiration{Date: &past}
		}
	}
	_, err = p.s3.PutBucketLifecycleConfiguration(t.Context(), &s3.PutBucketLifecycleConfigurationInput{
		Bucket: p.name(), LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: out.Rules}})
	if err != nil {
		t.Fatal(err)
	}
}
