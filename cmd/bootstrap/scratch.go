package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"tablekeeper/functions"
	"tablekeeper/storage/table"
)

// scratch is the disk that tables are worked on: /tmp, of which Lambda gives what EphemeralStorage says.
type scratch struct {
	dir string

	mu       sync.Mutex
	promised int64 // bytes, of those who work now
}

// openScratch empties the folder: an invocation that was killed leaves its files to the next one in the same sandbox.
func openScratch(dir string) (*scratch, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("empty the scratch folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the scratch folder: %w", err)
	}
	return &scratch{dir: dir}, nil
}

// spare is what is left free, in bytes.
const spare = 16 << 20

// folder makes one for a table that will need so many bytes, times of its size. It is refused before a byte is fetched if that
// is more than there is.
func (s *scratch) folder(name string, size, times int64) (path string, remove func() error, err error) {
	need := size * times
	s.mu.Lock()
	defer s.mu.Unlock()
	// What is promised may be written already: the sum is too cautious rather than too bold.
	if free, known := freeSpace(s.dir); known && need+s.promised+spare > free {
		return "", nil, s.tooLarge(name, size, times, max(free-spare-s.promised, 0))
	}
	path, err = os.MkdirTemp(s.dir, "table-")
	if err != nil {
		return "", nil, fmt.Errorf("make a folder for %s: %w", name, err)
	}
	s.promised += need
	return path, func() error {
		s.mu.Lock()
		s.promised -= need
		s.mu.Unlock()
		return os.RemoveAll(path)
	}, nil
}

func (s *scratch) tooLarge(name string, size, times, room int64) error {
	return &functions.Failure{
		Reason: "too_large", Final: s.promised == 0,
		Err: fmt.Errorf("table %s has %d bytes, for which %d are needed in %s, and there is room for %d: %w", name, size, size*times, s.dir, room, table.ErrNoSpace),
		Try: "a larger EphemeralStorage (10,240 MB at most), or tables on EFS: see docs/aws.md",
	}
}

// sizeOf is the size of a file, 0 if there is none.
func sizeOf(path string) (int64, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
