package disktest

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tablekeeper/storage/needtest"
)

// prefix begins the name of each folder that is made, and is followed by the number of the process: a test that is killed cannot unmount.
const prefix = "tablekeeper-disk-"

var once sync.Once

// folder makes a folder that goes with the test, and clears what dead processes have left.
func folder(t testing.TB) string {
	t.Helper()
	once.Do(func() {
		if err := Clear(os.TempDir()); err != nil {
			t.Logf("what killed tests have left mounted stays: %v", err)
		}
	})
	dir, err := os.MkdirTemp("", prefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Image makes a file of size bytes with a file system of a kind: ext4 or xfs.
func Image(t testing.TB, kind string, size int64) string {
	t.Helper()
	mkfs := "mkfs." + kind
	if _, err := exec.LookPath(mkfs); err != nil {
		needtest.Missing(t, err)
	}
	image := filepath.Join(folder(t), "image")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, size)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), mkfs, "-q", image).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", mkfs, err, out)
	}
	return image
}

// Mount calls mount with the arguments and a new folder, and unmounts that when the test ends, however it ends.
func Mount(t testing.TB, args ...string) (dir string) {
	t.Helper()
	dir = filepath.Join(folder(t), "disk")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := mount(dir, args); err != nil {
		needtest.Missing(t, err)
	}
	t.Cleanup(func() { Unmount(t, dir) })
	return dir
}

// Remount mounts on a folder that Mount made, and Unmount has set free.
func Remount(t testing.TB, dir string, args ...string) {
	t.Helper()
	if err := mount(dir, args); err != nil {
		t.Fatal(err)
	}
}

func mount(dir string, args []string) error {
	// Not the test's context: that has ended when its cleanup is run.
	if out, err := exec.Command("mount", append(args, dir)...).CombinedOutput(); err != nil { //nolint:noctx // it is over at once
		return fmt.Errorf("mount %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Unmount takes a disk away; its loop device goes with it. What somebody still has open is an error, and is taken from the folder all the
// same. To do it twice is harmless.
func Unmount(t testing.TB, dir string) {
	t.Helper()
	err := unix.Unmount(dir, 0)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return // not mounted
	}
	if err != nil {
		t.Errorf("unmount %s: %v", dir, errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH)))
	}
}

// Cut cuts the power of the disk that is mounted on the folder: what is not on it is gone. Unmount follows.
func Cut(t testing.TB, dir string) {
	t.Helper()
	const (
		fsIOCShutdown = 0x8004587d // _IOR('X', 125, __u32), <linux/fs.h>
		noLogFlush    = 2
	)
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // the file system is gone
	if err := unix.IoctlSetPointerInt(int(f.Fd()), fsIOCShutdown, noLogFlush); err != nil {
		t.Skipf("SKIPPED, no power cuts on this file system: %v", err)
	}
}

// Clear unmounts and removes what processes that are gone have left in a folder for temporary files.
func Clear(temporary string) error {
	entries, err := os.ReadDir(temporary)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		rest, ok := strings.CutPrefix(entry.Name(), prefix)
		number, _, _ := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(number)
		if !ok || err != nil || pid <= 0 || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		left := filepath.Join(temporary, entry.Name())
		mounted, err := mountedIn(left)
		for _, dir := range mounted {
			err = errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH))
		}
		if err == nil { // never the content of what is still mounted
			err = os.RemoveAll(left)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// mountedIn lists the mount points in a folder, the last one mounted first.
func mountedIn(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list what is mounted: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	var found []string
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			found = append([]string{fields[4]}, found...)
		}
	}
	return found, nil
}
