package childtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"tablekeeper/storage/needtest"
)

// NeedStrace ends a test where no process may be traced.
func NeedStrace(t testing.TB) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "strace", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		needtest.Missing(t, fmt.Errorf("strace may not trace here: %w: %s", err, out))
	}
}

// Strace is a child whose threads are all traced, as the arguments to strace say.
func Strace(t testing.TB, words []string, args ...string) *exec.Cmd {
	t.Helper()
	child := Command(t, words...)
	cmd := exec.CommandContext(t.Context(), "strace", append(append([]string{"-f", "-qq"}, args...), child.Args...)...)
	cmd.Env = child.Env
	return cmd
}

// Killed kills a child at its n-th call of a name, or of any of several: "rename,renameat". It is false if the child never made so many,
// and did its work.
func Killed(t testing.TB, calls string, n int, words ...string) bool {
	t.Helper()
	inject := fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", calls, n)
	out, err := Strace(t, words, "-o", os.DevNull, "-e", "trace="+calls, "-e", inject).CombinedOutput()
	return err != nil && bySIGKILL(t, fmt.Sprintf("killed at %s %d", calls, n), out, err)
}

// Dead runs a child that may kill itself, and tells whether it did.
func Dead(t testing.TB, words ...string) bool {
	t.Helper()
	out, err := Command(t, words...).CombinedOutput()
	return err != nil && bySIGKILL(t, words[0], out, err)
}

// bySIGKILL ends the test if a child ended by itself. strace ends by the signal that its child ended by.
func bySIGKILL(t testing.TB, at string, out []byte, err error) bool {
	t.Helper()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
			return true
		}
	}
	t.Fatalf("%s: %v\n%s", at, err, out)
	return false
}
