package table

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// What a recovery does to copies of a damaged table. None of it touches the table itself.

// CopyDamaged copies the main file of the table at path, and its WAL if there is anything in it, to a new file at to, byte for
// byte. live says that others may have the table open: it is then copied in a read transaction, as far as SQLite can still begin
// one. The copy is not durable.
func CopyDamaged(ctx context.Context, path, to string, live bool) error {
	if live {
		if c, err := open(ctx, path, openOptions{readOnly: true, wait: defaultWait}); err == nil {
			defer func() { _ = c.close() }() // only read
			// What cannot be begun is too damaged for anybody to write to it.
			_ = c.hold(ctx)
		}
	}
	main, _, err := openFile(path)
	if err != nil {
		return fmt.Errorf("copy %s: %w", path, err)
	}
	defer func() { _ = main.Close() }() // only read
	if err := CopyFile(ctx, main, to); err != nil {
		return err
	}
	wal, size, err := openBeside(path + "-wal")
	if err != nil || wal == nil {
		return err
	}
	defer func() { _ = wal.Close() }() // only read
	if size == 0 {
		return nil
	}
	return CopyFile(ctx, wal, to+"-wal")
}

// CopyFile copies a whole file to a new one at to. The copy is not durable.
func CopyFile(ctx context.Context, from *os.File, to string) (err error) {
	info, err := from.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, info.Mode().Perm()|0o600)
	if err != nil {
		return fmt.Errorf("copy %s: %w", from.Name(), diskFull(err))
	}
	defer func() { err = errors.Join(err, diskFull(out.Close())) }()
	const block = 64 << 20 // between two looks at the context
	for at := int64(0); at < info.Size(); at += block {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := from.Seek(at, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(out, from, min(block, info.Size()-at)); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("copy %s: %w", from.Name(), diskFull(err))
		}
	}
	return nil
}

// Fold moves what is in the WAL of the file at path, a copy that nobody else has open, into the file.
func Fold(ctx context.Context, path string) error {
	c, err := connect(ctx, path, openOptions{private: true})
	if err == nil {
		var mode string
		err = errors.Join(c.row(ctx, "PRAGMA journal_mode=DELETE", &mode), c.close())
	}
	if err != nil {
		return fmt.Errorf("fold the WAL into %s: %w", path, err)
	}
	return nil
}

// RowPages are the pages of the file at path, a copy that nobody else has open, that hold the schema and the rows of its SQL
// tables: all but those of indexes, free ones and SQLite's own maps. An error that is ErrCorrupt says that they cannot be told.
func RowPages(ctx context.Context, path string) (map[uint32]bool, error) {
	c, err := connect(ctx, path, openOptions{private: true})
	if err != nil {
		return nil, fmt.Errorf("find the rows in %s: %w", path, classify(err))
	}
	pages := map[uint32]bool{1: true}
	err = c.each(ctx, `SELECT pageno FROM dbstat WHERE name = 'sqlite_schema' OR name IN (SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0)`,
		nil, func(scan func(...any) error) error {
			var page uint32
			err := scan(&page)
			pages[page] = true
			return err
		})
	if err = errors.Join(err, c.close()); err != nil {
		return nil, fmt.Errorf("find the rows in %s: %w", path, err)
	}
	return pages, nil
}

// Reindex makes the indexes of the file at path anew, a copy that nobody else has open.
func Reindex(ctx context.Context, path string) error {
	c, err := connect(ctx, path, openOptions{private: true})
	if err == nil {
		var mode string
		err = errors.Join(c.row(ctx, "PRAGMA journal_mode=DELETE", &mode), c.exec(ctx, "PRAGMA synchronous=OFF"))
		if err == nil {
			err = c.exec(ctx, "REINDEX")
		}
		err = errors.Join(err, c.close())
	}
	if err != nil {
		return fmt.Errorf("reindex %s: %w", path, classify(err))
	}
	return nil
}

// Rebuild makes a new file, out, of the rows in the file at path, a copy that nobody else has open and that is changed: the indexes are
// made anew, and free pages are left behind. Only the pages that RowPages gives have to be sound.
func Rebuild(ctx context.Context, path, out string) error {
	if err := rebuild(ctx, path, out); err != nil {
		return fmt.Errorf("rebuild %s: %w", path, errors.Join(err, disk{}.remove(out), disk{}.remove(out+"-journal")))
	}
	return nil
}

func rebuild(ctx context.Context, path, out string) error {
	if err := setWALMode(path, false); err != nil {
		return err
	}
	if err := dropFreelist(path); err != nil {
		return err
	}
	roots, err := indexRoots(ctx, path)
	if err != nil {
		return err
	}
	if err := emptyIndexes(path, roots); err != nil {
		return err
	}
	c, err := connect(ctx, path, openOptions{private: true})
	if err != nil {
		return err
	}
	var mode string
	err = errors.Join(c.row(ctx, "PRAGMA journal_mode=MEMORY", &mode), c.exec(ctx, "PRAGMA synchronous=OFF"))
	if err == nil {
		err = c.exec(ctx, "REINDEX")
	}
	if err == nil {
		err = c.exec(ctx, "VACUUM INTO ?", out)
	}
	return errors.Join(err, c.close())
}

// dropFreelist makes the file forget its free pages (https://sqlite.org/fileformat2.html#the_freelist): one of them may be damaged.
func dropFreelist(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, 8), 32)
	return errors.Join(err, f.Close())
}

func indexRoots(ctx context.Context, path string) ([]int64, error) {
	c, err := connect(ctx, path, openOptions{private: true})
	if err != nil {
		return nil, err
	}
	var roots []int64
	err = c.each(ctx, "SELECT rootpage FROM sqlite_schema WHERE type = 'index' AND rootpage > 1", nil, func(scan func(...any) error) error {
		var root int64
		err := scan(&root)
		roots = append(roots, root)
		return err
	})
	return roots, errors.Join(err, c.close())
}

