//go:build !linux

package disktest

import (
	"errors"
	"testing"
)

// Mount has nothing to mount with.
func Mount(t testing.TB, _ ...string) (dir string) {
	t.Helper()
	Missing(t, errors.ErrUnsupported)
	return ""
}
