//go:build !linux

package disktest

import (
	"errors"
	"testing"

	"tablekeeper/storage/needtest"
)

// Mount has nothing to mount with.
func Mount(t testing.TB, _ ...string) (dir string) {
	t.Helper()
	needtest.Missing(t, errors.ErrUnsupported)
	return ""
}