// emptyIndexes makes each root an empty leaf (https://sqlite.org/fileformat2.html#b_tree_pages), so that REINDEX need not walk
// what may be damaged. The pages below are leaked, until the VACUUM.
func emptyIndexes(path string, roots []int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	h, err := headerOf(f, info)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	reserved := make([]byte, 1)
	_, err = f.ReadAt(reserved, 20)
	for _, root := range roots {
		page := make([]byte, h.pageSize)
		page[0] = 0x0a
		binary.BigEndian.PutUint16(page[5:], uint16(h.pageSize-int64(reserved[0]))) // 65536 is written as 0
		if err == nil {
			_, err = f.WriteAt(page, (root-1)*h.pageSize)
		}
	}
	return errors.Join(diskFull(err), f.Close())
}

// Form is what a database is beside its schema and its rows. What is zero, or what SQLite does not know, is SQLite's default.
type Form struct {
	PageSize      int64  // in bytes
	Encoding      string // UTF-8, UTF-16le, UTF-16be
	AutoVacuum    string // none, full, incremental
	UserVersion   int64
	ApplicationID int64
}

// Form is that of the table that was measured.
func (s Stats) Form() Form {
	return Form{PageSize: s.PageSize, Encoding: s.Encoding, AutoVacuum: s.AutoVacuum, UserVersion: s.UserVersion, ApplicationID: s.ApplicationID}
}

// pragmas are the statements that give an empty database the form; the first part only before it has anything.
func (f Form) pragmas() (before, after []string) {
	if validPageSize(f.PageSize) {
		before = append(before, fmt.Sprintf("PRAGMA page_size=%d", f.PageSize))
	}
	if slices.Contains([]string{"UTF-8", "UTF-16le", "UTF-16be"}, f.Encoding) { // it may come from a bucket
		before = append(before, "PRAGMA encoding='"+f.Encoding+"'")
	}
	if mode := slices.Index([]string{"none", "full", "incremental"}, f.AutoVacuum); mode > 0 {
		before = append(before, fmt.Sprintf("PRAGMA auto_vacuum=%d", mode))
	}
	return before, []string{fmt.Sprintf("PRAGMA user_version=%d", int32(f.UserVersion)), fmt.Sprintf("PRAGMA application_id=%d", int32(f.ApplicationID))}
}

// MakeEmpty makes a new database at path with the schema, a list of CREATE statements. What SQLite does not take, such as the
// SQL tables that it makes itself, is in skipped. The file is not durable.
func MakeEmpty(ctx context.Context, path string, schema []string, form Form) (skipped []string, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("make an empty table: %w", diskFull(err))
	}
	c, err := connect(ctx, path, openOptions{private: true})
	if err == nil {
		skipped, err = c.makeEmpty(ctx, schema, form)
		err = errors.Join(err, c.close())
	}
	if err != nil {
		return nil, fmt.Errorf("make an empty table: %w", errors.Join(err, disk{}.remove(path)))
	}
	return skipped, nil
}

func (c *conn) makeEmpty(ctx context.Context, schema []string, form Form) (skipped []string, err error) {
	before, after := form.pragmas()
	// VACUUM, so that there is a file even if there is no schema.
	for _, statement := range slices.Concat(before, []string{"VACUUM"}, after) {
		if err := c.exec(ctx, statement); err != nil {
			return nil, err
		}
	}
	for _, statement := range schema {
		err := c.exec(ctx, statement)
		switch {
		case err == nil:
		case ctx.Err() != nil, errors.Is(err, ErrNoSpace):
			return nil, err
		case !internalStatement(statement):
			skipped = append(skipped, fmt.Sprintf("%s: %v", firstLine(statement), err))
		}
	}
	return skipped, nil
}

// internalStatement tells the SQL tables that SQLite makes when they are needed.
func internalStatement(statement string) bool {
	return strings.HasPrefix(strings.ReplaceAll(strings.ToLower(statement), `"`, ""), "create table sqlite_")
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line[:min(len(line), 80)]
}

// Schema is the SQL of what is in the file at path, a copy that nobody else has open, in the order in which it was made.
func Schema(ctx context.Context, path string) ([]string, error) {
	c, err := connect(ctx, path, openOptions{private: true, readOnly: true})
	if err != nil {
		return nil, fmt.Errorf("read the schema of %s: %w", path, classify(err))
	}
	var schema []string
	err = c.list(ctx, &schema, "SELECT json_group_array(CAST(sql AS TEXT)) FROM (SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid)")
	return schema, errors.Join(err, c.close())
}

// SetJournalAside moves a rollback journal that lies beside the owned table at path, which is detached, to quarantine: a table in WAL
// mode has none, so that it can only be another's. It returns the folder, "" if there is no such journal.
func SetJournalAside(path string, opts SwapOptions) (string, error) {
	return setJournalAside(disk{}, path, opts)
}

func setJournalAside(d disk, path string, opts SwapOptions) (string, error) {
	journal := path + "-journal"
	if !hotJournal(journal) {
		return "", nil
	}
	now := opts.Now
	if now.IsZero() {
		now = time.Now()
	}
	dir, err := makeQuarantine(d, path, newQuarantineName(path, now, opts.Reason))
	if err != nil {
		return "", err
	}
	if err := d.rename(journal, filepath.Join(dir, filepath.Base(journal))); err != nil {
		return "", fmt.Errorf("set the journal beside %s aside: %w", path, err)
	}
	return dir, errors.Join(d.syncDir(dir), d.syncDir(filepath.Dir(path)))
}
