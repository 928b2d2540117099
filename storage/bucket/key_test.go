package bucket_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/buckettest"
)

func TestCheckKey(t *testing.T) {
	for _, key := range buckettest.HostileKeys() {
		if err := bucket.CheckKey(key); !errors.Is(err, bucket.ErrKey) || len(err.Error()) > 400 {
			t.Errorf("CheckKey(%.50q) = %v, want a short %v", key, err, bucket.ErrKey)
		}
	}
	for _, key := range []string{
		"a", "a/b", "orders/20261122T193300.000Z-0123abcd.db.zst", "größe/日本", "a..b/c", "-", "~", "a b", strings.Repeat("n", 240), strings.Repeat("k/", 511) + "k",
	} {
		if err := bucket.CheckKey(key); err != nil {
			t.Errorf("CheckKey(%.50q) = %v", key, err)
		}
	}
}

// FuzzCheckKey: what is allowed stays inside a folder, and every beginning of it is an allowed prefix.
func FuzzCheckKey(f *testing.F) {
	for _, key := range append(buckettest.HostileKeys(), "a/b", "é/ü") {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if bucket.CheckKey(key) != nil {
			return
		}
		if !fs.ValidPath(key) || !filepath.IsLocal(filepath.FromSlash(key)) || filepath.Join("/root", key) != "/root/"+key {
			t.Fatalf("%q is no path inside a folder", key)
		}
		for i := range key {
			if err := bucket.CheckPrefix(key[:i]); err != nil {
				t.Fatalf("a beginning of %q: %v", key, err)
			}
		}
		if !utf8.ValidString(key) || len(key) > bucket.MaxKey {
			t.Fatalf("%q is allowed", key)
		}
	})
}

func TestCheckTags(t *testing.T) {
	for _, tags := range buckettest.BadTags() {
		if err := bucket.CheckTags(tags); !errors.Is(err, bucket.ErrKey) {
			t.Errorf("CheckTags(%.50v) = %v", tags, err)
		}
	}
	for _, tags := range []map[string]string{nil, {}, {"a": ""}, {"tablekeeper-proved": "2026-11-22T19:33:00Z"}, {strings.Repeat("k", 128): strings.Repeat("v", 256)}} {
		if err := bucket.CheckTags(tags); err != nil {
			t.Errorf("CheckTags(%.50v) = %v", tags, err)
		}
	}
}

func TestSpan(t *testing.T) {
	for _, test := range []struct{ size, off, n, from, to int64 }{
		{10, 0, -1, 0, 10}, {10, 3, 4, 3, 7}, {10, 3, 100, 3, 10}, {10, 10, 1, 10, 10}, {10, 20, 1, 10, 10}, {10, -3, 99, 7, 10}, {10, -30, 0, 0, 10},
		{0, 0, -1, 0, 0}, {0, -1, -1, 0, 0}, {0, 5, 5, 0, 0}, {10, 2, 0, 2, 2}, {10, 1, 1<<63 - 1, 1, 10},
	} {
		if from, to := bucket.Span(test.size, test.off, test.n); from != test.from || to != test.to {
			t.Errorf("Span(%d, %d, %d) = %d, %d, want %d, %d", test.size, test.off, test.n, from, to, test.from, test.to)
		}
	}
}
