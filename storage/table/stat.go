package table

import (
	"context"
	"fmt"

	sqlite3 "modernc.org/sqlite/lib"
)

// Stats are the measures of a table as its last commit left it. Bytes are integers, Bytes is the main file's size.
type Stats struct {
	Path          string  `json:"path"`
	PageSize      int64   `json:"page_size"`
	PageCount     int64   `json:"page_count"` // pages of the database, those still in the WAL included
	FreePages     int64   `json:"free_pages"` // pages of the freelist
	FreeRatio     float64 `json:"free_ratio"` // FreePages / PageCount
	Bytes         int64   `json:"bytes"`
	WALBytes      int64   `json:"wal_bytes"`
	JournalMode   string  `json:"journal_mode"` // wal, or delete for every kind of rollback journal: the file does not tell them apart
	AutoVacuum    string  `json:"auto_vacuum"`  // none, full, incremental
	Encoding      string  `json:"encoding"`     // UTF-8, UTF-16le, UTF-16be
	UserVersion   int64   `json:"user_version"`
	ApplicationID int64   `json:"application_id"`
	SQLiteVersion string  `json:"sqlite_version"` // of the SQLite that is linked into this program
	WrittenBy     string  `json:"written_by"`     // of the SQLite that wrote the file last; "" if it did not say
}

// Stat measures the table at path. It reads the file's header and its WAL, takes no lock, opens no connection, changes no byte
// and leaves no -shm behind, so it is safe on untrusted files and beside live writers.
//
// Errors: fs.ErrNotExist, ErrNotDatabase, ErrEmpty, ErrForeignJournal.
func Stat(ctx context.Context, path string) (Stats, error) {
	path, err := absolute(path)
	if err != nil {
		return Stats{}, err
	}
	_, info, err := readHeader(path)
	if err != nil {
		return Stats{}, err
	}
	h, w, err := besides(ctx, path)
	if err != nil {
		return Stats{}, fmt.Errorf("measure %s: %w", path, err)
	}
	if h, err = w.current(h); err != nil {
		return Stats{}, fmt.Errorf("measure %s: %w", path, err)
	}
	s := h.stats(path, info.Size())
	s.WALBytes = w.size
	if w.frames > 0 {
		s.setPages(w.pages, s.FreePages)
	}
	return s, nil
}

func (h header) stats(path string, size int64) Stats {
	s := Stats{
		Path: path, PageSize: h.pageSize, Bytes: size,
		JournalMode: "delete", AutoVacuum: h.autoVacuum, Encoding: h.encoding,
		UserVersion: int64(h.userVersion), ApplicationID: int64(h.applicationID),
		SQLiteVersion: sqlite3.SQLITE_VERSION,
	}
	if h.walMode {
		s.JournalMode = "wal"
	}
	if v := h.writtenBy; v != 0 {
		s.WrittenBy = fmt.Sprintf("%d.%d.%d", v/1e6, v/1000%1000, v%1000)
	}
	s.setPages(h.pageCount(size), int64(h.freePages))
	return s
}

func (s *Stats) setPages(count, free int64) {
	s.PageCount, s.FreePages, s.FreeRatio = count, free, 0
	if count > 0 {
		s.FreeRatio = float64(free) / float64(count)
	}
}

// UsedBytes is what the table would take without its free pages.
func (s Stats) UsedBytes() int64 { return (s.PageCount - s.FreePages) * s.PageSize }
