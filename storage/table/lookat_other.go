//go:build !unix

package table

import "os"

// lookAt is identify and the size.
func lookAt(path string) (id fileID, size int64, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return id, 0, err
	}
	id, err = identify(path)
	return id, info.Size(), err
}
