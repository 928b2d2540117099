package history

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// setAside renames a damaged history and begins a new one. Of several processes that find the damage, one renames and
// the others open what it has begun. The caller holds the store's locks.
func (s *Store) setAside(ctx context.Context, cause error) error {
	guard, err := lockFile(s.path + ".repair")
	if errors.Is(err, errHeld) {
		return fmt.Errorf("another process is replacing the damaged history: %w", cause)
	}
	if err != nil {
		return errors.Join(cause, err)
	}
	defer func() { _ = guard.release() }() // a lock that is not released ends with the process
	if err := s.disconnect(); err != nil {
		s.opts.Logger.Warn("close damaged history", "path", s.path, "error", err)
	}
	if err := s.connect(ctx); !isCorrupt(err) {
		return err // somebody else was faster
	}
	if err := s.disconnect(); err != nil {
		s.opts.Logger.Warn("close damaged history", "path", s.path, "error", err)
	}
	aside := s.path + ".corrupt-" + s.opts.Now().UTC().Format("20060102T150405.000Z")
	if err := renameAll(s.path, aside); err != nil {
		return fmt.Errorf("set damaged history aside: %w", errors.Join(err, cause))
	}
	s.opts.Logger.Error("history was damaged: it was set aside and a new one begun; past runs are not shown any more",
		"path", s.path, "aside", aside, "error", cause)
	return s.connect(ctx)
}

// renameAll moves the side files first: SQLite would replay an old -wal into the new file.
func renameAll(from, to string) error {
	for _, suffix := range []string{"-wal", "-shm", "-journal", ""} {
		if err := os.Rename(from+suffix, to+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncDir(filepath.Dir(from))
}

func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil // a folder cannot be flushed there
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
