package table

import (
	"context"
	"strings"

	"tablekeeper/storage/btree"
)

// described is an SQL table of the schema.
type described struct {
	btree.Table
	strict, withoutRowid bool
	primary              []int // the columns of the primary key
}

// provable asks SQLite for the schema, as package btree wants it, and for the names of the virtual tables.
func (c *conn) provable(ctx context.Context) (tables []btree.Table, virtual []string, err error) {
	var all []described
	err = c.each(ctx, `SELECT t.name, t.type = 'virtual', t.wr, t.strict, ifnull(s.rootpage, 0) FROM pragma_table_list t JOIN sqlite_schema s
		ON s.type = 'table' AND s.name = t.name WHERE t.schema = 'main' AND t.type <> 'view'`, nil, func(scan func(...any) error) error {
		d := described{Table: btree.Table{Alias: btree.RowID}}
		var isVirtual bool
		if err := scan(&d.Name, &isVirtual, &d.withoutRowid, &d.strict, &d.Root); err != nil {
			return err
		}
		if isVirtual {
			virtual = append(virtual, d.Name)
		} else {
			all = append(all, d)
		}
		return nil
	})
	for i := range all {
		if err == nil {
			err = c.provableTable(ctx, &all[i])
		}
		tables = append(tables, all[i].Table)
	}
	return tables, virtual, err
}

func (c *conn) provableTable(ctx context.Context, d *described) error {
	err := c.each(ctx, `SELECT ifnull(type, ''), "notnull", ifnull(dflt_value, 'NULL') <> 'NULL', pk, hidden
		FROM pragma_table_xinfo(?, 'main') ORDER BY cid`, []any{d.Name}, func(scan func(...any) error) error { return d.column(scan) })
	if err != nil {
		return err
	}
	type listed struct {
		name                string
		unique, partial, pk bool
		root                uint32
	}
	var indexes []listed
	err = c.each(ctx, `SELECT i.name, i."unique", i.partial, i.origin = 'pk', ifnull(s.rootpage, 0) FROM pragma_index_list(?, 'main') i
		LEFT JOIN sqlite_schema s ON s.type = 'index' AND s.name = i.name`, []any{d.Name}, func(scan func(...any) error) error {
		var l listed
		defer func() { indexes = append(indexes, l) }()
		return scan(&l.name, &l.unique, &l.partial, &l.pk, &l.root)
	})
	ofKey := false
	for _, l := range indexes {
		if err != nil {
			return err
		}
		ofKey = ofKey || l.pk
		if l.partial {
			d.Opaque = "index " + l.name + " is partial"
		}
		index := btree.Index{Name: l.name, Root: l.root}
		var key int
		if key, err = c.provableFields(ctx, d, &index); l.unique {
			index.Unique = key
		}
		if l.pk && d.withoutRowid {
			d.Key, d.Unique = index.Fields, key
		} else {
			d.Indexes = append(d.Indexes, index)
		}
	}
	if !d.withoutRowid && !ofKey && len(d.primary) == 1 {
		d.Alias = d.primary[0]
	}
	return err
}

// column adds a column.
func (d *described) column(scan func(...any) error) error {
	var kind string
	var column btree.Column
	var key, hidden int
	if err := scan(&kind, &column.NotNull, &column.Default, &key, &hidden); err != nil {
		return err
	}
	column.Affinity = affinity(kind)
	if d.strict {
		column.Affinity = strictTypes[strings.ToUpper(kind)]
	}
	if hidden == generatedVirtual {
		d.Opaque = "it has virtual columns"
	}
	if key > 0 {
		d.primary = append(d.primary, len(d.Columns))
	}
	d.Columns = append(d.Columns, column)
	return nil
}

const (
	generatedVirtual = 2  // of pragma_table_xinfo: the column is not stored
	ofExpression     = -2 // of pragma_index_xinfo: the field is no column
)

// provableFields adds the fields of an index, and returns how many of them are its key.
func (c *conn) provableFields(ctx context.Context, d *described, index *btree.Index) (key int, err error) {
	err = c.each(ctx, "SELECT cid, desc, upper(ifnull(coll, '')), key FROM pragma_index_xinfo(?, 'main') ORDER BY seqno", []any{index.Name}, func(scan func(...any) error) error {
		var f btree.Field
		var collation string
		var isKey int
		if err := scan(&f.Column, &f.Descending, &collation, &isKey); err != nil {
			return err
		}
		key += isKey
		if f.Column == ofExpression {
			d.Opaque, f.Column = "index "+index.Name+" has an expression", btree.RowID
		}
		var known bool
		if f.Collation, known = collations[collation]; !known {
			d.Opaque = "index " + index.Name + " is ordered by " + collation
		}
		index.Fields = append(index.Fields, f)
		return nil
	})
	return key, err
}

var collations = map[string]btree.Collation{"BINARY": btree.Binary, "NOCASE": btree.NoCase, "RTRIM": btree.RTrim}

// strictTypes are those of https://sqlite.org/stricttables.html; ANY is missing on purpose.
var strictTypes = map[string]btree.Affinity{
	"INT": btree.StrictInteger, "INTEGER": btree.StrictInteger, "REAL": btree.StrictReal, "TEXT": btree.StrictText, "BLOB": btree.StrictBlob,
}

// affinity follows https://sqlite.org/datatype3.html#determination_of_column_affinity.
func affinity(declared string) btree.Affinity {
	declared = strings.ToUpper(declared)
	has := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(declared, part) {
				return true
			}
		}
		return false
	}
	switch {
	case has("INT"):
		return btree.Numeric
	case has("CHAR", "CLOB", "TEXT"):
		return btree.Text
	case declared == "" || has("BLOB"):
		return btree.Any
	default:
		return btree.Numeric
	}
}
