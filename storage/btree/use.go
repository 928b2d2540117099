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

// UseOf tells what byte at of page n is there for. Values of the schema, and those that are keys of an index, are Structure; so is every
// byte of a page that does not account for each of its bytes, or keeps some of them in reserve.
func UseOf(n uint32, data []byte, at int) Use {
	l := layout{pageSize: len(data), usable: len(data)}
	var spans []uint64
	p, err := l.decode(n, data, nil, &spans)
	if err != nil {
		return Structure
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
		return Structure
	}
	for i := range p.cells {
		if c := &p.cells[i]; at >= c.start && at < c.end {
			if n != 1 && p.kind == tableLeaf && c.inValues(data, at) {
				return Value
			}
			return Structure
		}
	}
	const blockHeader = 4
	for block := int(binary.BigEndian.Uint16(head[1:])); block != 0; block = int(binary.BigEndian.Uint16(data[block:])) {
		if at >= block && at < block+blockHeader {
			return Structure
		}
	}
	return Unused
}

// inValues tells whether a byte of the page is behind the record's header, in a cell of a table's leaf.
func (c *cell) inValues(data []byte, at int) bool {
	_, size := varint(data[c.start:])
	_, rowid := varint(data[c.start+size:])
	header, n := varint(c.local)
	begin := c.start + size + rowid
	return n > 0 && header <= uint64(len(c.local)) && at >= begin+int(header) && at < begin+len(c.local)
}
