package table

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Publish gives newFile, a complete and checked database, the name path on the same file system, where there is none, durably. newFile's own
// name is gone then. It leaves no other file in the folder: no lock, no intent. A crash leaves newFile under its own name,
// under path, or both, whole.
//
// fs.ErrExist: something has the name already, or a -wal or -journal is there that SQLite would apply to it; nothing is touched.
func Publish(ctx context.Context, path, newFile string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := publish(disk{}, path, newFile); err != nil {
		return fmt.Errorf("publish %s: %w", path, err)
	}
	return nil
}

func publish(d disk, path, newFile string) error {
	if _, _, err := complete(newFile); err != nil {
		return err
	}
	for _, ending := range append([]string{""}, sidecars...) {
		if _, err := os.Lstat(path + ending); !isGone(err) {
			return errors.Join(&fs.PathError{Op: "link", Path: path + ending, Err: fs.ErrExist}, err)
		}
	}
	if err := d.sync(newFile); err != nil {
		return err
	}
	if err := publishName(d, newFile, path); err != nil {
		return err
	}
	if dir := filepath.Dir(newFile); dir != filepath.Dir(path) {
		return d.syncDir(dir)
	}
	return nil
}

// publishName moves a name to where there is none, durably. A link, unlike a rename, never replaces.
func publishName(d disk, from, to string) error {
	err := d.link(from, to)
	if noLinks(err) {
		return renameToFree(d, from, to)
	}
	if err != nil {
		return err
	}
	if err := d.syncDir(filepath.Dir(to)); err != nil {
		return errors.Join(err, d.remove(to))
	}
	return d.remove(from)
}

func renameToFree(d disk, from, to string) error {
	if _, err := os.Lstat(to); !isGone(err) {
		return errors.Join(fs.ErrExist, err)
	}
	if err := d.rename(from, to); err != nil {
		return err
	}
	if err := d.syncDir(filepath.Dir(to)); err != nil {
		return errors.Join(err, d.rename(to, from))
	}
	return nil
}
