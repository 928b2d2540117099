// Package needtest is for tests that need what not every machine has: programs, rights. Where it is missing they skip and say so, and fail
// in CI. And it finds ports.
package needtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
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

// Port finds a port of this machine that nobody listens on, for a program that takes no port 0, or that is to come back to the same one. No
// system gives it to somebody who asks for any, or for the other end of a connection: one of those may be taken a moment later.
func Port() (int, error) {
	var err error
	for range 100 {
		port := 20000 + rand.IntN(10000)
		var l net.Listener
		if l, err = new(net.ListenConfig).Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("find a port that is free: %w", err)
}
