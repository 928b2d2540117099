package dir_test

import (
	"errors"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/dir"
)

func putText(t *testing.T, b bucket.Bucket, key, text string) bucket.Info {
	t.Helper()
	info, err := b.Put(t.Context(), key, strings.NewReader(text), bucket.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestOpen(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "not", "there")
	if _, err := dir.Open(missing); !errors.Is(err, bucket.ErrNoBucket) {
		t.Errorf("Open of a missing folder: %v", err)
	}
	if _, err := os.Lstat(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open made the folder: %v", err)
	}
	if _, err := dir.OpenMarked(t.TempDir()); !errors.Is(err, bucket.ErrNoBucket) {
		t.Errorf("OpenMarked of an unmarked folder: %v", err)
	}
	first, err := dir.Create(missing)
	if err != nil {
		t.Fatal(err)
	}
	second, err := dir.OpenMarked(missing)
	if err != nil {
		t.Fatal(err)
	}
	if first.Mark() == "" || first.Mark() != second.Mark() {
		t.Errorf("marks %q and %q, want one", first.Mark(), second.Mark())
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Open(file); err == nil {
		t.Error("Open of a file: no error")
	}
	newer := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(newer, ".bucket"), 0o700), os.WriteFile(filepath.Join(newer, ".bucket", "id"), []byte("tablekeeper bucket 2\nx\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Open(newer); err == nil || errors.Is(err, bucket.ErrNoBucket) {
		t.Errorf("Open of a newer layout: %v", err)
	}
}

func TestPath(t *testing.T) {
	for _, test := range []struct{ url, want string }{
		{"file:///srv/backups", "/srv/backups"}, {"file://localhost/x%20y", "/x y"}, {"file:///", "/"},
		{"file://host/x", ""}, {"file:relative", ""}, {"file:///x?y=z", ""}, {"s3://b/x", ""}, {"file://", ""},
	} {
		u, err := url.Parse(test.url)
		if err != nil {
			t.Fatal(err)
		}
		got, err := dir.Path(u)
		if got != filepath.FromSlash(test.want) || (err == nil) != (test.want != "") {
			t.Errorf("Path(%s) = %q, %v, want %q", test.url, got, err, test.want)
		}
	}
}

// TestAnotherFolder: what took the place of the bucket is not taken for it.
func TestAnotherFolder(t *testing.T) {
	b, path := open(t)
	putText(t, b, "a/b", "x")
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	refused := func(state string) {
		t.Helper()
		for info, err := range b.List(t.Context(), "", "") {
			if !errors.Is(err, bucket.ErrNoBucket) {
				t.Errorf("%s: List: %+v, %v", state, info, err)
			}
		}
		_, err := b.Head(t.Context(), "a/b")
		_, put := b.Put(t.Context(), "a/c", strings.NewReader("x"), bucket.PutOptions{})
		for _, err := range []error{err, put, b.Delete(t.Context(), "a/b"), b.SetTags(t.Context(), "a/b", nil)} {
			if !errors.Is(err, bucket.ErrNoBucket) {
				t.Errorf("%s: %v, want %v", state, err, bucket.ErrNoBucket)
			}
		}
	}
	refused("no folder")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	refused("an empty folder, as an unmounted file system leaves")
	if entries, err := os.ReadDir(path); err != nil || len(entries) > 0 {
		t.Errorf("the other folder has %v now, %v", entries, err)
	}
	if _, err := dir.Open(path); err != nil {
		t.Fatal(err)
	}
	refused("another bucket")
	if err := errors.Join(os.RemoveAll(path), os.Rename(path+".moved", path)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Head(t.Context(), "a/b"); err != nil {
		t.Errorf("after it came back: %v", err)
	}
}

// TestPlainFiles: an object is a file that any program reads, and a file that any program wrote is an object.
func TestPlainFiles(t *testing.T) {
	b, path := open(t)
	info := putText(t, b, "orders/x.db.zst", "content")
	file := filepath.Join(path, "orders", "x.db.zst")
	if content, err := os.ReadFile(file); err != nil || string(content) != "content" {
		t.Errorf("the file has %q, %v", content, err)
	}
	if err := b.SetTags(t.Context(), "orders/x.db.zst", map[string]string{"a": "b"}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("changed by someone"), 0o600); err != nil {
		t.Fatal(err)
	}
	head, err := b.Head(t.Context(), "orders/x.db.zst")
	if err != nil || head.ETag == info.ETag || head.SHA256 != "" || head.Size != 18 || len(head.Tags) > 0 {
		t.Errorf("Head of a changed file = %+v, %v: it has what belonged to the old content", head, err)
	}
	if err := os.WriteFile(filepath.Join(path, "orders", "foreign.db.zst"), []byte("foreign"), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign, err := b.Head(t.Context(), "orders/foreign.db.zst")
	if err != nil || foreign.Size != 7 || foreign.ETag == "" {
		t.Errorf("Head of a foreign file = %+v, %v", foreign, err)
	}
	if err := b.SetTags(t.Context(), "orders/foreign.db.zst", map[string]string{"k": "v"}); err != nil {
		t.Error(err)
	}
	if _, err := b.Put(t.Context(), "orders/foreign.db.zst", strings.NewReader("ours"), bucket.PutOptions{IfMatch: foreign.ETag}); err != nil {
		t.Error(err)
	}
	for _, garbage := range []string{"", "{", `{"format":9}`, `{"format":1,"versions":[{"size":-1}]}`, strings.Repeat("[", 10000)} {
		if err := os.WriteFile(filepath.Join(path, "orders", ".bucket", "x.db.zst.json"), []byte(garbage), 0o600); err != nil {
			t.Fatal(err)
		}
		if head, err := b.Head(t.Context(), "orders/x.db.zst"); err != nil || head.Size != 18 {
			t.Errorf("Head beside the record %.20q: %+v, %v", garbage, head, err)
		}
	}
}

func TestLinksAndOtherFiles(t *testing.T) {
	b, path := open(t)
	outside := t.TempDir()
	putText(t, b, "a/plain", "plain")
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"a/out": filepath.Join(outside, "secret"), "a/in": "plain", "a/dangling": "nowhere", "outside": outside, "inside": "a",
	} {
		if err := os.Symlink(target, filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
	}
	odd := []string{"a/out", "a/in", "a/dangling", "outside/secret", "inside/plain", "outside/new", "inside/new"}
	if mkfifo(filepath.Join(path, "a", "fifo")) == nil {
		odd = append(odd, "a/fifo")
	}
	for _, key := range odd {
		_, head := b.Head(t.Context(), key)
		rc, get := b.Get(t.Context(), key, 0, -1)
		if get == nil {
			rc.Close()
		}
		_, put := b.Put(t.Context(), key, strings.NewReader("x"), bucket.PutOptions{})
		for op, err := range map[string]error{"Head": head, "Get": get, "Put": put, "Delete": b.Delete(t.Context(), key), "SetTags": b.SetTags(t.Context(), key, nil)} {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%s(%s): %v, want %v", op, key, err, fs.ErrInvalid)
			}
		}
	}
	var listed []string
	for info, err := range b.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, info.Key)
	}
	if len(listed) != 1 || listed[0] != "a/plain" {
		t.Errorf("List = %q, want the plain file alone", listed)
	}
	if content, err := os.ReadFile(filepath.Join(outside, "secret")); err != nil || string(content) != "secret" {
		t.Errorf("outside the bucket there is %q now, %v", content, err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside the bucket there is %v now, %v", entries, err)
	}
}

func TestObjectAsFolder(t *testing.T) {
	b, _ := open(t)
	putText(t, b, "a", "object")
	if _, err := b.Put(t.Context(), "a/b", strings.NewReader("x"), bucket.PutOptions{}); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Put below an object: %v, want %v", err, fs.ErrInvalid)
	}
	putText(t, b, "f/x", "object")
	if _, err := b.Put(t.Context(), "f", strings.NewReader("x"), bucket.PutOptions{}); err == nil {
		t.Error("Put over a folder: no error")
	}
	rc, err := b.Get(t.Context(), "f/x", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if content, err := io.ReadAll(rc); err != nil || string(content) != "object" {
		t.Errorf("the folder's object has %q, %v", content, err)
	}
}
