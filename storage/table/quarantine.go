package table

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Quarantined is what a table was before it was replaced: the file under its own name, with the -wal and -journal that could
// not be folded into it, in a folder of its own. Moved out together, they are the table again.
type Quarantined struct {
	Table  string    // base name of the table's file
	Path   string    // the folder
	Time   time.Time // when it was replaced, UTC, in milliseconds
	Reason string
	Bytes  int64
}

// quarantineStamp is the layout of the names in quarantine: they sort by time.
const quarantineStamp = "20060102T150405.000Z"

var quarantineName = regexp.MustCompile(`^(\d{8}T\d{6}\.\d{3}Z)-([a-z0-9][a-z0-9_-]{0,39})$`)

func parseQuarantineName(name string) (at time.Time, reason string, ok bool) {
	m := quarantineName.FindStringSubmatch(name)
	if m == nil {
		return time.Time{}, "", false
	}
	at, err := time.Parse(quarantineStamp, m[1])
	return at, m[2], err == nil
}

// QuarantineDir returns the folder of what was replaced of the table at path.
func QuarantineDir(path string) string {
	return filepath.Join(StateDir(path), "quarantine", filepath.Base(path))
}

var notInReason = regexp.MustCompile(`[^a-z0-9_-]+`)

// newQuarantineName returns a name that is not taken. A clock that stands still or goes back gives a later name all the same.
func newQuarantineName(path string, now time.Time, reason string) string {
	reason = strings.Trim(notInReason.ReplaceAllString(strings.ToLower(reason), "-"), "-_")
	if reason == "" {
		reason = "replaced"
	}
	reason = reason[:min(len(reason), 40)]
	for {
		name := now.UTC().Format(quarantineStamp) + "-" + reason
		if _, err := os.Lstat(filepath.Join(QuarantineDir(path), name)); isGone(err) {
			return name
		}
		now = now.Add(time.Millisecond)
	}
}

// makeQuarantine makes the folder for one replaced table, durably.
func makeQuarantine(d disk, path, name string) (string, error) {
	dir := QuarantineDir(path)
	entry := filepath.Join(dir, name)
	for _, each := range []string{filepath.Dir(dir), dir, entry} {
		if err := d.mkdir(each, 0o700); err != nil {
			return "", fmt.Errorf("make the quarantine: %w", err)
		}
	}
	return entry, nil
}

// QuarantineList returns what is in quarantine for all tables in a folder, by table, oldest first. It follows no symbolic links,
// and passes over what this package did not put there.
func QuarantineList(dir string) ([]Quarantined, error) {
	root, err := openQuarantine(dir)
	if root == nil || err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // only read
	return listQuarantine(root, dir)
}

// Expiry says what may leave the quarantine.
type Expiry struct {
	Before time.Time // what was put there before
	Keep   int       // the newest so many of each table stay whatever their age
	// Holds tells what stays all the same; nil: nothing does. It is asked just before each removal.
	Holds  func(Quarantined) bool
	DryRun bool // remove nothing, only return what would go
}

// QuarantineExpire removes from quarantine what is due, for all tables in a folder, and returns what it removed. Nothing of a
// table whose swap was interrupted is removed before Resume has been there. An error leaves the rest in place.
func QuarantineExpire(ctx context.Context, dir string, due Expiry) ([]Quarantined, error) {
	return expireQuarantine(ctx, disk{}, dir, due)
}

func expireQuarantine(ctx context.Context, d disk, dir string, due Expiry) (removed []Quarantined, err error) {
	root, err := openQuarantine(dir)
	if root == nil || err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // only the removals count, and they have been made
	all, err := listQuarantine(root, dir)
	if err != nil {
		return nil, err
	}
	left := make(map[string]int)
	for _, q := range all {
		left[q.Table]++
	}
	for _, q := range all { // oldest first
		if left[q.Table] <= due.Keep || !q.Time.Before(due.Before) || hasIntent(dir, q.Table) || due.Holds != nil && due.Holds(q) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return removed, err
		}
		if !due.DryRun {
			// Inside root, so that no symbolic link leads the removal elsewhere.
			name := path.Join(q.Table, filepath.Base(q.Path))
			if err := d.do("removeall", func() error { return root.RemoveAll(name) }, q.Path); err != nil {
				return removed, fmt.Errorf("remove from quarantine: %w", err)
			}
		}
		left[q.Table]--
		removed = append(removed, q)
	}
	return removed, nil
}

func hasIntent(dir, base string) bool {
	_, err := os.Lstat(statePath(filepath.Join(dir, base), ".intent"))
	return err == nil
}

// openQuarantine returns nil if there is none.
func openQuarantine(dir string) (*os.Root, error) {
	for _, each := range []string{filepath.Join(dir, StateFolder), filepath.Join(dir, StateFolder, "quarantine")} {
		info, err := os.Lstat(each)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is not a folder: %w", each, fs.ErrInvalid)
		}
		if err != nil {
			return nil, fmt.Errorf("list the quarantine: %w", err)
		}
	}
	return os.OpenRoot(filepath.Join(dir, StateFolder, "quarantine"))
}

func listQuarantine(root *os.Root, dir string) ([]Quarantined, error) {
	var all []Quarantined
	tables, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("list the quarantine: %w", err)
	}
	for _, table := range tables {
		if !table.IsDir() {
			continue
		}
		entries, err := fs.ReadDir(root.FS(), table.Name())
		if err != nil {
			return nil, fmt.Errorf("list the quarantine: %w", err)
		}
		for _, entry := range entries {
			at, reason, ok := parseQuarantineName(entry.Name())
			if !ok || !entry.IsDir() {
				continue
			}
			q := Quarantined{Table: table.Name(), Time: at, Reason: reason}
			q.Path = filepath.Join(QuarantineDir(filepath.Join(dir, q.Table)), entry.Name())
			if q.Bytes, err = bytesIn(root, path.Join(q.Table, entry.Name())); err != nil {
				return nil, fmt.Errorf("list the quarantine: %w", err)
			}
			all = append(all, q)
		}
	}
	slices.SortStableFunc(all, func(a, b Quarantined) int {
		if c := strings.Compare(a.Table, b.Table); c != 0 {
			return c
		}
		return a.Time.Compare(b.Time)
	})
	return all, nil
}

func bytesIn(root *os.Root, dir string) (int64, error) {
	entries, err := fs.ReadDir(root.FS(), dir)
	var sum int64
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
	}
	return sum, err
}
