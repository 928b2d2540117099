package table

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// copyAttributes gives a new file the owner, the permissions, the access control list and the user attributes of an old
// one: whoever could use the table still can. Security labels are copied where that is allowed.
func copyAttributes(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if err := copyOwner(info, to); err != nil {
		return err
	}
	// After the owner, since chown clears bits.
	if err := os.Chmod(to, info.Mode().Perm()); err != nil {
		return err
	}
	return copyXattrs(from, to)
}

func copyOwner(info fs.FileInfo, to string) error {
	want, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	have, err := os.Lstat(to)
	if err != nil {
		return err
	}
	if st, ok := have.Sys().(*syscall.Stat_t); ok && st.Uid == want.Uid && st.Gid == want.Gid {
		return nil
	}
	if err := os.Lchown(to, int(want.Uid), int(want.Gid)); err != nil {
		return fmt.Errorf("give the new file the owner of the old one (%d:%d): %w", want.Uid, want.Gid, err)
	}
	return nil
}

func copyXattrs(from, to string) error {
	names, err := xattrNames(from)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "listxattr", Path: from, Err: err}
	}
	for _, name := range names {
		value, err := xattr(from, name)
		if err == nil {
			err = unix.Lsetxattr(to, name, value, 0)
		}
		ours := strings.HasPrefix(name, "user.") || name == "system.posix_acl_access"
		if err != nil && ours {
			return &fs.PathError{Op: "setxattr " + name, Path: to, Err: err}
		}
	}
	return nil
}

func xattrNames(path string) ([]string, error) {
	list, err := grown(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	var names []string
	for name := range bytes.SplitSeq(list, []byte{0}) {
		if len(name) > 0 {
			names = append(names, string(name))
		}
	}
	return names, err
}

func xattr(path, name string) ([]byte, error) {
	return grown(func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
}

// grown asks for a size, then for the value.
func grown(get func([]byte) (int, error)) ([]byte, error) {
	n, err := get(nil)
	if n <= 0 || err != nil {
		return nil, err
	}
	b := make([]byte, n)
	n, err = get(b)
	return b[:max(n, 0)], err
}
