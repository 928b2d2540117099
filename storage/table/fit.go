package table

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// fitToSwapIn refuses what is no complete database of ours beside the table. It returns the new file's name relative to the
// table's folder.
func fitToSwapIn(real, newFile string) (rel string, id fileID, err error) {
	bad := func(format string, args ...any) (string, fileID, error) {
		return "", fileID{}, fmt.Errorf("the new file %s %s: %w", newFile, fmt.Sprintf(format, args...), fs.ErrInvalid)
	}
	resolved, err := realPath(newFile)
	if err != nil {
		return "", fileID{}, err
	}
	_, info, err := complete(resolved)
	if err != nil {
		return "", fileID{}, err
	}
	dir := filepath.Dir(real)
	if in := filepath.Dir(resolved); in != dir && in != StateDir(real) {
		return bad("must be in %s or %s", dir, StateDir(real))
	}
	switch {
	case resolved == real:
		return bad("is the table itself")
	case links(info) > 1:
		return bad("has another name")
	}
	folder, err := identify(dir)
	if err != nil {
		return "", fileID{}, err
	}
	if id, err = identify(resolved); err != nil {
		return "", fileID{}, err
	}
	if folder.Dev != id.Dev {
		return bad("is on another file system")
	}
	rel, err = filepath.Rel(dir, resolved)
	return rel, id, err
}

// complete refuses a new file that is no complete database, closed.
func complete(newFile string) (header, fs.FileInfo, error) {
	h, info, err := readHeader(newFile)
	if err != nil {
		return h, info, err
	}
	for _, ending := range []string{"-wal", "-journal"} {
		if beside, err := os.Lstat(newFile + ending); err == nil && beside.Size() > 0 {
			return h, info, fmt.Errorf("the new file %s is not closed, it has a %s: %w", newFile, ending, fs.ErrInvalid)
		}
	}
	if info.Size()%h.pageSize != 0 || h.sizeValid() && int64(h.pages) != info.Size()/h.pageSize {
		return h, info, fmt.Errorf("the new file %s is not complete, its header says %d pages of %d bytes, it has %d bytes: %w",
			newFile, h.pages, h.pageSize, info.Size(), fs.ErrInvalid)
	}
	return h, info, nil
}

// dress gives the new file what belongs to the table and not to its content, and makes it durable.
func (s *swapper) dress() error {
	if s.in.OldInode != 0 {
		if err := s.d.do("attributes", func() error { return copyAttributes(s.path, s.newFile()) }, s.path, s.newFile()); err != nil {
			return err
		}
		if h, _, err := readHeader(s.path); err == nil { // a damaged one says nothing
			if err := s.d.do("journalmode", func() error { return setWALMode(s.newFile(), h.walMode) }, s.newFile()); err != nil {
				return err
			}
		}
	}
	for _, ending := range sidecars {
		if err := s.d.remove(s.newFile() + ending); err != nil {
			return err
		}
	}
	if err := s.d.sync(s.newFile()); err != nil {
		return err
	}
	// Without its name, Resume would not know what became of it.
	return s.d.syncDir(filepath.Dir(s.newFile()))
}

// setWALMode sets the two bytes by which a database says whether it has a WAL, in a file that nobody has open
// (https://sqlite.org/fileformat2.html#file_format_version_numbers). Not by SQLite, so that a file that is right keeps every byte.
func setWALMode(path string, wal bool) error {
	h, _, err := readHeader(path)
	if err != nil || h.walMode == wal {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	version := []byte{1, 1}
	if wal {
		version = []byte{2, 2}
	}
	if _, err = f.WriteAt(version, 18); err == nil {
		err = f.Sync() // some change the bytes of a file that is in place already
	}
	return errors.Join(err, f.Close())
}

// absorb lets SQLite fold a WAL into the old file, and roll a hot journal back, so that the file is whole by itself: a
// process that dies between here and the rename leaves nothing behind that a stranger could miss. What SQLite cannot open
// cannot be folded; what lies beside it goes aside with it.
func (s *swapper) absorb(ctx context.Context) error {
	if !s.besides() {
		return nil
	}
	c, err := open(ctx, s.path, openOptions{})
	switch {
	case errors.Is(err, ErrBusy):
		return inUse(s.path, 0)
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrNotDatabase), errors.Is(err, ErrForeignJournal):
		s.aside, s.opts.Since = true, "" // nobody else can write to it either
		return nil
	case err != nil:
		return err
	}
	var busy, frames, moved int64
	since, err := s.opts.Since.across(ctx, c, func() error { return c.row(ctx, "PRAGMA wal_checkpoint(TRUNCATE)", &busy, &frames, &moved) })
	err = errors.Join(err, c.close())
	switch {
	case errors.Is(err, ErrBusy), err == nil && (busy != 0 || s.besides()):
		return inUse(s.path, 0)
	case errors.Is(err, ErrCorrupt): // such as a table that was cut short: its WAL keeps to it
		s.aside, s.opts.Since = true, ""
		return nil
	case err != nil:
		return fmt.Errorf("fold the WAL into the old file: %w", err)
	}
	s.opts.Since = since
	return nil
}

// besides tells whether a WAL, or a journal that SQLite would roll back, is beside the table.
func (s *swapper) besides() bool {
	if info, err := os.Lstat(s.path + "-wal"); err == nil && info.Size() > 0 {
		return true
	}
	return hotJournal(s.path + "-journal")
}

// hotJournal tells a journal from what a table in journal mode PERSIST keeps: one with its header zeroed.
func hotJournal(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Size() == 0 {
		return false
	}
	if !info.Mode().IsRegular() {
		return true // for SQLite to refuse
	}
	f, err := os.Open(path)
	if err != nil {
		return true
	}
	defer func() { _ = f.Close() }() // only read
	start := make([]byte, 28)
	_, err = io.ReadFull(f, start)
	_, hot := parseRollbackHeader(start)
	return hot && err == nil
}

// clear takes away what SQLite would apply to the new file. Under the proof of sole ownership.
func (s *swapper) clear() error {
	if s.besides() && !s.aside {
		return inUse(s.path, 1) // somebody came and went since absorb
	}
	cleared := false
	for _, ending := range sidecars {
		file := s.path + ending
		info, err := os.Lstat(file)
		if isGone(err) {
			continue
		}
		if err != nil {
			return err
		}
		if s.aside && ending != "-shm" && info.Size() > 0 {
			if err := s.keep(file, s.kept()+ending); err != nil {
				return err
			}
		}
		if err := s.d.remove(file); err != nil {
			return err
		}
		cleared = true
	}
	if !cleared {
		return nil
	}
	return s.d.syncDir(s.dir())
}
