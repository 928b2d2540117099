package btree

import (
	"encoding/binary"
	"testing"
)

// leaf is page 2: two cells, and a free block of 7 bytes between them.
func leaf() []byte {
	page := make([]byte, 512)
	page[0] = tableLeaf
	cell := []byte{5, 1, 2, 19, 'a', 'b', 'c'} // 5 bytes of payload, rowid 1, a header of 2 bytes, text of 3
	binary.BigEndian.PutUint16(page[3:], 2)
	binary.BigEndian.PutUint16(page[5:], 512-21)
	binary.BigEndian.PutUint16(page[8:], 512-7)
	binary.BigEndian.PutUint16(page[10:], 512-21)
	copy(page[512-7:], cell)
	copy(page[512-21:], cell)
	binary.BigEndian.PutUint16(page[1:], 512-14)
	binary.BigEndian.PutUint16(page[512-14+2:], 7)
	return page
}

func TestUseOf(t *testing.T) {
	for at, want := range map[int]Use{
		0: Structure, 1: Structure, 7: Structure, 8: Structure, 11: Structure, // header and pointers
		12: Unused, 300: Unused, 512 - 22: Unused,
		512 - 21: Structure, 512 - 20: Structure, 512 - 19: Structure, 512 - 18: Structure, // size, rowid, header of the record
		512 - 17: Value, 512 - 15: Value,
		512 - 14: Structure, 512 - 11: Structure, 512 - 10: Unused, 512 - 8: Unused, // the free block
		512 - 7: Structure, 512 - 1: Value,
	} {
		if got, _, _ := UseOf(2, leaf(), at); got != want {
			t.Errorf("byte %d is of use %d, want %d", at, got, want)
		}
	}
	if _, from, to := UseOf(2, leaf(), 512-2); from != 512-3 || to != 512 {
		t.Errorf("the value is [%d, %d)", from, to)
	}
	for name, change := range map[string]func(page []byte){
		"a value of no type":         func(page []byte) { page[512-18] = 11 },
		"no page of a tree":          func(page []byte) { page[0] = 0 },
		"the leaf of an index":       func(page []byte) { page[0] = indexLeaf },
		"bytes that are unaccounted": func(page []byte) { page[7] = 1 },
		"a free block in a circle":   func(page []byte) { binary.BigEndian.PutUint16(page[512-14:], 512-14) },
	} {
		page := leaf()
		change(page)
		if got, _, _ := UseOf(2, page, 512-17); got != Structure {
			t.Errorf("%s: %d", name, got)
		}
	}
}

// Any page and any byte has a use, and is the end of nothing.
func FuzzUseOf(f *testing.F) {
	f.Add(uint32(2), 100, leaf())
	f.Add(uint32(1), 400, leaf())
	f.Fuzz(func(t *testing.T, n uint32, at int, page []byte) {
		if len(page) < smallestPage || len(page) > largestPage || at < 0 || at >= len(page) || n == 0 {
			return
		}
		use, from, to := UseOf(n, page, at)
		if use != Value && (from != 0 || to != 0) || use == Value && (at < from || at >= to || to > len(page)) {
			t.Errorf("byte %d is of use %d, of [%d, %d)", at, use, from, to)
		}
	})
}
