package history

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestReadOnlyFolder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, File)
	first, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := done(t, first, newRun("backup", epoch, "a"), Succeeded, entries("backed_up", "a"))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	// Root ignores permissions, but not a read-only mount.
	if err := syscall.Mount(dir, dir, "", syscall.MS_BIND, ""); err != nil {
		skip(t, "bind mount", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	if err := syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		skip(t, "read-only bind mount", err)
	}
	if s, err := Open(t.Context(), path, Options{}); err == nil {
		t.Error("a history that cannot be written opens for writing")
		s.Close()
	}
	reader, err := OpenReader(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if _, err := reader.Get(t.Context(), r.ID); err != nil {
		t.Error(err)
	}
}

// skip says loudly what was not tested, and fails where everything must be.
func skip(t *testing.T, what string, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is needed: %v", what, err)
	}
	t.Skipf("NOT TESTED, no %s here: %v", what, err)
}

func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		skip(t, "tmpfs mount", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	path := filepath.Join(dir, File)
	s := open(t, path, Options{})
	kept := done(t, s, newRun("backup", epoch, "a"), Succeeded, entries("backed_up", "a"))
	ballast := filepath.Join(dir, "ballast")
	fillUp(t, ballast)
	r := newRun("backup", epoch, "a")
	r.Error = strings.Repeat("x", 200_000)
	if _, _, err := s.Begin(t.Context(), r); err == nil {
		t.Fatal("a full disk is no error")
	}
	if _, err := s.Get(t.Context(), kept.ID); err != nil {
		t.Errorf("reading on a full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(t.Context(), Change{Run: r, Entries: entries("backed_up", "a")}); err != nil {
		t.Errorf("after there is room again: %v", err)
	}
	if got, err := s.Get(t.Context(), r.ID); err != nil || len(got.Entries) != 1 {
		t.Errorf("run %+v, %v", got, err)
	}
}

func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBusy(t *testing.T) {
	path := temp(t)
	s := open(t, path, Options{})
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), `BEGIN IMMEDIATE`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	r := newRun("backup", epoch)
	if _, _, err := s.Begin(ctx, r); err == nil {
		t.Error("a locked history is written")
	}
	if _, err := s.List(t.Context(), Filter{}); err != nil {
		t.Errorf("reading beside a writer: %v", err)
	}
	if _, err := conn.ExecContext(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	begin(t, s, r)
}
