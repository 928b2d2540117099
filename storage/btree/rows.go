package btree

import "math"

const (
	least = math.MinInt64
	most  = math.MaxInt64
)

// span is the rowids that a subtree may have, both ends included.
type span struct{ first, last int64 }

// rows proves the subtree at p of a table with rowids.
func (w *walker) rows(t *tree, p place, allowed span) error {
	pg, err := w.visit(t, p)
	if err != nil {
		return err
	}
	switch pg.kind {
	case tableLeaf:
		return w.rowsOf(t, &pg, allowed)
	case tableInterior:
	default:
		return doubt(p.page, "is no page of a table")
	}
	children := make([]uint32, 0, len(pg.cells)+1)
	spans := make([]span, 0, len(pg.cells)+1)
	for _, c := range pg.cells {
		if c.rowid < allowed.first || c.rowid >= allowed.last {
			return doubt(p.page, "rowid %d is out of order", c.rowid)
		}
		children, spans = append(children, c.child), append(spans, span{allowed.first, c.rowid})
		allowed.first = c.rowid + 1
	}
	children, spans = append(children, pg.right), append(spans, allowed)
	return t.descend(w, p, children, func(w *walker, i int) error { return w.rows(t, p.below(children[i]), spans[i]) })
}

// rowsOf proves the rows of a leaf.
func (w *walker) rowsOf(t *tree, pg *page, allowed span) error {
	over := false // the greatest rowid has been there
	for i := range pg.cells {
		c := &pg.cells[i]
		if over || c.rowid < allowed.first || c.rowid > allowed.last {
			return doubt(pg.number, "rowid %d is out of order", c.rowid)
		}
		if over = c.rowid == most; !over {
			allowed.first = c.rowid + 1
		}
		payload, err := w.gather(c, pg.number)
		if err != nil {
			return err
		}
		if t.content.open.Load() != nil {
			continue
		}
		if !w.record.parse(payload, c.size) {
			t.content.leave("row %d is malformed", c.rowid)
			continue
		}
		w.rowOf(t.content, &w.record, c.rowid)
	}
	t.entries.Add(int64(len(pg.cells)))
	w.settle(t.content, len(pg.cells))
	return nil
}

// rowOf takes one row.
func (w *walker) rowOf(c *content, rec *record, rowid int64) {
	if missing := len(c.sums) - len(w.row.sums); missing > 0 {
		w.row.sums = append(w.row.sums, make([]uint64, missing)...)
	}
	w.row.rowid = rowid
	if !w.row.arrange(c.table, rec) {
		c.leave("a row has %d values for %d columns", len(rec.fields), len(c.table.Columns))
		return
	}
	w.row.take(c, w.seed)
}

// settle adds the sums of the last n rows up.
func (w *walker) settle(c *content, n int) {
	c.rows.Add(int64(n))
	for i := range min(len(c.sums), len(w.row.sums)) {
		c.sums[i].Add(w.row.sums[i])
	}
	clear(w.row.sums)
}
