package salvage

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// The types of b-tree pages (file format, section 1.6).
const (
	indexInterior = 2
	tableInterior = 5
	indexLeaf     = 10
	tableLeaf     = 13
)

// maxDepth is far more than a b-tree of SQLite can have.
const maxDepth = 64

// row is what a cell holds. rowid is 0 for the rows of an index b-tree.
type row struct {
	page   int64
	rowid  int64
	values []any
}

// source reads pages and keeps account of those that a b-tree has led to.
type source struct {
	pages  Pages
	usable int // bytes of a page less those reserved at its end
	text   encoding
	seen   []bool // by page number
	done   func(n int64)
}

// lost counts what a walk could not read.
type lost struct{ pages, cells int64 }

// visit marks a page as seen and returns its content; nothing for a page that was seen before or cannot be read.
func (s *source) visit(n int64) []byte {
	page := s.read(n)
	if n > 0 && n < int64(len(s.seen)) && !s.seen[n] {
		s.seen[n] = true
		s.done(1)
	}
	return page
}

// read returns the content of a page that no walk has seen yet.
func (s *source) read(n int64) []byte {
	if n < 1 || n >= int64(len(s.seen)) || s.seen[n] {
		return nil
	}
	page, err := s.pages.Page(n)
	if err != nil || len(page) < s.usable {
		return nil
	}
	return page[:s.usable]
}

// walk calls each for every row of the b-tree at root, in the order of the keys, as far as its pages are good. index tells
// whether it is an index b-tree (a SQL table without rowid) or a table b-tree.
func (s *source) walk(root int64, index bool, each func(row) error) (lost, error) {
	var l lost
	err := s.descend(root, index, 0, &l, each)
	return l, err
}

func (s *source) descend(n int64, index bool, depth int, l *lost, each func(row) error) error {
	page := s.visit(n)
	b, ok := parsePage(page, n)
	if !ok || depth > maxDepth || b.index() != index {
		l.pages++
		return nil
	}
	for _, at := range b.cells {
		if b.interior() {
			if len(page)-at < 4 {
				l.cells++
				continue
			}
			if err := s.descend(int64(binary.BigEndian.Uint32(page[at:])), index, depth+1, l, each); err != nil {
				return err
			}
		}
		if b.kind == tableInterior {
			continue
		}
		r, ok := s.cell(b, page, at)
		if !ok {
			l.cells++
			continue
		}
		if err := each(r); err != nil {
			return err
		}
	}
	if b.interior() {
		return s.descend(b.right, index, depth+1, l, each)
	}
	return nil
}

// btreePage is the header of a b-tree page and where its cells begin.
type btreePage struct {
	number int64
	kind   byte
	cells  []int
	right  int64
}

func (b btreePage) interior() bool { return b.kind == tableInterior || b.kind == indexInterior }
func (b btreePage) index() bool    { return b.kind == indexInterior || b.kind == indexLeaf }

// parsePage reads the header of a b-tree page. Cell pointers that lead out of the page are left out.
func parsePage(page []byte, n int64) (b btreePage, ok bool) {
	start := 0
	if n == 1 {
		start = 100 // the header of the file
	}
	if len(page) < start+12 {
		return b, false
	}
	h := page[start:]
	b = btreePage{number: n, kind: h[0]}
	array := start + 8
	switch b.kind {
	case tableInterior, indexInterior:
		b.right = int64(binary.BigEndian.Uint32(h[8:]))
		array += 4
	case tableLeaf, indexLeaf:
	default:
		return b, false
	}
	count := int(binary.BigEndian.Uint16(h[3:]))
	if array+2*count > len(page) {
		return b, false
	}
	for i := range count {
		at := int(binary.BigEndian.Uint16(page[array+2*i:]))
		if at >= array+2*count && at < len(page) {
			b.cells = append(b.cells, at)
		}
	}
	return b, true
}

// cell reads the cell at an offset of a page (file format, section 1.6, "B-tree Cell Format").
func (s *source) cell(b btreePage, page []byte, at int) (row, bool) {
	r := row{page: b.number}
	rest := page[at:]
	if b.kind == indexInterior {
		rest = rest[4:]
	}
	size, n := varint(rest)
	if n == 0 {
		return r, false
	}
	rest = rest[n:]
	if b.kind == tableLeaf {
		rowid, n := varint(rest)
		if n == 0 {
			return r, false
		}
		r.rowid, rest = int64(rowid), rest[n:]
	}
	payload, chain, ok := s.payload(size, rest, b.kind == tableLeaf)
	if !ok {
		return r, false
	}
	values, err := decodeRecord(payload, s.text)
	if err != nil {
		return r, false
	}
	for _, n := range chain {
		s.seen[n] = true
		s.done(1)
	}
	r.values = values
	return r, true
}

