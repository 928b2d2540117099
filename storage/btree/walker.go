package btree

import (
	"encoding/binary"
	"fmt"
)

const (
	runBytes  = 64 << 10  // read at once of pages that follow each other
	keepBytes = 128 << 10 // of a payload are kept; values behind that are passed over, and not looked at
)

// walker goes through b-trees. It is for one goroutine.
type walker struct {
	*prover
	run     buffer   // the pages read last
	chain   buffer   // the same, of overflow pages
	mapped  buffer   // of the pointer map
	ahead   []uint32 // the pages that will be asked for next; the first is that asked for now
	cells   []cell
	spans   []uint64
	payload []byte
	record  record
	row     row
	last    *entry
	current *entry
}

func newWalker(p *prover) *walker {
	return &walker{prover: p, last: &entry{}, current: &entry{}}
}

// buffer holds pages that follow each other.
type buffer struct {
	bytes []byte
	first uint32
	count int
}

func (b *buffer) page(n uint32, size int) []byte {
	if b.count == 0 || n < b.first || n-b.first >= uint32(b.count) {
		return nil
	}
	return b.bytes[int(n-b.first)*size:][:size]
}

func (b *buffer) fill(p *prover, first uint32, count int) error {
	if need := count * p.pageSize; cap(b.bytes) < need {
		b.bytes = make([]byte, need)
	}
	b.bytes, b.first, b.count = b.bytes[:count*p.pageSize], first, 0
	if err := p.pages.ReadPages(first, b.bytes); err != nil {
		return fmt.Errorf("read page %d: %w", first, err)
	}
	b.count = count
	return nil
}

// read brings page n into the run, and with it the pages that come next if they follow it.
func (w *walker) read(n uint32) error {
	if n < 1 || n > w.count {
		return doubt(n, "is referred to and cannot be")
	}
	if w.run.page(n, w.pageSize) != nil {
		return nil
	}
	count := 1
	for count < len(w.ahead) && count < runBytes/w.pageSize && w.ahead[count] == n+uint32(count) && w.ahead[count] <= w.count {
		count++
	}
	return w.run.fill(w.prover, n, count)
}

// kind is that of a page which was read.
func (w *walker) kind(n uint32) byte {
	at := 0
	if n == 1 {
		at = headerSize
	}
	return w.run.page(n, w.pageSize)[at]
}

// visit decodes the page at p, which is used from now on. What it gives is valid until the next page is read.
func (w *walker) visit(t *tree, p place) (page, error) {
	if err := w.claim(p.page); err != nil {
		return page{}, err
	}
	mapped := byte(mapNode)
	if p.parent == 0 {
		mapped = mapRoot
	}
	if err := w.inMap(p.page, mapped, p.parent); err != nil {
		return page{}, err
	}
	if err := w.read(p.page); err != nil {
		return page{}, err
	}
	pg, err := w.decode(p.page, w.run.page(p.page, w.pageSize), w.cells, &w.spans)
	w.cells = pg.cells
	if err != nil {
		return pg, err
	}
	if len(pg.cells) == 0 && p.parent != 0 {
		return pg, doubt(p.page, "is empty, and not a root")
	}
	return pg, t.level(p, pg.leaf())
}

// gather gives the payload of a cell, as much of it as is kept, and goes through all its overflow pages.
func (w *walker) gather(c *cell, n uint32) ([]byte, error) {
	if c.overflow == 0 {
		return c.local, nil
	}
	w.payload = append(w.payload[:0], c.local...)
	left := c.size - int64(len(c.local))
	each := int64(w.usable - 4)
	before, next, mapped := n, c.overflow, byte(mapFirst)
	for ; left > 0; left -= each {
		if err := w.claim(next); err != nil {
			return nil, err
		}
		if err := w.inMap(next, mapped, before); err != nil {
			return nil, err
		}
		data, err := w.link(next, next == before+1, (left+each-1)/each)
		if err != nil {
			return nil, err
		}
		if len(w.payload) < keepBytes {
			w.payload = append(w.payload, data[4:4+min(left, each)]...)
		}
		before, next, mapped = next, binary.BigEndian.Uint32(data), mapNext
	}
	if next != 0 {
		return nil, doubt(before, "is the last of its chain, and page %d follows", next)
	}
	return w.payload, nil
}

// link reads an overflow page, and the pages behind it if the chain is likely to go on there.
func (w *walker) link(n uint32, follows bool, left int64) ([]byte, error) {
	if data := w.chain.page(n, w.pageSize); data != nil {
		return data, nil
	}
	count := int64(1)
	if follows {
		count = min(left, max(int64(runBytes/w.pageSize), 1), int64(w.count-n)+1)
	}
	err := w.chain.fill(w.prover, n, int(count))
	return w.chain.page(n, w.pageSize), err
}
