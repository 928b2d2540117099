// Package salvage reads what can still be read of a damaged SQLite file into a new one.
//
// It reads the pages itself (https://sqlite.org/fileformat.html), so that one bad page costs its own rows and not, as through
// SQL, all that come after it. Rows that are reached from the root of their SQL table go into that table; rows on pages that
// nothing leads to go into the SQL table lost_and_found, since they may be old versions or deleted ones.
//
// The result is for a human to look at. It may hold rows that were deleted and rows whose content is damaged: nothing here
// puts it in the place of a table. Reading the file and its write-ahead log as pages is left to the caller.
package salvage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Pages are the pages of a damaged file. Page n is counted from 1; a page that cannot be read is an error, and costs what is
// on it.
type Pages interface {
	PageSize() int
	PageCount() int64
	Page(n int64) ([]byte, error)
}

// Options of File. The zero value is usable.
type Options struct {
	// Schema is the last known schema (CREATE statements), for a file whose own can no longer be read. Its SQL tables are
	// made, and what is found goes to lost_and_found: without the roots, rows belong to no SQL table.
	Schema []string
	// Progress is told how many of the pages are done.
	Progress func(done, total int64)
}

// Report says what was salvaged and what was not.
type Report struct {
	Tables       []TableReport `json:"tables"`
	Pages        int64         `json:"pages"`
	PagesLost    int64         `json:"pages_lost"`     // that could not be read, or hold something else than their parent says
	CellsLost    int64         `json:"cells_lost"`     // rows on readable pages that could not be decoded
	LostAndFound int64         `json:"lost_and_found"` // rows on pages that nothing leads to
	SchemaFrom   string        `json:"schema_from"`    // file, scan or given
	Problems     []string      `json:"problems,omitempty"`
}

// TableReport is one SQL table's part.
type TableReport struct {
	Name      string `json:"name"`
	Rows      int64  `json:"rows"`
	PagesLost int64  `json:"pages_lost"`
	CellsLost int64  `json:"cells_lost"`
	Refused   int64  `json:"refused"` // rows that the SQL table's constraints refused, such as a second one with the same key
}

// maxProblems bounds what a report says in words.
const maxProblems = 50

func (r *Report) problem(format string, args ...any) {
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
}

// ErrNothing: not one page of the file is one of SQLite's.
var ErrNothing = errors.New("nothing in it can be read as SQLite pages")

// File writes what can be read of source into a new file at path, which must not exist. After an error there is no file.
func File(ctx context.Context, source Pages, path string, opts Options) (report Report, err error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return Report{}, fmt.Errorf("salvage into %s: %w", path, errors.Join(fs.ErrExist, err))
	}
	unfinished := path + ".unfinished"
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("salvage into %s: %w", path, err), removeIfThere(unfinished))
		}
	}()
	if err := removeIfThere(unfinished); err != nil {
		return Report{}, err
	}
	s := newSalvager(source, opts)
	if err := s.run(ctx, unfinished); err != nil {
		return Report{}, err
	}
	return s.report, os.Rename(unfinished, path)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
