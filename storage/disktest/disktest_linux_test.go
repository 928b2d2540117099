package disktest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"tablekeeper/storage/needtest"
)

func TestMain(m *testing.M) {
	if temporary := os.Getenv("DISKTEST_MOUNT_AND_DIE"); temporary != "" {
		dir := filepath.Join(temporary, fmt.Sprintf("%s%d-x", prefix, os.Getpid()), "disk")
		err := os.MkdirAll(dir, 0o755)
		if err == nil {
			err = exec.Command("mount", "-t", "tmpfs", "tmpfs", dir).Run() //nolint:noctx // it is over at once
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "left"), nil, 0o600)
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(3)
		}
		os.Exit(0) // as if it were killed: nothing is cleaned up
	}
	os.Exit(m.Run())
}

// What a killed test has left mounted is cleared by a later one, and nothing else is.
func TestClear(t *testing.T) {
	temporary := t.TempDir()
	other := filepath.Join(temporary, prefix+"notanumber")
	ours := filepath.Join(temporary, fmt.Sprintf("%s%d-x", prefix, os.Getpid()))
	for _, dir := range []string{other, ours} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "DISKTEST_MOUNT_AND_DIE="+temporary)
	if out, err := cmd.CombinedOutput(); err != nil {
		needtest.Missing(t, fmt.Errorf("nothing may be mounted here: %w: %s", err, out))
	}
	left := filepath.Join(temporary, fmt.Sprintf("%s%d-x", prefix, cmd.Process.Pid))
	if mounted, err := mountedIn(left); err != nil || len(mounted) != 1 {
		t.Fatalf("%v, %v", mounted, err)
	}
	if err := Clear(temporary); err != nil {
		t.Fatal(err)
	}
	if mounted, err := mountedIn(temporary); err != nil || len(mounted) != 0 {
		t.Errorf("still mounted: %v, %v", mounted, err)
	}
	entries, err := os.ReadDir(temporary)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}

// A test that ends, well or not, leaves nothing mounted.
func TestMountEndsWithTheTest(t *testing.T) {
	var dir string
	t.Run("disk", func(t *testing.T) {
		dir = Mount(t, "-o", "loop", Image(t, "ext4", 16<<20))
		if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	if dir == "" {
		t.Skip("SKIPPED, nothing may be mounted here")
	}
	if mounted, err := mountedIn(filepath.Dir(dir)); err != nil || len(mounted) != 0 {
		t.Errorf("%v, %v", mounted, err)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
