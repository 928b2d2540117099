package table

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
)

// shape is what has to be known of one SQL table to carry single rows of it over into a copy.
type shape struct {
	name    string
	rowid   string   // a name for the rowid that no column has; "" if there are no rowids
	columns []string // those that are stored and can be written
	key     []string // without rowids: the columns of the primary key
	keyAt   []int    // their places among all columns
	lastKey int
	// whole: SQLite changes it without calling the hook, and it is small: it is carried over as a whole.
	whole bool
}

func (s *shape) keyed() bool { return s.rowid == "" }

// shapes describes every SQL table that stores rows, those of virtual tables' modules included. ErrUnsupported if the rows of one
// cannot be told apart from outside.
func (c *conn) shapes(ctx context.Context) ([]*shape, error) {
	var all []*shape
	err := c.each(ctx, `SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow') AND name <> 'sqlite_schema' ORDER BY name`,
		nil, func(scan func(...any) error) error {
			s := &shape{}
			var keyed bool
			if err := scan(&s.name, &keyed); err != nil {
				return err
			}
			s.whole = strings.HasPrefix(s.name, "sqlite_")
			if !keyed {
				s.rowid = "?"
			}
			all = append(all, s)
			return nil
		})
	for _, s := range all {
		if err == nil {
			err = c.describe(ctx, s)
		}
	}
	return all, err
}

func (c *conn) describe(ctx context.Context, s *shape) error {
	type part struct{ order, at int }
	const virtual = 2
	firstVirtual := math.MaxInt
	var names []string
	var key []part
	err := c.each(ctx, "SELECT cid, name, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid", []any{s.name}, func(scan func(...any) error) error {
		var at, order, hidden int
		var name string
		if err := scan(&at, &name, &order, &hidden); err != nil {
			return err
		}
		names = append(names, name)
		if hidden == 0 {
			s.columns = append(s.columns, name)
		}
		if hidden == virtual {
			firstVirtual = min(firstVirtual, at)
		}
		if order > 0 {
			key = append(key, part{order, at})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !s.keyed() {
		s.rowid = freeName(names)
		if s.rowid == "" && !s.whole {
			return fmt.Errorf("columns of %s have all the names of its rowid: %w", s.name, ErrUnsupported)
		}
		return nil
	}
	slices.SortFunc(key, func(a, b part) int { return a.order - b.order })
	for _, k := range key {
		s.key, s.keyAt, s.lastKey = append(s.key, names[k.at]), append(s.keyAt, k.at), max(s.lastKey, k.at)
	}
	if firstVirtual < s.lastKey { // the driver reads all columns up to the key's, and SQLite hands that one out to nobody
		return fmt.Errorf("%s has no rowids, and a virtual column before its key: %w", s.name, ErrUnsupported)
	}
	return nil
}

// freeName is a name of the rowid that no column hides (https://sqlite.org/lang_createtable.html#rowid).
func freeName(columns []string) string {
	for _, name := range []string{"_rowid_", "rowid", "oid"} {
		if !slices.ContainsFunc(columns, func(c string) bool { return strings.EqualFold(c, name) }) {
			return name
		}
	}
	return ""
}

// written lists what an INSERT sets and a SELECT reads, in the same order.
func (s *shape) written() string {
	names := make([]string, 0, len(s.columns)+1)
	if s.rowid != "" {
		names = append(names, s.rowid)
	}
	for _, c := range s.columns {
		names = append(names, quote(c))
	}
	return strings.Join(names, ", ")
}

// condition selects one row by its key, and its arguments. The hook cuts a text at its first NUL: then all the
// texts that begin so and go on after a NUL are meant.
func (s *shape) condition(key []any) (string, []any) {
	var where []string
	var args []any
	for i, v := range key {
		name := quote(s.key[i])
		switch v := v.(type) {
		case nil: // a key is never NULL: the hook has nothing else to hand out for an empty blob
			where = append(where, name+" = x''")
		case string:
			where = append(where, name+" >= ? AND "+name+" < ?")
			args = append(args, v, v+"\x01")
		default:
			where = append(where, name+" = ?")
			args = append(args, v)
		}
	}
	return strings.Join(where, " AND "), args
}
