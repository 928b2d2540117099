package table

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	since := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	held, err := Lock(t.Context(), path, Owner{Host: "here", Function: "compact", Run: "r7", Since: since})
	must(t, err)
	_, err = Lock(t.Context(), path, Owner{})
	var locked *LockedError
	if !errors.As(err, &locked) || !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	if want := (Owner{PID: os.Getpid(), Host: "here", Function: "compact", Run: "r7", Since: since}); locked.Owner != want {
		t.Errorf("owner %+v, want %+v", locked.Owner, want)
	}
	for _, word := range []string{path, "compact", "r7", "here", "2026-03-04T05:06:07Z"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %s", err, word)
		}
	}
	must(t, held.Release())
	// What the last owner wrote is still there, and decides nothing.
	again, err := Lock(t.Context(), path, Owner{})
	must(t, err)
	must(t, again.Release())
}

func TestLockOfOtherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	pid, end := startChild(t, "lock", path)
	_, err := Lock(t.Context(), path, Owner{})
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Owner.PID != pid || locked.Owner.Function != "backup" {
		t.Fatalf("%v, want process %d", err, pid)
	}
	waited := make(chan error)
	go func() {
		held, err := LockWait(t.Context(), path, Owner{}, time.Minute)
		if err == nil {
			err = held.Release()
		}
		waited <- err
	}()
	end()
	must(t, <-waited)
}

func TestLockGivesUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	held, err := Lock(t.Context(), path, Owner{})
	must(t, err)
	defer func() { must(t, held.Release()) }()
	if _, err := LockWait(t.Context(), path, Owner{}, 2*lockPoll); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := LockWait(ctx, path, Owner{}, time.Minute); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A table has one lock, whatever it is called.
func TestLockThroughSymbolicLinks(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	must(t, os.WriteFile(path, nil, 0o644))
	elsewhere := t.TempDir()
	must(t, os.Symlink(dir, filepath.Join(elsewhere, "folder")))
	must(t, os.Symlink(path, filepath.Join(elsewhere, "file.db")))
	held, err := Lock(t.Context(), path, Owner{})
	must(t, err)
	defer func() { must(t, held.Release()) }()
	for _, name := range []string{"folder/a.db", "file.db"} {
		if _, err := Lock(t.Context(), filepath.Join(elsewhere, name), Owner{}); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLockWithDamagedOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	held, err := Lock(t.Context(), path, Owner{})
	must(t, err)
	must(t, os.WriteFile(statePath(path, ".lock"), []byte("\n{\"pid\":"), 0o644))
	_, err = Lock(t.Context(), path, Owner{})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "unknown") {
		t.Error(err)
	}
	must(t, held.Release())
	again, err := Lock(t.Context(), path, Owner{})
	must(t, err)
	must(t, again.Release())
}

func TestLockWhereNothingCanBeWritten(t *testing.T) {
	if _, err := Lock(t.Context(), filepath.Join(t.TempDir(), "no", "a.db"), Owner{}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, StateFolder), nil, 0o644))
	if _, err := Lock(t.Context(), filepath.Join(dir, "a.db"), Owner{}); err == nil {
		t.Error("a file in place of the state folder was accepted")
	}
	if os.Getuid() == 0 || runtime.GOOS == "windows" {
		t.Skip("SKIPPED the rest, root may write everywhere")
	}
	dir = t.TempDir()
	must(t, os.Chmod(dir, 0o500))
	if _, err := Lock(t.Context(), filepath.Join(dir, "a.db"), Owner{}); !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
}
