package shelf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"tablekeeper/storage/table"
)

// Source is one place that tables come from: a folder (every SQLite file directly in it), a glob ("/srv/*/data/*.sqlite3";
// ** stands for any number of folders), or one file.
type Source struct {
	Path string
	// Name is the table's name, for a single file. For a glob it may hold {1}, {2}, ...: what the first, second, ... part
	// of the path with a wildcard stands for, the last without its ending. For a folder it must be empty.
	Name     string
	Settings Settings
}

// kind says how a source's path is to be read; a later one is more specific, and wins a file that both find.
type kind int

const (
	folder kind = iota
	glob
	single
)

// found is an entry of the file system that a source came upon.
type found struct {
	path     string
	captures []string
	info     fs.FileInfo
}

// sight is all that one source sees: entries, the folders it looked into, and what it could not look at.
type sight struct {
	kind     kind
	found    []found
	dirs     []string
	problems []Problem
}

func hasMeta(path string) bool { return strings.ContainsAny(path, "*?[") }

// check finds what is wrong with a source whatever the disk holds.
func (s Source) check() error {
	if s.Path == "" {
		return errors.New("a source of tables has no path")
	}
	if strings.ContainsRune(s.Path, 0) {
		return fmt.Errorf("source %q: a path cannot hold a NUL", s.Path)
	}
	if _, err := filepath.Match(s.Path, ""); err != nil && !exists(s.Path) {
		return fmt.Errorf("source %q: the glob is malformed", s.Path)
	}
	if s.Name != "" && !hasMeta(s.Path) && !ValidName(s.Name) {
		return fmt.Errorf("source %q: %w", s.Path, nameError(s.Name))
	}
	return nil
}

// nameError says what a name may be, and one that would do.
func nameError(name string) error {
	hint := ""
	if near := SuggestName(name); near != "" {
		hint = fmt.Sprintf("; %q would do", near)
	}
	return fmt.Errorf("%q cannot be the name of a table: it must be 1 to %d of a-z, 0-9, _ and -, beginning with a letter or a digit%s", name, maxName, hint)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// look finds what the source has to offer. Only a cancelled context is an error.
func (s Source) look(ctx context.Context) (sight, error) {
	if hasMeta(s.Path) && !exists(s.Path) {
		return s.lookGlob(ctx)
	}
	info, err := os.Stat(s.Path)
	switch {
	case err == nil && info.IsDir():
		return s.lookFolder(ctx)
	case err != nil && !s.isFile():
		return sight{problems: []Problem{{Path: s.Path, Reason: reasonOf(err), Detail: causeOf(err), Hint: "create the folder, or correct its path"}}}, nil
	}
	return s.lookSingle(), nil
}

// isFile tells whether a path at which nothing is found is meant to be a file.
func (s Source) isFile() bool {
	return s.Name != "" || filepath.Ext(s.Path) != "" || exists(beside(s.Path, recordSuffix))
}

func reasonOf(err error) Reason {
	if errors.Is(err, fs.ErrNotExist) {
		return ReasonMissing
	}
	return ReasonUnreadable
}

// lookSingle follows a symbolic link, as the user named it: what is kept of a table must lie beside its file.
func (s Source) lookSingle() sight {
	seen := sight{kind: single, dirs: []string{filepath.Dir(s.Path)}}
	path := s.Path
	info, err := os.Lstat(path)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			seen.dirs = []string{filepath.Dir(path)}
			info, err = os.Lstat(path)
		}
	}
	if err != nil {
		seen.problems = []Problem{{Path: s.Path, Reason: reasonOf(err), Detail: causeOf(err), Hint: "correct the path, or restore the table"}}
		return seen
	}
	seen.found = []found{{path: path, info: info}}
	return seen
}

func (s Source) lookFolder(ctx context.Context) (sight, error) {
	seen := sight{kind: folder, dirs: []string{s.Path}}
	if s.Name != "" {
		seen.problems = append(seen.problems, Problem{Path: s.Path, Reason: ReasonBadName, Detail: "a folder has no name of its own", Hint: "leave `name` out: each file gives its own"})
	}
	entries, err := os.ReadDir(s.Path)
	if err != nil {
		seen.problems = append(seen.problems, Problem{Path: s.Path, Reason: reasonOf(err), Detail: causeOf(err)})
	}
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return sight{}, err
		}
		seen.add(filepath.Join(s.Path, entry.Name()), entry, nil)
	}
	return seen, nil
}

// add takes an entry in, unless it is our own folder or gone again.
func (seen *sight) add(path string, entry fs.DirEntry, captures []string) {
	if entry.Name() == table.StateFolder {
		return
	}
	info, err := entry.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		seen.problems = append(seen.problems, Problem{Path: path, Reason: ReasonUnreadable, Detail: causeOf(err)})
		return
	}
	seen.found = append(seen.found, found{path: path, info: info, captures: captures})
}

// nameFor is the name the source gives a file, which may not be valid.
func (s Source) nameFor(f found) string {
	if s.Name == "" {
		return BaseName(f.path)
	}
	name := s.Name
	for i, text := range f.captures {
		name = strings.ReplaceAll(name, "{"+strconv.Itoa(i+1)+"}", text)
	}
	return name
}
