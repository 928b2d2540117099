package cmd

import (
	"os"
	"path/filepath"
	"testing"

	"tablekeeper/storage/bucket/buckettest"
)

// A table is backed up, deleted and restored in place, with each kind of bucket: a directory, MinIO through minio-go, versitygw
// through aws-sdk-go-v2.
func TestEveryBucketBringsATableBack(t *testing.T) {
	buckets := map[string]func(*testing.T) (url string){
		"directory": func(t *testing.T) string { return "file://" + t.TempDir() },
		"minio":     func(t *testing.T) string { return s3Bucket(t, buckettest.StartMinIO(t), "s3") },
		"versitygw": func(t *testing.T) string { return s3Bucket(t, buckettest.StartVersityGW(t), "aws") },
	}
	for name, open := range buckets {
		t.Run(name, func(t *testing.T) {
			need(t, "sqlite3")
			folder := t.TempDir()
			path := filepath.Join(folder, "orders.db")
			shell("PRAGMA journal_mode=WAL", rows)(t, path)
			before := dump(t, path)
			keeper := []string{"--tables", folder, "--bucket", open(t)}
			tablekeeper(t, append(keeper, "backup", "--all")...)
			tablekeeper(t, append(keeper, "verify", "--all")...)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			tablekeeper(t, append(keeper, "restore", "orders", "--in-place", "--yes")...)
			if got := dump(t, path); got != before {
				t.Error("the restored table is another one")
			}
			if got := query(t, path, "PRAGMA integrity_check"); got != "ok" {
				t.Errorf("integrity_check: %s", got)
			}
		})
	}
}

// s3Bucket makes a bucket and puts its keys where the standard AWS sources look.
func s3Bucket(t *testing.T, server *buckettest.Server, scheme string) string {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", server.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", server.SecretKey)
	return server.URL(t, scheme, server.NewBucket(t)).String()
}
