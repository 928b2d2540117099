package recover

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// nameless opens a file that this process has open and that has lost the name path, deleted or replaced: its content is there
// until the last descriptor is closed. It returns nil if there is none. SQLite's locks on it are OFD locks, which this leaves alone.
func nameless(path string) *os.File {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		link := filepath.Join(dir, entry.Name())
		if target, err := os.Readlink(link); err != nil || target != path+" (deleted)" {
			continue
		}
		if named, err := os.Stat(path); err == nil {
			if open, err := os.Stat(link); err != nil || os.SameFile(named, open) {
				continue
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if f, err := os.Open(link); err == nil {
			return f
		}
	}
	return nil
}
