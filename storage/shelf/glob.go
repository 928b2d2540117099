package shelf

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tablekeeper/storage/table"
)

// lookGlob matches part by part. Unlike filepath.Glob it tells which folders it could not read, knows **, and remembers
// what each wildcard stood for.
func (s Source) lookGlob(ctx context.Context) (sight, error) {
	seen := sight{kind: glob}
	root, parts := splitGlob(s.Path)
	if err := seen.match(ctx, root, parts, nil); err != nil {
		return sight{}, err
	}
	if len(seen.found) == 0 && len(seen.problems) == 0 {
		seen.problems = []Problem{{Path: s.Path, Reason: ReasonNoMatch, Detail: "nothing matches", Hint: "try it with ls: ls " + s.Path}}
	}
	return seen, nil
}

// splitGlob gives the folder without wildcards that a glob begins with, and the parts after it.
func splitGlob(pattern string) (root string, parts []string) {
	pattern = filepath.Clean(pattern)
	root = filepath.VolumeName(pattern)
	rest := pattern[len(root):]
	if trimmed, ok := strings.CutPrefix(rest, string(filepath.Separator)); ok {
		root, rest = root+string(filepath.Separator), trimmed
	}
	parts = strings.Split(rest, string(filepath.Separator))
	for len(parts) > 1 && !hasMeta(parts[0]) {
		root, parts = filepath.Join(root, parts[0]), parts[1:]
	}
	if root == "" {
		root = "."
	}
	return root, parts
}

// match goes down one folder.
func (seen *sight) match(ctx context.Context, dir string, parts, captures []string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if parts[0] == "**" {
		return seen.matchDeep(ctx, dir, parts, captures)
	}
	if len(parts) > 1 && !hasMeta(parts[0]) {
		if next := filepath.Join(dir, parts[0]); isFolder(next) {
			return seen.match(ctx, next, parts[1:], captures)
		}
		return nil
	}
	if len(parts) == 1 {
		seen.dirs = append(seen.dirs, dir)
	}
	for _, entry := range seen.list(dir) {
		if err := seen.matchEntry(ctx, dir, entry, parts, captures); err != nil {
			return err
		}
	}
	return nil
}

func (seen *sight) matchEntry(ctx context.Context, dir string, entry fs.DirEntry, parts, captures []string) error {
	name := entry.Name()
	if fits, err := filepath.Match(parts[0], name); err != nil || !fits || hiddenFrom(parts[0], name) {
		return nil //nolint:nilerr // the glob was checked when the shelf was opened
	}
	path := filepath.Join(dir, name)
	if len(parts) > 1 {
		if !isFolder(path) {
			return nil
		}
		return seen.match(ctx, path, parts[1:], with(captures, name))
	}
	if hasMeta(parts[0]) {
		captures = with(captures, BaseName(name))
	}
	seen.add(path, entry, captures)
	return nil
}

// matchDeep lets ** stand for no folder, then for each below. Links are not followed: they may go round in a ring.
func (seen *sight) matchDeep(ctx context.Context, dir string, parts, captures []string) error {
	rest := parts[1:]
	if len(rest) == 0 {
		rest = []string{"*"}
	}
	if err := seen.match(ctx, dir, rest, captures); err != nil {
		return err
	}
	for _, entry := range seen.list(dir) {
		if !entry.IsDir() || strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		if err := seen.match(ctx, filepath.Join(dir, entry.Name()), parts, captures); err != nil {
			return err
		}
	}
	return nil
}

// hiddenFrom keeps names with a leading dot from wildcards, as a shell does; our own folder is one of them.
func hiddenFrom(pattern, name string) bool {
	return strings.HasPrefix(name, ".") && !strings.HasPrefix(pattern, ".") || name == table.StateFolder
}

func (seen *sight) list(dir string) []fs.DirEntry {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		seen.problems = append(seen.problems, Problem{Path: dir, Reason: ReasonUnreadable, Detail: causeOf(err)})
	}
	return entries
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// with is a copy: the captures of one branch must not be overwritten by the next.
func with(captures []string, text string) []string {
	return append(captures[:len(captures):len(captures)], text)
}

// covers tells whether a source that is no folder would find path if it were there.
func (s Source) covers(path string) bool {
	if !hasMeta(s.Path) || exists(s.Path) {
		real, err := filepath.EvalSymlinks(s.Path)
		return path == s.Path || err == nil && path == real
	}
	_, ok := s.matchPath(path)
	return ok
}

// capturesOf is what the wildcards of a glob stand for in path.
func (s Source) capturesOf(path string) []string {
	if !hasMeta(s.Path) {
		return nil
	}
	captures, _ := s.matchPath(path)
	return captures
}

func (s Source) matchPath(path string) (captures []string, ok bool) {
	root, parts := splitGlob(s.Path)
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return nil, false
	}
	return matchParts(parts, strings.Split(rel, string(filepath.Separator)))
}

func matchParts(parts, names []string) (captures []string, ok bool) {
	if len(parts) == 0 {
		return nil, len(names) == 0
	}
	if parts[0] == "**" {
		for skip := range names {
			if captures, ok := matchParts(parts[1:], names[skip:]); ok {
				return captures, true
			}
		}
		return nil, len(parts) == 1
	}
	if len(names) == 0 {
		return nil, false
	}
	if fits, err := filepath.Match(parts[0], names[0]); err != nil || !fits {
		return nil, false
	}
	captures, ok = matchParts(parts[1:], names[1:])
	if ok && hasMeta(parts[0]) {
		text := names[0]
		if len(names) == 1 {
			text = BaseName(text)
		}
		captures = append([]string{text}, captures...)
	}
	return captures, ok
}
