package btree

import "hash/maphash"

// entry is an entry of an index, or a row of a table WITHOUT ROWID, with bytes of its own.
type entry struct {
	bytes []byte
	rec   record
	size  int64
}

func (e *entry) set(payload []byte, size int64) bool {
	e.bytes, e.size = append(e.bytes[:0], payload...), size
	return e.rec.parse(e.bytes, size)
}

func (e *entry) clone() *entry {
	c := &entry{}
	c.set(e.bytes, e.size)
	return c
}

// before reports whether a comes before b, and whether they are apart in the first fields too, which are unique; known is false if
// it cannot be told.
func (t *tree) before(a, b *entry) (ordered, apart, known bool) {
	fields := t.fields
	if len(a.rec.fields) < len(fields) || len(b.rec.fields) < len(fields) {
		return false, false, false
	}
	hasNull := false
	for i := range fields {
		if i == t.unique && t.unique > 0 && !hasNull {
			return true, false, true
		}
		x, y := &a.rec.fields[i], &b.rec.fields[i]
		hasNull = hasNull || x.class() == null
		order, known := compare(x, y, fields[i].Collation)
		if !known {
			return false, false, false
		}
		if fields[i].Descending && t.descending {
			order = -order
		}
		if order != 0 {
			return order < 0, true, true
		}
	}
	return false, false, true
}

// sumOf is the sum of an entry.
func (e *entry) sumOf(seed maphash.Seed, scratch []byte) (sum uint64, rest []byte, ok bool) {
	scratch = scratch[:0]
	for i := range e.rec.fields {
		if scratch, ok = e.rec.fields[i].canonical(scratch); !ok {
			return 0, scratch, false
		}
	}
	return maphash.Bytes(seed, scratch), scratch, true
}
