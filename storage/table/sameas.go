package table

import (
	"bytes"
	"context"
	"fmt"
	"os"
)

// volatile are the bytes of page 1 that a copy does not take over: journal mode, change counter, schema cookie, and by whom and
// when the header was written (https://sqlite.org/fileformat2.html#the_database_header).
var volatile = [][2]int{{18, 20}, {24, 28}, {40, 44}, {92, 100}}

// sameAs compares every page that the read transaction of c sees with the file at path, of which it is to be a copy, and which
// nobody changes. A difference is a *CorruptError.
func (c *conn) sameAs(ctx context.Context, path string) error {
	s, err := c.stats(ctx)
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	pages := c.directPages(ctx, s)
	run := max(mainBlock/s.PageSize, 1)
	have, want := make([]byte, run*s.PageSize), make([]byte, run*s.PageSize)
	for first := int64(1); first <= s.PageCount; first += run {
		if err := ctx.Err(); err != nil {
			return err
		}
		size := min(run, s.PageCount-first+1) * s.PageSize
		if err := pages.ReadPages(uint32(first), have[:size]); err != nil {
			return err
		}
		if _, err := file.ReadAt(want[:size], (first-1)*s.PageSize); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		for _, b := range [][]byte{have, want} {
			leaveOut(b[:size], first, s.PageSize)
		}
		if n := differsAt(have[:size], want[:size], s.PageSize); n >= 0 {
			return &CorruptError{c.path, []string{fmt.Sprintf("page %d cannot be read back as it was written", first+n)}}
		}
	}
	return nil
}

// leaveOut clears what need not be the same in the pages from first on: the volatile bytes, and the page of the lock, which nobody uses.
func leaveOut(pages []byte, first, size int64) {
	if first == 1 {
		for _, v := range volatile {
			clear(pages[v[0]:v[1]])
		}
	}
	if at := lockByte - (first-1)*size; at >= 0 && at < int64(len(pages)) {
		clear(pages[at:][:size])
	}
}

// differsAt is how many pages are the same before the first that differs, -1 if none does.
func differsAt(a, b []byte, size int64) int64 {
	if bytes.Equal(a, b) {
		return -1
	}
	n := int64(0)
	for bytes.Equal(a[n*size:][:size], b[n*size:][:size]) {
		n++
	}
	return n
}
