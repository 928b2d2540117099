// Package childtest has another process do part of a test: this very test binary again, in a role. On Linux it is killed, or a call of it
// fails, where the test says so: strace does that. Where strace is missing tests skip and say so, and fail in CI.
package childtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// variable holds what a child is to do: words separated by newlines, the first of which is its role.
const variable = "TABLEKEEPER_TEST_CHILD"

// Run is all that a test named TestChild does: in a child it plays the role, with the words that follow it, and ends the process;
// elsewhere it skips.
func Run(t *testing.T, roles map[string]func(words []string) error) {
	t.Helper()
	words := strings.Split(os.Getenv(variable), "\n")
	if words[0] == "" {
		t.Skip("only for other tests")
	}
	if err := roles[words[0]](words[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Command is a child: a role and its words. It has one processor, so that the number of a call means the same each time.
func Command(t testing.TB, words ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Not with the test's context: a cleanup may let it go on, and wait for its end.
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), self, "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), variable+"="+strings.Join(words, "\n"), "GOMAXPROCS=1", "GORACE=atexit_sleep_ms=0")
	return cmd
}
