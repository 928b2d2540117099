package table

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"modernc.org/sqlite"
)

const (
	mainBlock     = 1 << 20 // bytes read from a main file at once
	overlaidShare = 4       // one page in so many may be in the WAL; with more of them SQLite reads all
)

// mainFile reads most pages of a snapshot without SQLite, a megabyte at a time. It is sound for as long as a read transaction
// holds, because a page of which the WAL has no version when the transaction has begun does not change in the main file until it
// ends: a checkpoint writes only versions that the WAL has, up to the oldest commit that somebody reads, and the WAL cannot start
// over while somebody reads it. A transaction that reads nothing of the WAL, because all of it is in the main file, keeps
// every checkpoint away. (https://sqlite.org/walformat.html, WAL_READ_LOCK.)
type mainFile struct {
	file   *os.File
	buffer []byte
	first  int64 // page that buffer begins with, from 1
}

// openMain opens the main file at path, before SQLite does. It is nil where SQLite has to read: where closing the
// file would drop the locks of this process, or if it cannot be opened.
func openMain(path string) *mainFile {
	if !sqlite.OFDLockingEnabled() {
		return nil
	}
	f, _, err := openFile(path)
	if err != nil {
		return nil
	}
	return &mainFile{file: f}
}

func (m *mainFile) close() {
	if m != nil {
		_ = m.file.Close() // only read
	}
}

// isAt reports whether path still names the file. Then a connection that opened path after openMain reads the same file.
func (m *mainFile) isAt(path string) bool {
	now, err := os.Lstat(path)
	if err != nil {
		return false
	}
	ours, err := m.file.Stat()
	return err == nil && os.SameFile(now, ours)
}

// overlaid gives the pages that the WAL has a version of, in whatever commit, or moved to the file already. It must be called inside the read
// transaction. ok is false if that cannot be told, or if they are too many to ask SQLite for each.
func (m *mainFile) overlaid(path string, s Stats) (pages map[int64]bool, ok bool) {
	if m == nil || !m.isAt(path) {
		return nil, false
	}
	wal, size, err := openBeside(path + "-wal")
	if err != nil {
		return nil, false
	}
	pages = map[int64]bool{}
	if wal == nil {
		return pages, true
	}
	defer func() { _ = wal.Close() }() // only read
	// Only this generation counts. If it has just begun, the transaction reads nothing of the WAL.
	most := s.PageCount/overlaidShare + 1
	err = eachCurrentFrame(wal, size, s.PageSize, func(frame []byte) bool {
		pages[int64(binary.BigEndian.Uint32(frame))] = true
		return int64(len(pages)) <= most
	})
	if ignoreEOF(err) != nil || int64(len(pages)) > most {
		return nil, false
	}
	return pages, true
}

// page returns page n, read ahead up to page last. The content is valid until the next call.
func (m *mainFile) page(n, last, size int64) ([]byte, error) {
	if m.buffer == nil {
		m.buffer = make([]byte, 0, max(mainBlock, size))
	}
	if n < m.first || n >= m.first+int64(len(m.buffer))/size {
		run := min(last-n+1, int64(cap(m.buffer))/size)
		m.first, m.buffer = n, m.buffer[:run*size]
		got, err := m.file.ReadAt(m.buffer, (n-1)*size)
		m.buffer = m.buffer[:int64(got)/size*size]
		if len(m.buffer) == 0 {
			return nil, fmt.Errorf("read page %d: %w", n, errors.Join(err, io.ErrUnexpectedEOF))
		}
	}
	return m.buffer[(n-m.first)*size:][:size:size], nil
}

// eachPageOfMain is eachPage with the main file. What cannot be read there is SQLite's to read, and to judge.
func (s *Snapshot) eachPageOfMain(ctx context.Context, yield func(Page, error) bool) error {
	through, err := s.conn.sql.PrepareContext(ctx, "SELECT data FROM sqlite_dbpage('main') WHERE pgno = ?")
	if err != nil {
		return err
	}
	defer func() { _ = through.Close() }() // only read
	zeros := make([]byte, s.stats.PageSize)
	var run int64 // last page of the run of pages that the main file has
	for n := int64(1); n <= s.stats.PageCount; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		page := Page{Number: n, Data: zeros, Free: s.free[n-1] == 1}
		if n > run {
			run = s.runFrom(n)
		}
		if !page.Free {
			if page.Data, err = s.read(ctx, through, n, run); err != nil {
				return err
			}
		}
		if more, err := s.hand(page, yield); !more || err != nil {
			return err
		}
	}
	return nil
}

// runFrom is the last page of the run, beginning with page n, of pages that are used and that the main file has; 0 if
// page n is none. Page 1 is SQLite's: it is the one that every commit changes.
func (s *Snapshot) runFrom(n int64) int64 {
	most := min(n+mainBlock/s.stats.PageSize, s.stats.PageCount+1)
	end := n
	for end > 1 && end < most && s.free[end-1] == 0 && !s.overlaid[end] {
		end++
	}
	if end == n {
		return 0
	}
	return end - 1
}

func (s *Snapshot) read(ctx context.Context, through *sql.Stmt, n, run int64) ([]byte, error) {
	if n <= run {
		if data, err := s.main.page(n, run, s.stats.PageSize); err == nil {
			return data, nil
		}
	}
	var data []byte
	err := through.QueryRowContext(ctx, n).Scan(&data)
	return data, err
}
