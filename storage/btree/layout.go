package btree

import "encoding/binary"

const (
	smallestPage = 512
	largestPage  = 65536
	headerSize   = 100
	lockByte     = 0x40000000 // where SQLite locks; the page that has it is never used
	mapEntry     = 5          // bytes of the pointer map for each page
)

// layout is what the header says (https://sqlite.org/fileformat2.html#the_database_header).
type layout struct {
	pageSize, usable int // bytes
	count            uint32
	lockPage         uint32
	trunk, free      uint32 // first trunk of the freelist, and the pages in it
	largestRoot      uint32 // not 0: there is a pointer map
	descending       bool   // indexes heed DESC
	utf8             bool
}

// parseLayout reads the header of a database of count pages of size bytes.
func parseLayout(head []byte, size int, count uint32) (layout, error) {
	be := binary.BigEndian
	l := layout{
		pageSize: int(be.Uint16(head[16:])), count: count, trunk: be.Uint32(head[32:]), free: be.Uint32(head[36:]), largestRoot: be.Uint32(head[52:]),
		descending: be.Uint32(head[44:]) >= 4, utf8: be.Uint32(head[56:]) <= 1,
	}
	if l.pageSize == 1 {
		l.pageSize = largestPage
	}
	l.usable = l.pageSize - int(head[20])
	switch {
	case string(head[:16]) != "SQLite format 3\x00":
		return l, doubt(1, "does not begin with SQLite's header")
	case l.pageSize != size || l.pageSize < smallestPage || l.pageSize&(l.pageSize-1) != 0 || l.usable < 480:
		return l, doubt(1, "the header names a page size of %d, %d of it usable", l.pageSize, l.usable)
	case count < 1:
		return l, doubt(0, "there are no pages")
	case l.largestRoot == 0 && be.Uint32(head[64:]) != 0:
		return l, doubt(1, "the header asks for incremental vacuum without a pointer map")
	}
	if n := lockByte/uint32(l.pageSize) + 1; n <= count {
		l.lockPage = n
	}
	return l, nil
}

// mapOf is the page of the pointer map that has the entry of page n (https://sqlite.org/fileformat2.html#pointer_map_or_ptrmap_pages).
func (l *layout) mapOf(n uint32) uint32 {
	each := uint32(l.usable/mapEntry) + 1
	at := (n-2)/each*each + 2
	if at == l.lockPage {
		at++
	}
	return at
}

func (l *layout) isMap(n uint32) bool { return l.largestRoot != 0 && n >= 2 && l.mapOf(n) == n }

// apart counts the pages that nothing refers to: that of the lock, and the pointer map.
func (l *layout) apart() int64 {
	var n int64
	if l.lockPage != 0 {
		n++
	}
	if l.largestRoot == 0 {
		return n
	}
	for at := uint32(2); at <= l.count; at += uint32(l.usable/mapEntry) + 1 {
		if m := l.mapOf(at); m <= l.count {
			n++
		}
	}
	return n
}

// maxLocal is how much of a payload a cell can hold, and minLocal the least that stays there if it overflows.
func (l *layout) local(kind byte, size int64) int {
	most, least := (l.usable-12)*64/255-23, (l.usable-12)*32/255-23
	if kind == tableLeaf {
		most = l.usable - 35
	}
	if size <= int64(most) {
		return int(size)
	}
	if n := least + int((size-int64(least))%int64(l.usable-4)); n <= most {
		return n
	}
	return least
}
