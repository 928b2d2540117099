package table

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSwapKeepsWhatBelongsToTheTable(t *testing.T) {
	s := stage(t, varieties[1])
	if err := os.Chmod(s.table, 0o640); err != nil {
		t.Fatal(err)
	}
	root := os.Getuid() == 0
	if root {
		if err := os.Chown(s.table, 1234, 4321); err != nil {
			t.Fatal(err)
		}
	}
	attribute := unix.Lsetxattr(s.table, "user.keep", []byte("this"), 0)
	if attribute != nil && !errors.Is(attribute, unix.ENOTSUP) {
		t.Fatal(attribute)
	}
	if _, err := Swap(t.Context(), s.table, s.fresh, SwapOptions{}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(s.table)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v", info.Mode())
	}
	if st := info.Sys().(*syscall.Stat_t); root && (st.Uid != 1234 || st.Gid != 4321) {
		t.Errorf("owner %d:%d", st.Uid, st.Gid)
	}
	if value, err := xattr(s.table, "user.keep"); attribute == nil && string(value) != "this" {
		t.Errorf("attribute %q, %v", value, err)
	}
	if h, _, err := readHeader(s.table); err != nil || !h.walMode {
		t.Errorf("the table is no longer in WAL mode: %v", err)
	}
}
