package cmd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"tablekeeper/storage/needtest"
)

// binary builds the program once for all tests of this package; the folder goes when they are done.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryFolder, "tablekeeper")
	out, err := exec.Command("go", "build", "-o", path, "./tablekeeper").CombinedOutput()
	if err != nil {
		return string(out), err
	}
	return path, nil
})

var binaryFolder string

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "tablekeeper-cmd-")
	if err != nil {
		panic(err)
	}
	binaryFolder = folder
	status := m.Run()
	os.RemoveAll(folder)
	os.Exit(status)
}

// tablekeeper runs the real program and returns what it prints; it must succeed.
func tablekeeper(t *testing.T, args ...string) string {
	t.Helper()
	out, status := attempt(t, args...)
	if status != 0 {
		t.Fatalf("tablekeeper %s: exit status %d\n%s", strings.Join(args, " "), status, out)
	}
	return out
}

// attempt runs the real program and returns what it prints, errors too, and its exit status.
func attempt(t *testing.T, args ...string) (string, int) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, path)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// need skips a test whose programs are not installed; in CI it fails.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		needtest.Program(t, name)
	}
}
