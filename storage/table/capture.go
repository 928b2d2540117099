package table

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// mostTouched is how many rows may be waiting to be caught up with: about 100 MiB of their identities.
const mostTouched = 2 << 20

// errSchemaMoved: the schema changed while the table was copied, so that the copy is of another table.
var errSchemaMoved = errors.New("the schema changed meanwhile")

// touched is a set of rows by their identities: the rowid, or the primary key of an SQL table that has no rowids. It may hold
// rows that did not change in the end. It never lacks one that did.
type touched struct {
	rowids map[string]map[int64]struct{}
	keys   map[string]map[string][]any
	n      int
}

func newTouched() *touched {
	return &touched{rowids: map[string]map[int64]struct{}{}, keys: map[string]map[string][]any{}}
}

func (t *touched) rowid(table string, id int64) {
	set := t.rowids[table]
	if set == nil {
		set = map[int64]struct{}{}
		t.rowids[table] = set
	}
	before := len(set)
	set[id] = struct{}{}
	t.n += len(set) - before
}

func (t *touched) key(table string, values []any) {
	set := t.keys[table]
	if set == nil {
		set = map[string][]any{}
		t.keys[table] = set
	}
	before := len(set)
	set[keyName(values)] = values
	t.n += len(set) - before
}

// keyName is a string that differs between keys that differ.
func keyName(values []any) string {
	var b strings.Builder
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			b.WriteByte('n')
		case int64:
			b.WriteString("i" + strconv.FormatInt(v, 16))
		case float64:
			b.WriteString("f" + strconv.FormatUint(math.Float64bits(v), 16))
		case string:
			b.WriteString("t" + strconv.Itoa(len(v)) + ":" + v)
		case []byte:
			b.WriteString("b" + strconv.Itoa(len(v)) + ":" + string(v))
		}
	}
	return b.String()
}

// capture collects the identity of every row that one connection touches, from SQLite's pre-update hook
// (https://sqlite.org/c3ref/preupdate_count.html), which also sees what a REPLACE, a trigger, a foreign key's action or a
// virtual table's module changes. It does not see sqlite_sequence and the tables of ANALYZE, nor the schema.
//
// The hook is called before the commit: only between two transactions is the set one of committed rows.
type capture struct {
	shapes map[string]*shape
	driver any // the driver's connection that the hook is on

	mu  sync.Mutex
	set *touched
	err error // what was touched is not known any more
}

// hooker is the part of the driver's connection that capture needs.
type hooker interface {
	RegisterPreUpdateHook(sqlite.PreUpdateHookFn)
}

func newCapture(shapes []*shape) *capture {
	c := &capture{shapes: make(map[string]*shape, len(shapes)), set: newTouched()}
	for _, s := range shapes {
		c.shapes[s.name] = s
	}
	return c
}

// attach begins. No transaction may be open on the connection.
func (c *capture) attach(driverConn any) error {
	h, ok := driverConn.(hooker)
	if !ok {
		return fmt.Errorf("the SQLite driver has no pre-update hook: %w", ErrUnsupported)
	}
	c.driver = driverConn
	h.RegisterPreUpdateHook(c.note)
	return nil
}

// detach ends, if the connection is still the same.
func (c *capture) detach(driverConn any) {
	if h, ok := driverConn.(hooker); ok && driverConn == c.driver {
		h.RegisterPreUpdateHook(nil)
	}
}

func (c *capture) note(d sqlite.SQLitePreUpdateData) {
	if d.DatabaseName != "main" {
		return
	}
	s := c.shapes[d.TableName]
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() {
		if r := recover(); r != nil { // the writer's transaction is not to suffer from what only we need
			c.err = fmt.Errorf("read the key of a row of %s: %v: %w", d.TableName, r, ErrUnsupported)
		}
	}()
	switch {
	case c.err != nil, s == nil && strings.HasPrefix(d.TableName, "sqlite_"), s != nil && s.whole:
	case s == nil:
		c.err = errSchemaMoved // it was made after we began
	case c.set.n >= mostTouched:
		c.err = errTooBusy
	case s.keyed():
		c.err = c.noteKey(s, &d)
	default:
		if d.Op != sqlite3.SQLITE_INSERT {
			c.set.rowid(s.name, d.OldRowID)
		}
		if d.Op != sqlite3.SQLITE_DELETE {
			c.set.rowid(s.name, d.NewRowID)
		}
	}
}

func (c *capture) noteKey(s *shape, d *sqlite.SQLitePreUpdateData) error {
	read := func(into func(...any) error) error {
		row := make([]any, s.lastKey+1)
		if err := into(row...); err != nil {
			return fmt.Errorf("read the key of a row of %s: %w", s.name, err)
		}
		key := make([]any, len(s.keyAt))
		for i, at := range s.keyAt {
			key[i] = row[at]
			if blob, ok := key[i].([]byte); ok && len(blob) == 0 {
				key[i] = nil
			}
		}
		c.set.key(s.name, key)
		return nil
	}
	var err error
	if d.Op != sqlite3.SQLITE_INSERT {
		err = read(d.Old)
	}
	if d.Op != sqlite3.SQLITE_DELETE {
		err = errors.Join(err, read(d.New))
	}
	return err
}

// take hands out what was touched until now, and begins a new set. To be called between two transactions.
func (c *capture) take() (*touched, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set := c.set
	c.set = newTouched()
	return set, c.err
}

// waiting is the number of rows to be caught up with.
func (c *capture) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.set.n
}
