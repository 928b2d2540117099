package dir_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/buckettest"
	"tablekeeper/storage/bucket/dir"
)

func open(t *testing.T) (*dir.Bucket, string) {
	t.Helper()
	path := t.TempDir()
	b, err := dir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return b, path
}

// litter lists the files under a bucket that are neither objects, nor the records of objects, nor the bucket's own.
func litter(t *testing.T, path string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(path, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		key, _ := filepath.Rel(path, name)
		if key == ".bucket/id" || key == ".bucket/lock" {
			return nil
		}
		folder, base := filepath.Split(name)
		if filepath.Base(folder) == ".bucket" {
			object := filepath.Join(folder, "..", strings.TrimSuffix(base, ".json"))
			if _, err := os.Lstat(object); err == nil && strings.HasSuffix(base, ".json") {
				return nil
			}
			found = append(found, key)
		} else if bucket.CheckKey(filepath.ToSlash(key)) != nil {
			found = append(found, key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestSuite(t *testing.T) {
	var path string
	buckettest.Run(t, buckettest.Options{
		Open: func(t *testing.T) bucket.Bucket {
			var b *dir.Bucket
			b, path = open(t)
			return b
		},
		Missing: func(t *testing.T) bucket.Bucket {
			b, path := open(t)
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			return b
		},
		Litter: func(t *testing.T) []string { return litter(t, path) },
		Many:   100,
	})
}

func TestThanos(t *testing.T) {
	if buckettest.Race {
		t.Skip("200 MiB: in the pass without the race detector")
	}
	b, _ := open(t)
	buckettest.RunThanos(t, b)
}
