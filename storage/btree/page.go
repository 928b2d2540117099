package btree

import (
	"encoding/binary"
	"slices"
)

// The kinds of b-tree pages (https://sqlite.org/fileformat2.html#b_tree_pages).
const (
	indexInterior = 0x02
	tableInterior = 0x05
	indexLeaf     = 0x0a
	tableLeaf     = 0x0d
)

// page is a page of a b-tree, all of whose bytes are accounted for.
type page struct {
	number uint32
	data   []byte // the usable part
	kind   byte
	cells  []cell // valid until the walker decodes the next page of the same depth
	right  uint32 // of an interior page: the last child
}

func (p *page) leaf() bool { return p.kind == tableLeaf || p.kind == indexLeaf }

// cell is one cell of a page.
type cell struct {
	start, end int
	child      uint32 // of an interior page
	rowid      int64  // of a table
	size       int64  // of the payload, in bytes; an interior page of a table has none
	local      []byte // as much of the payload as is here
	overflow   uint32 // where it goes on; 0: nowhere
}

const (
	leastCell      = 4 // bytes, however few it needs
	leafHeader     = 8
	interiorHeader = 12
)

// decode decodes page n and accounts for its bytes. cells and spans are room to work in.
func (l *layout) decode(n uint32, data []byte, cells []cell, spans *[]uint64) (page, error) {
	p := page{number: n, data: data[:l.usable]}
	at := 0
	if n == 1 {
		at = headerSize
	}
	head := p.data[at:]
	p.kind = head[0]
	size := leafHeader
	switch p.kind {
	case indexInterior, tableInterior:
		size, p.right = interiorHeader, binary.BigEndian.Uint32(head[8:])
	case indexLeaf, tableLeaf:
	default:
		return p, doubt(n, "is of no kind of b-tree page: %#02x", p.kind)
	}
	count, content := int(binary.BigEndian.Uint16(head[3:])), int(binary.BigEndian.Uint16(head[5:]))
	if content == 0 {
		content = largestPage
	}
	pointers := at + size
	if pointers+2*count > content || content > l.usable {
		return p, doubt(n, "has %d cells, and its content begins at %d", count, content)
	}
	*spans = (*spans)[:0]
	p.cells = slices.Grow(cells[:0], count)[:count]
	for i := range p.cells {
		start := int(binary.BigEndian.Uint16(p.data[pointers+2*i:]))
		if start < content || start > l.usable-leastCell {
			return p, doubt(n, "cell %d begins at %d", i, start)
		}
		if !l.decodeCell(&p, start, &p.cells[i]) {
			return p, doubt(n, "cell %d reaches past the end", i)
		}
		*spans = append(*spans, uint64(start)<<32|uint64(p.cells[i].end))
	}
	return p, l.account(&p, head, content, spans)
}

// decodeCell reads the cell at start, and reports whether it is within the page.
func (l *layout) decodeCell(p *page, start int, c *cell) bool {
	*c = cell{start: start}
	at := start
	if !p.leaf() {
		c.child = binary.BigEndian.Uint32(p.data[at:])
		at += 4
	}
	if p.kind != tableInterior {
		size, n := varint(p.data[at:])
		if n == 0 || size > 1<<31-1 {
			return false
		}
		c.size = int64(size)
		at += n
	}
	if p.kind == tableInterior || p.kind == tableLeaf {
		rowid, n := varint(p.data[at:])
		if n == 0 {
			return false
		}
		c.rowid = int64(rowid)
		at += n
	}
	if p.kind != tableInterior {
		local := l.local(p.kind, c.size)
		if at+local > len(p.data) {
			return false
		}
		c.local = p.data[at : at+local]
		at += local
		if int64(local) < c.size {
			if at+4 > len(p.data) {
				return false
			}
			c.overflow = binary.BigEndian.Uint32(p.data[at:])
			at += 4
		}
	}
	c.end = max(at, start+leastCell)
	return c.end <= len(p.data)
}

// account sees that cells and free blocks do not overlap, and that what is between them is as much as the header says.
func (l *layout) account(p *page, head []byte, content int, spans *[]uint64) error {
	for at := int(binary.BigEndian.Uint16(head[1:])); at != 0; {
		if at < content || at > l.usable-4 {
			return doubt(p.number, "a free block begins at %d", at)
		}
		next, size := int(binary.BigEndian.Uint16(p.data[at:])), int(binary.BigEndian.Uint16(p.data[at+2:]))
		if size < 4 || at+size > l.usable || next != 0 && next <= at+size+3 {
			return doubt(p.number, "the free block at %d has %d bytes, the next is at %d", at, size, next)
		}
		*spans = append(*spans, uint64(at)<<32|uint64(at+size))
		at = next
	}
	slices.Sort(*spans)
	end, between := content, 0
	for _, s := range *spans {
		start := int(s >> 32)
		if start < end {
			return doubt(p.number, "byte %d is used twice", start)
		}
		between += start - end
		end = int(s & (1<<32 - 1))
	}
	between += l.usable - end
	if between != int(head[7]) {
		return doubt(p.number, "has %d bytes between its cells, and says %d", between, head[7])
	}
	return nil
}

// varint reads a variable-length integer of 1 to 9 bytes (https://sqlite.org/fileformat2.html#varint); n is 0 if b is too short.
func varint(b []byte) (v uint64, n int) {
	for i := range min(len(b), 9) {
		if i == 8 {
			return v<<8 | uint64(b[8]), 9
		}
		v = v<<7 | uint64(b[i]&0x7f)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}
