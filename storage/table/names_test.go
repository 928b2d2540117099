package table

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A single file that is mounted, as containers do, is on a file system of its own as far as names go.
func mountedFile(op string, _ ...string) error {
	if op == "link" {
		return syscall.EXDEV
	}
	return nil
}

func TestSwapOfAMountedFileSaysWhatWorks(t *testing.T) {
	path, made := sinceScene(t, false)
	if _, err := swap(t.Context(), disk{before: mountedFile}, path, made, SwapOptions{}); !errors.Is(err, ErrNoLinks) {
		t.Errorf("swap: %v", err)
	}
	_, err := Overwrite(t.Context(), path, made, OverwriteOptions{})
	must(t, err)
}

func TestOnlineLeavesAMountedFileInItsPlace(t *testing.T) {
	table := cutScene(t, filepath.Join(t.TempDir(), "x.db"), quietOwned)
	table.disk = disk{before: mountedFile}
	report, err := compactBeside(t.Context(), table)
	if err != nil || report.Status != Compacted || report.Strategy != strategyVacuum {
		t.Errorf("%+v, %v", report, err)
	}
	must(t, table.Close())
}

// Somebody gives the old file a second name while it is replaced, such as a backup made by links. It is the table of that moment to them.
func TestCutLeavesWhatHasAnotherName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	kept := path + "-kept"
	table := cutScene(t, path, quietOwned)
	writeOwned(t, table, "INSERT INTO t(v) VALUES(randomblob(5000000))") // more than is freed at a time
	table.disk = disk{before: func(op string, paths ...string) error {
		if op == "rename" && paths[1] == path {
			return os.Link(path, kept)
		}
		return nil
	}}
	report, err := compactBeside(t.Context(), table)
	must(t, err)
	must(t, table.Close()) // the old file has been removed then
	if _, err := os.Lstat(kept); report.Strategy != strategyOnline || err != nil {
		t.Skip("the files were not exchanged here: ", report.Note)
	}
	check, err := Check(t.Context(), kept, CheckOptions{})
	if err != nil || !check.OK || check.Rows["t"] != cutRowsAtFirst+1 {
		t.Errorf("%+v, %v", check, err)
	}
}
