package btree

import (
	"fmt"
	"hash/maphash"
	"sync/atomic"
)

// content is what is known of the rows of one SQL table and of the entries of its indexes.
type content struct {
	table *Table
	open  atomic.Pointer[string] // why nothing can be said; nil: nothing speaks against it
	rows  atomic.Int64
	sums  []atomic.Uint64 // of what each index must have
}

func newContent(t *Table, l *layout) *content {
	c := &content{table: t, sums: make([]atomic.Uint64, len(t.Indexes))}
	if t.Opaque != "" {
		c.open.Store(&t.Opaque)
	}
	if !l.utf8 && t.collates() {
		c.leave("its texts are in UTF-16, and not in the order of bytes")
	}
	return c
}

func (t *Table) collates() bool {
	for _, index := range t.Indexes {
		for _, f := range index.Fields {
			if f.Collation != Binary {
				return true
			}
		}
	}
	for _, f := range t.Key {
		if f.Collation != Binary {
			return true
		}
	}
	return false
}

// leave says nothing about the content from now on. The first reason counts.
func (c *content) leave(format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	c.open.CompareAndSwap(nil, &why)
}

// compare compares what the index has with what the rows ask for.
func (c *content) compare(t *tree) {
	switch have, want := t.entries.Load(), c.rows.Load(); {
	case have != want:
		c.leave("index %s has %d entries for %d rows", t.index.Name, have, want)
	case t.sum.Load() != c.sums[t.number].Load():
		c.leave("the entries of index %s are not those of the rows", t.index.Name)
	}
}

// row is a row at hand: the values of its columns, in the order of declaration.
type row struct {
	columns []*field // nil: the row was stored before there was the column
	rowid   int64
	sums    []uint64 // for each index, of the rows since they were last added up
	scratch []byte
}

var nullField field

// arrange brings the fields of a record into the order of declaration; false: that cannot be.
func (r *row) arrange(t *Table, rec *record) bool {
	r.columns = append(r.columns[:0], make([]*field, len(t.Columns))...)
	if t.Key != nil {
		if len(rec.fields) > len(t.Key) {
			return false
		}
		for i := range rec.fields {
			r.columns[t.Key[i].Column] = &rec.fields[i]
		}
		return true
	}
	if len(rec.fields) > len(t.Columns) {
		return false
	}
	for i := range rec.fields {
		r.columns[i] = &rec.fields[i]
	}
	return true
}

// take checks a row against the columns, and adds to the sums what each index must have for it.
func (r *row) take(c *content, seed maphash.Seed) {
	for i := range c.table.Columns {
		if !r.column(c, i) {
			return
		}
	}
	for i := range c.table.Indexes {
		entry := r.scratch[:0]
		for _, f := range c.table.Indexes[i].Fields {
			var ok bool
			if entry, ok = r.value(entry, c.table, f.Column); !ok {
				c.leave("a value for index %s is too long, or no number", c.table.Indexes[i].Name)
				return
			}
		}
		r.scratch = entry
		r.sums[i] += maphash.Bytes(seed, entry)
	}
}

// value appends the value of a column.
func (r *row) value(to []byte, t *Table, column int) ([]byte, bool) {
	if column == RowID || column == t.Alias {
		return canonicalInteger(to, r.rowid), true
	}
	return r.columns[column].canonical(to)
}

// column reports whether the value is one that the column can have.
func (r *row) column(c *content, i int) bool {
	column := &c.table.Columns[i]
	f := r.columns[i]
	switch {
	case f == nil && (column.Default || column.NotNull):
		c.leave("rows were stored before column %d was added", i)
		return false
	case f == nil:
		f, r.columns[i] = &nullField, &nullField
	}
	if i == c.table.Alias {
		if f.class() != null {
			c.leave("a row has a rowid and a value in place of it")
			return false
		}
		return true
	}
	if f.class() == null && column.NotNull || !fits(f, column.Affinity) {
		c.leave("column %d has a value that it cannot have, or may not", i)
		return false
	}
	return true
}

// fits reports whether a column may have such a value. Where it depends on more than can be seen here, it may not.
func fits(f *field, a Affinity) bool {
	k := f.class()
	if k == null {
		return true
	}
	switch a {
	case Text:
		return k != number
	case Numeric:
		return k != text || !f.absent && !numeric(f.bytes)
	case StrictInteger:
		return k == number && f.serial != serialReal
	case StrictReal:
		return k == number
	case StrictText:
		return k == text
	case StrictBlob:
		return k == blob
	default:
		return true
	}
}
