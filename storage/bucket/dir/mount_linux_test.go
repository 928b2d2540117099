package dir_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/dir"
)

func mkfifo(path string) error { return syscall.Mkfifo(path, 0o600) }

// mount makes a small file system in memory, for root only.
func mount(t *testing.T, options string) (path string, unmount func()) {
	t.Helper()
	path = t.TempDir()
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, options); err != nil {
		if os.Getenv("CI") == "true" && os.Geteuid() == 0 {
			t.Fatalf("mount tmpfs: %v", err)
		}
		t.Skipf("SKIPPED: needs to mount a small tmpfs: %v", err)
	}
	mounted := true
	unmount = func() {
		if !mounted {
			return
		}
		mounted = false
		if err := syscall.Unmount(path, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", path, err)
		}
	}
	t.Cleanup(unmount)
	return path, unmount
}

func TestFullDisk(t *testing.T) {
	path, _ := mount(t, "size=256k")
	b, err := dir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	putText(t, b, "a/kept", "kept")
	for _, key := range []string{"a/new", "a/kept", "b/new"} {
		_, err := b.Put(t.Context(), key, bytes.NewReader(make([]byte, 1<<20)), bucket.PutOptions{})
		if !errors.Is(err, bucket.ErrFull) || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Put(%s) on a full disk: %v, want %v", key, err, bucket.ErrFull)
		}
	}
	if left := litter(t, path); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	for info, err := range b.List(t.Context(), "", "") {
		if err != nil || info.Key != "a/kept" || info.Size != 4 {
			t.Errorf("List: %+v, %v", info, err)
		}
	}
	putText(t, b, "a/small", "there is room again")
}

func TestMountGone(t *testing.T) {
	path, unmount := mount(t, "size=1m")
	b, err := dir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	putText(t, b, "a/b", "x")
	unmount()
	for info, err := range b.List(t.Context(), "", "") {
		if !errors.Is(err, bucket.ErrNoBucket) {
			t.Errorf("List of the bare mount point: %+v, %v", info, err)
		}
	}
	if _, err := b.Put(t.Context(), "a/b", strings.NewReader("x"), bucket.PutOptions{}); !errors.Is(err, bucket.ErrNoBucket) {
		t.Errorf("Put into the bare mount point: %v", err)
	}
	if _, err := dir.OpenMarked(path); !errors.Is(err, bucket.ErrNoBucket) {
		t.Errorf("OpenMarked of the bare mount point: %v", err)
	}
	if entries, err := os.ReadDir(path); err != nil || len(entries) > 0 {
		t.Errorf("the bare mount point has %v, %v", entries, err)
	}
}

func TestReadOnly(t *testing.T) {
	path, _ := mount(t, "size=1m")
	unmarked := path + "/unmarked"
	if err := os.Mkdir(unmarked, 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := dir.Create(path + "/marked")
	if err != nil {
		t.Fatal(err)
	}
	putText(t, b, "a/b", "x")
	if err := syscall.Mount("", path, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	other, err := dir.Open(unmarked)
	if err != nil {
		t.Fatalf("Open of an unmarked folder on read-only media: %v", err)
	}
	for _, b := range []*dir.Bucket{b, other} {
		_, err := b.Put(t.Context(), "a/c", strings.NewReader("x"), bucket.PutOptions{})
		for op, err := range map[string]error{"Put": err, "SetTags": b.SetTags(t.Context(), "a/b", nil)} {
			if !errors.Is(err, bucket.ErrDenied) {
				t.Errorf("%s on read-only media: %v, want %v", op, err, bucket.ErrDenied)
			}
		}
	}
	rc, err := b.Get(t.Context(), "a/b", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if content, err := io.ReadAll(rc); err != nil || string(content) != "x" {
		t.Errorf("Get = %q, %v", content, err)
	}
}
