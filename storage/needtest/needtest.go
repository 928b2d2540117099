// Package needtest is for tests that need what not every machine has: programs, rights. Where it is missing they skip and say so, and fail
// in CI.
package needtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Missing ends a test that needs what this machine does not have: it is skipped, and in CI it fails.
func Missing(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	t.Skip("SKIPPED, NOT TESTED HERE: ", err)
}

// Program finds a program: in the PATH, or where pyenv keeps those that are written in Python.
func Program(t testing.TB, name string) (path string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if home, homeErr := os.UserHomeDir(); homeErr == nil {
		if path, err := exec.LookPath(filepath.Join(home, ".pyenv", "shims", name)); err == nil {
			return path
		}
	}
	Missing(t, fmt.Errorf("%w: run make setup", err))
	return ""
}
