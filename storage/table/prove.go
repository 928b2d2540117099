package table

import (
	"context"
	"runtime"
	"sync"

	"tablekeeper/storage/btree"
)

// mostProvers is how many processors a check takes at most.
const mostProvers = 4

// prove looks for a proof that the table is sound, in the read transaction of c. ok is false if there is none: then it is for
// SQLite to say what is so.
func (c *conn) prove(ctx context.Context, s Stats, opts CheckOptions) (proof btree.Proof, ok bool) {
	pages := c.directPages(ctx, s)
	if pages.main == nil {
		return proof, false
	}
	schema, virtual, err := c.provable(ctx)
	if err != nil {
		return proof, false
	}
	workers := min(runtime.GOMAXPROCS(0), mostProvers)
	if opts.alone {
		workers = 1
	}
	proof, err = btree.Prove(ctx, pages, pages.pageSize, uint32(s.PageCount), schema, btree.Options{
		Workers: workers, Progress: func(done, total int64) { opts.Progress("integrity_check", done, total) },
	})
	if err != nil {
		return proof, false // a doubt is no verdict, and what cannot be read here SQLite may read
	}
	for _, name := range virtual {
		proof.Open[name] = "it is virtual"
	}
	return proof, true
}

// directPages reads from the main file, and through SQLite what the WAL has a version of. It is safe for concurrent use.
type directPages struct {
	pageSize int
	main     *mainFile // nil: all pages are read through SQLite
	overlaid map[int64]bool

	mu     sync.Mutex
	sqlite func(n int64) ([]byte, error)
}

// directPages must be called inside the read transaction, and holds as long as that.
func (c *conn) directPages(ctx context.Context, s Stats) *directPages {
	p := &directPages{pageSize: int(s.PageSize), sqlite: func(n int64) ([]byte, error) { return c.page(ctx, n) }}
	if overlaid, ok := c.main.overlaid(c.path, s); ok {
		p.main, p.overlaid = c.main, overlaid
	}
	return p
}

// ReadPages is of btree.Pages.
func (p *directPages) ReadPages(first uint32, into []byte) error {
	for n := int64(first); len(into) > 0; {
		if p.isOverlaid(n) {
			if err := p.ask(n, into[:p.pageSize]); err != nil {
				return err
			}
			n, into = n+1, into[p.pageSize:]
			continue
		}
		run := 1
		for run*p.pageSize < len(into) && !p.isOverlaid(n+int64(run)) {
			run++
		}
		if _, err := p.main.file.ReadAt(into[:run*p.pageSize], (n-1)*int64(p.pageSize)); err != nil {
			return err
		}
		n, into = n+int64(run), into[run*p.pageSize:]
	}
	return nil
}

// isOverlaid counts page 1 in, which every commit changes.
func (p *directPages) isOverlaid(n int64) bool { return n == 1 || p.main == nil || p.overlaid[n] }

func (p *directPages) ask(n int64, into []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	data, err := p.sqlite(n)
	copy(into, data)
	return err
}
