//go:build !linux

package table

// fileSystem cannot tell here: the caller lets SQLite try.
func fileSystem(string) (string, error) { return "", ErrUnsupported }
