package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// sqliteMagic is how every SQLite database begins, https://sqlite.org/fileformat2.html#magic_header_string.
const sqliteMagic = "SQLite format 3\x00"

// search looks for SQLite files below a folder.
type search struct {
	root     string
	note     *screen.Progress
	denied   int  // folders that could not be read
	complete bool // every process could be looked into
	seen     int64
}

// notSearched are folders in which the kernel shows itself, not files.
var notSearched = []string{"/proc", "/sys", "/dev", "/run"}

func (s *search) run(ctx context.Context) ([]discovery, error) {
	root, err := filepath.Abs(s.root)
	if err == nil {
		// A link that the user named is meant; those below are not followed.
		root, err = filepath.EvalSymlinks(root)
	}
	if err != nil {
		return nil, fmt.Errorf("discover: %w", err)
	}
	paths, err := s.walk(ctx, root)
	if err != nil {
		return nil, fmt.Errorf("discover: %w", err)
	}
	return s.describe(ctx, paths)
}

func (s *search) walk(ctx context.Context, root string) ([]string, error) {
	var paths []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if path == root {
				return err
			}
			s.denied++
			return nil
		}
		if entry.IsDir() {
			if path != root && (slices.Contains(notSearched, path) || entry.Name() == table.StateFolder) {
				return filepath.SkipDir
			}
			return nil
		}
		s.seen++
		s.note.Show(fmt.Sprintf("%d files looked at, %d found", s.seen, len(paths)), 0, 0)
		if entry.Type().IsRegular() && isSQLite(path) {
			paths = append(paths, path)
		}
		return nil
	})
	return paths, err
}

// isSQLite reads the first 16 bytes. What cannot be opened is not one.
func isSQLite(path string) bool {
	// What was a file when it was listed may be a FIFO by now, and must not hold us up.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // only read
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return false
	}
	first := make([]byte, len(sqliteMagic))
	_, err = io.ReadFull(f, first)
	return err == nil && string(first) == sqliteMagic
}

func (s *search) describe(ctx context.Context, paths []string) ([]discovery, error) {
	open, err := table.ScanOpen()
	s.complete = err == nil
	if err != nil && !errors.Is(err, table.ErrUnseen) && !errors.Is(err, table.ErrUnsupported) {
		return nil, fmt.Errorf("discover: %w", err)
	}
	found := make([]discovery, len(paths))
	names := uniqueNames(paths)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2 * runtime.GOMAXPROCS(0))
	for i, path := range paths {
		group.Go(func() error {
			d := discovery{Name: names[i], Path: path, Processes: open.Holders(path)}
			if info, err := os.Lstat(path); err == nil {
				d.Bytes = info.Size()
			}
			stats, err := table.Stat(ctx, path)
			d.describe(stats, err)
			found[i] = d
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("discover: %w", err)
	}
	slices.SortStableFunc(found, func(a, b discovery) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return found, nil
}

// uniqueNames gives each file a valid name of its own: its base name, with the names of the folders above as needed.
func uniqueNames(paths []string) []string {
	names := make([]string, len(paths))
	taken := map[string]bool{}
	for i, path := range paths {
		name := validName(shelf.BaseName(strings.TrimLeft(filepath.Base(path), ".")))
		for up := filepath.Dir(path); taken[name] && up != filepath.Dir(up); up = filepath.Dir(up) {
			name = validName(filepath.Base(up) + "-" + name)
		}
		for n := 2; taken[name]; n++ {
			name = validName(fmt.Sprintf("t%d-%s", n, strings.TrimPrefix(name, fmt.Sprintf("t%d-", n-1))))
		}
		taken[name] = true
		names[i] = name
	}
	return names
}

func validName(s string) string {
	if shelf.ValidName(s) {
		return s
	}
	return cmp.Or(shelf.SuggestName(s), "table")
}
