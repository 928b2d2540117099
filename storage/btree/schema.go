package btree

import "fmt"

// Affinity is what a column makes of the values put into it (https://sqlite.org/datatype3.html), or, in a STRICT table, the
// only type that it has.
type Affinity byte

// The affinities; INTEGER, REAL and NUMERIC are one here.
const (
	Any Affinity = iota // BLOB or none; ANY in a STRICT table
	Text
	Numeric
	StrictInteger
	StrictReal
	StrictText
	StrictBlob
)

// Collation is an order of texts that SQLite has built in.
type Collation byte

// The collations.
const (
	Binary Collation = iota
	NoCase
	RTrim
)

// RowID stands for the rowid in place of a column.
const RowID = -1

// Table is one SQL table and its indexes.
type Table struct {
	Name    string
	Root    uint32 // page of its b-tree
	Columns []Column
	Alias   int     // the column that is the rowid, which is not stored there; RowID: none is
	Key     []Field // WITHOUT ROWID: the columns in the order of storage, all of them
	Unique  int     // WITHOUT ROWID: how many of them are the primary key
	Indexes []Index

	// Opaque says why nothing can be said about its content; only its b-trees are proved then.
	Opaque string
}

// Column is a column that is stored, in the order of declaration.
type Column struct {
	Affinity Affinity
	NotNull  bool
	Default  bool // it may have a default that is not NULL: a row stored before the column was added has it
}

// Index is an index of all rows, by columns alone.
type Index struct {
	Name   string
	Root   uint32
	Fields []Field // in the order of storage, with what identifies the row at the end
	Unique int     // how many of them no two rows have alike, unless one is NULL; 0: none
}

// Field is one column of an index.
type Field struct {
	Column     int // of the table's, or RowID
	Collation  Collation
	Descending bool
}

// schemaTable is sqlite_schema (https://sqlite.org/schematab.html).
var schemaTable = Table{
	Name: "sqlite_schema", Root: 1, Alias: RowID,
	Columns: []Column{{Affinity: Text}, {Affinity: Text}, {Affinity: Text}, {Affinity: Numeric}, {Affinity: Text}},
}

// check sees that a description refers to nothing that is not in it.
func (t *Table) check() error {
	if t.Opaque != "" {
		return nil
	}
	fields := t.Key
	for _, index := range t.Indexes {
		if len(index.Fields) == 0 || index.Unique > len(index.Fields) {
			return fmt.Errorf("index %s has %d fields, %d of them unique", index.Name, len(index.Fields), index.Unique)
		}
		fields = append(fields[:len(fields):len(fields)], index.Fields...)
	}
	for _, f := range fields {
		if f.Column < RowID || f.Column >= len(t.Columns) || f.Column == RowID && t.Key != nil {
			return fmt.Errorf("table %s has no column %d", t.Name, f.Column)
		}
	}
	if t.Alias < RowID || t.Alias >= len(t.Columns) || t.Unique > len(t.Key) || t.Key != nil && t.Unique == 0 {
		return fmt.Errorf("table %s: column %d is the rowid, %d of %d fields are the key", t.Name, t.Alias, t.Unique, len(t.Key))
	}
	return nil
}