// payload gathers a cell's payload: what is on the page, then the chain of overflow pages. The chain is not marked as seen:
// a damaged cell may lead to pages of others.
func (s *source) payload(size uint64, local []byte, leaf bool) (payload []byte, chain []int64, ok bool) {
	here, ok := s.local(size, leaf)
	if !ok || uint64(len(local)) < here {
		return nil, nil, false
	}
	if here == size {
		return local[:size], nil, true
	}
	if uint64(len(local)) < here+4 {
		return nil, nil, false
	}
	payload = append(payload, local[:here]...)
	for next := int64(binary.BigEndian.Uint32(local[here:])); uint64(len(payload)) < size; {
		page := s.read(next)
		if page == nil || slices.Contains(chain, next) {
			return nil, nil, false
		}
		chain = append(chain, next)
		payload = append(payload, page[4:min(uint64(len(page)), 4+size-uint64(len(payload)))]...)
		next = int64(binary.BigEndian.Uint32(page))
	}
	return payload, chain, true
}

// local is how many bytes of a payload are on the b-tree page itself; not ok if the file is too small for the payload.
func (s *source) local(size uint64, leaf bool) (uint64, bool) {
	u := uint64(s.usable)
	most := (u-12)*64/255 - 23
	if leaf {
		most = u - 35
	}
	if size <= most {
		return size, true
	}
	least := (u-12)*32/255 - 23
	here := least + (size-least)%(u-4)
	if here > most {
		here = least
	}
	return here, size <= u*uint64(len(s.seen))
}

// freelist marks the pages of the freelist as seen, so that deleted rows on them are not taken for lost ones.
func (s *source) freelist(first int64) {
	for trunk := first; trunk != 0; {
		page := s.visit(trunk)
		if len(page) < 8 {
			return
		}
		leaves := min(int(binary.BigEndian.Uint32(page[4:])), (len(page)-8)/4)
		for i := range leaves {
			if n := int64(binary.BigEndian.Uint32(page[8+4*i:])); n > 0 && n < int64(len(s.seen)) {
				s.seen[n] = true
				s.done(1)
			}
		}
		trunk = int64(binary.BigEndian.Uint32(page))
	}
}

// orphans calls each for the rows of every leaf of a table b-tree that no walk has reached.
func (s *source) orphans(each func(row) error) (l lost, err error) {
	for n := int64(2); n < int64(len(s.seen)); n++ {
		if s.seen[n] {
			continue
		}
		page := s.visit(n)
		b, ok := parsePage(page, n)
		if !ok || b.kind != tableLeaf {
			continue
		}
		for _, at := range b.cells {
			r, ok := s.cell(b, page, at)
			if !ok {
				l.cells++
				continue
			}
			if err := each(r); err != nil {
				return l, err
			}
		}
	}
	return l, nil
}

// header is what salvage needs of the first 100 bytes of the file.
type header struct {
	pageSize  int
	reserved  int
	freelist  int64
	text      encoding
	version   uint32 // user_version
	appID     uint32
	vacuum    bool // auto_vacuum of some kind
	increment bool
}

// parseHeader reads the file's header; what is damaged in it gets the commonest value.
func parseHeader(page1 []byte, pageSize int) header {
	h := header{pageSize: pageSize, text: utf8}
	if len(page1) < 100 {
		return h
	}
	if reserved := int(page1[20]); pageSize-reserved >= 480 {
		h.reserved = reserved
	}
	h.freelist = int64(binary.BigEndian.Uint32(page1[32:]))
	if text := encoding(binary.BigEndian.Uint32(page1[56:])); text >= utf8 && text <= utf16be {
		h.text = text
	}
	h.version, h.appID = binary.BigEndian.Uint32(page1[60:]), binary.BigEndian.Uint32(page1[68:])
	h.vacuum, h.increment = binary.BigEndian.Uint32(page1[52:]) != 0, binary.BigEndian.Uint32(page1[64:]) != 0
	return h
}

func (e encoding) String() string {
	switch e {
	case utf16le:
		return "UTF-16le"
	case utf16be:
		return "UTF-16be"
	case utf8:
		return "UTF-8"
	}
	return fmt.Sprintf("encoding(%d)", uint32(e))
}
