package table

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// spareSpace is left free for others.
const spareSpace = 1 << 20

// need is so many bytes on the file system that has path, or the folder that it will be in.
type need struct {
	path  string
	bytes int64
}

// enoughSpace returns ErrNoSpace unless every file system has what is needed on it, all needs added up. Where the system
// does not say what is free, it is for the work itself to find out.
func enoughSpace(needs ...need) error {
	want := map[uint64]int64{}
	for _, n := range needs {
		dir := n.path
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			dir = filepath.Dir(dir)
		}
		free, device, err := freeSpace(dir)
		if errors.Is(err, ErrUnsupported) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look for free space in %s: %w", dir, err)
		}
		want[device] += n.bytes
		if want[device]+spareSpace > free {
			return fmt.Errorf("%w: %s has %d bytes free, %d are needed", ErrNoSpace, dir, free, want[device]+spareSpace)
		}
	}
	return nil
}

// tempDir is the folder in which SQLite puts the temporary copy that a VACUUM makes (https://sqlite.org/tempfiles.html,
// section 5).
func tempDir() string {
	for _, dir := range []string{os.Getenv("SQLITE_TMPDIR"), os.Getenv("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp"} {
		if info, err := os.Stat(dir); dir != "" && err == nil && info.IsDir() {
			return dir
		}
	}
	return "."
}
