package btree

import "encoding/binary"

// Use is what a byte of a page is there for.
type Use int

// The uses.
const (
	Structure Use = iota // SQLite finds its way by it, or it is not known to be of another use
	Value                // part of a value of a row, to which the way does not lead
	Unused               // nobody reads it: it is between the pointers and the cells, between cells, or in a free block
)

// UseOf tells what byte at of page n is there for; if it is of a Value, that has the bytes [from, to) of the page. Values of the schema, and those that are keys of an index, are Structure; so is every
// byte of a page that does not account for each of its bytes, or keeps some of them in reserve.
func UseOf(n uint32, data []byte, at int) (use Use, from, to int) {
	l := layout{pageSize: len(data), usable: len(data)}
	var spans []uint64
	p, err := l.decode(n, data, nil, &spans)
	if err != nil {
		return Structure, 0, 0
	}
	head := data
	if n == 1 {
		head = data[headerSize:]
	}
	size := leafHeader
	if !p.leaf() {
		size = interiorHeader
	}
	if at < len(data)-len(head)+size+2*len(p.cells) {
		return Structure, 0, 0
	}
	for i := range p.cells {
		if c := &p.cells[i]; at >= c.start && at < c.end {
			if n != 1 && p.kind == tableLeaf {
				return c.useOf(data, at)
			}
			return Structure, 0, 0
		}
	}
	const blockHeader = 4
	for block := int(binary.BigEndian.Uint16(head[1:])); block != 0; block = int(binary.BigEndian.Uint16(data[block:])) {
		if at >= block && at < block+blockHeader {
			return Structure, 0, 0
		}
	}
	return Unused, 0, 0
}

// useOf finds the value that has a byte of a cell of a table's leaf.
func (c *cell) useOf(data []byte, at int) (use Use, from, to int) {
	_, size := varint(data[c.start:])
	_, rowid := varint(data[c.start+size:])
	begin := c.start + size + rowid
	header, n := varint(c.local)
	if n == 0 || header > uint64(len(c.local)) {
		return Structure, 0, 0
	}
	end := int64(begin) + int64(header)
	for next := n; next < int(header) && int64(at) >= end; {
		serial, n := varint(c.local[next:header])
		if n == 0 || serial == 10 || serial == 11 || serial > 1<<32 {
			return Structure, 0, 0
		}
		next += n
		start, length := end, int64(serial-12)/2
		if serial < 12 {
			length = serialSizes[serial]
		}
		if end += length; int64(at) < end {
			return Value, int(start), int(min(end, int64(begin+len(c.local))))
		}
	}
	return Structure, 0, 0
}
