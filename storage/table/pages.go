package table

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"iter"
)

// lockByte is the offset at which SQLite takes its locks. The page that it is in is never used.
const lockByte = 0x40000000

// Page is one page of a snapshot.
type Page struct {
	Number int64  // from 1
	Data   []byte // of the table's page size; valid until the next page is asked for; not to be changed
	// Free says that SQLite never reads the content: a leaf of the freelist, or the page of the lock bytes. Data is zeros
	// then. Trunk pages of the freelist are not Free: they hold the numbers of the others.
	Free bool
}

// Pages yields every page in order. It may be called again. Free pages are not read.
func (s *Snapshot) Pages(ctx context.Context) iter.Seq2[Page, error] {
	return func(yield func(Page, error) bool) {
		if err := s.eachPage(ctx, yield); err != nil {
			yield(Page{}, fmt.Errorf("read the pages of %s: %w", s.stats.Path, asCorrupt(s.stats.Path, classify(err))))
		}
	}
}

// eachPage returns nil also when yield has had enough.
func (s *Snapshot) eachPage(ctx context.Context, yield func(Page, error) bool) error {
	if s.main != nil {
		return s.eachPageOfMain(ctx, yield)
	}
	// One byte a page, looked up by position: that costs SQLite nothing, and the page is fetched only if it is asked for.
	rows, err := s.conn.sql.QueryContext(ctx,
		"SELECT CASE substr(?1, pgno, 1) WHEN x'01' THEN NULL ELSE data END FROM sqlite_dbpage('main')", s.free)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	zeros := make([]byte, s.stats.PageSize)
	var data sql.RawBytes
	var n int64
	for rows.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := rows.Scan(&data); err != nil {
			return err
		}
		n++
		page := Page{Number: n, Data: data}
		if data == nil {
			page.Data, page.Free = zeros, true
		}
		if more, err := s.hand(page, yield); !more || err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if n != s.stats.PageCount {
		return &CorruptError{s.stats.Path, []string{fmt.Sprintf("%d pages were read of %d", n, s.stats.PageCount)}}
	}
	return nil
}

// hand gives a page to yield, the last one only if the table has passed its check.
func (s *Snapshot) hand(page Page, yield func(Page, error) bool) (more bool, err error) {
	if int64(len(page.Data)) != s.stats.PageSize {
		return false, &CorruptError{s.stats.Path, []string{fmt.Sprintf("page %d has %d bytes", page.Number, len(page.Data))}}
	}
	if page.Number == s.stats.PageCount {
		if _, err := s.verdict(); err != nil {
			return false, err
		}
	}
	return yield(page, nil), nil
}

// freeMap marks, one byte a page, the pages whose content SQLite never reads. It walks the freelist
// (https://sqlite.org/fileformat2.html#the_freelist), and believes nothing that it finds there.
func (c *conn) freeMap(ctx context.Context, s Stats) ([]byte, error) {
	free := make([]byte, s.PageCount)
	if lock := lockByte / s.PageSize; lock < s.PageCount {
		free[lock] = 1
	}
	page, err := c.page(ctx, 1)
	if err != nil {
		return nil, err
	}
	bad := func(format string, args ...any) error {
		return &CorruptError{s.Path, []string{"freelist: " + fmt.Sprintf(format, args...)}}
	}
	trunk, seen := int64(binary.BigEndian.Uint32(page[32:])), int64(0)
	for trunk != 0 {
		if trunk < 2 || trunk > s.PageCount || free[trunk-1] == 1 || seen >= s.FreePages {
			return nil, bad("page %d is not one of its trunks", trunk)
		}
		if page, err = c.page(ctx, trunk); err != nil {
			return nil, err
		}
		count := int64(binary.BigEndian.Uint32(page[4:]))
		if 8+4*count > int64(len(page)) || seen+1+count > s.FreePages {
			return nil, bad("trunk %d claims %d pages", trunk, count)
		}
		for i := range count {
			leaf := int64(binary.BigEndian.Uint32(page[8+4*i:]))
			if leaf < 2 || leaf > s.PageCount || free[leaf-1] == 1 {
				return nil, bad("page %d cannot be free", leaf)
			}
			free[leaf-1] = 1
		}
		seen += 1 + count
		trunk = int64(binary.BigEndian.Uint32(page))
	}
	return free, nil
}

func (c *conn) page(ctx context.Context, number int64) ([]byte, error) {
	var data []byte
	err := c.sql.QueryRowContext(ctx, "SELECT data FROM sqlite_dbpage('main') WHERE pgno = ?", number).Scan(&data)
	return data, classify(err)
}
