//go:build !linux

package table

import "os"

// copyAttributes gives a new file the permissions of an old one. Owner and access control list are those of whoever runs
// this.
func copyAttributes(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	return os.Chmod(to, info.Mode().Perm())
}
