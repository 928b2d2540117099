package btree

import "encoding/binary"

// The kinds of entries of the pointer map (https://sqlite.org/fileformat2.html#pointer_map_or_ptrmap_pages).
const (
	mapRoot  = 1
	mapFree  = 2
	mapFirst = 3 // the first overflow page of a cell; its parent is the page of the cell
	mapNext  = 4 // another one; its parent is the overflow page before it
	mapNode  = 5 // a page of a b-tree that is not its root
)

// inMap sees that the pointer map says the same of page n. A database without one has nothing to say.
func (w *walker) inMap(n uint32, kind byte, parent uint32) error {
	if w.largestRoot == 0 || n == 1 {
		return nil
	}
	at := w.mapOf(n)
	data := w.mapped.page(at, w.pageSize)
	if data == nil {
		if err := w.mapped.fill(w.prover, at, 1); err != nil {
			return err
		}
		data = w.mapped.page(at, w.pageSize)
	}
	e := data[mapEntry*(n-at-1):]
	if e[0] != kind || binary.BigEndian.Uint32(e[1:]) != parent {
		return doubt(n, "is of kind %d with parent %d, and the pointer map says %d and %d", kind, parent, e[0], binary.BigEndian.Uint32(e[1:]))
	}
	return nil
}

// freelist goes through the trunks (https://sqlite.org/fileformat2.html#the_freelist). Its leaves are not read.
func (w *walker) freelist() error {
	left := int64(w.free)
	for next := w.trunk; next != 0; {
		if err := w.freed(next); err != nil {
			return err
		}
		w.ahead = nil
		if err := w.read(next); err != nil {
			return err
		}
		data := w.run.page(next, w.pageSize)
		count := binary.BigEndian.Uint32(data[4:])
		if count > uint32(w.usable/4-2) {
			return doubt(next, "is a trunk with %d leaves", count)
		}
		for i := range count {
			if err := w.freed(binary.BigEndian.Uint32(data[8+4*i:])); err != nil {
				return err
			}
		}
		left -= 1 + int64(count)
		next = binary.BigEndian.Uint32(data)
	}
	if left != 0 {
		return doubt(1, "the header says that %d pages are free, and %d are", w.free, int64(w.free)-left)
	}
	return nil
}

func (w *walker) freed(n uint32) error {
	if err := w.claim(n); err != nil {
		return err
	}
	return w.inMap(n, mapFree, 0)
}
