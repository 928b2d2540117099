package btree

// bounds are the entries between which a subtree is; nil: it has no such bound, or it is not known.
type bounds struct{ after, before *entry }

// entries proves the subtree at p of an index, or of a table WITHOUT ROWID.
func (w *walker) entries(t *tree, p place, allowed bounds) error {
	pg, err := w.visit(t, p)
	if err != nil {
		return err
	}
	if pg.kind != indexLeaf && pg.kind != indexInterior {
		return doubt(p.page, "is no page of an index")
	}
	var children []uint32
	var between []bounds
	last := allowed.after
	var sum uint64
	for i := range pg.cells {
		c := &pg.cells[i]
		e, err := w.entryOf(t, &pg, c, last, &sum)
		if err != nil {
			return err
		}
		if pg.leaf() {
			last = e
			continue
		}
		if e != nil {
			e = e.clone()
		}
		children, between = append(children, c.child), append(between, bounds{last, e})
		last = e
	}
	if pg.leaf() {
		t.inOrder(last, allowed.before)
	}
	t.entries.Add(int64(len(pg.cells)))
	t.sum.Add(sum)
	if t.index == nil {
		w.settle(t.content, len(pg.cells))
	}
	if pg.leaf() {
		return nil
	}
	children, between = append(children, pg.right), append(between, bounds{last, allowed.before})
	return t.descend(w, p, children, func(w *walker, i int) error { return w.entries(t, p.below(children[i]), between[i]) })
}

// entryOf takes one entry, which comes after last, and returns it; nil if nothing can be said about it. It is valid until
// the entry after the next.
func (w *walker) entryOf(t *tree, pg *page, c *cell, last *entry, sum *uint64) (*entry, error) {
	payload, err := w.gather(c, pg.number)
	if err != nil || t.content.open.Load() != nil {
		return nil, err
	}
	e := w.current
	w.last, w.current = w.current, w.last
	if !e.set(payload, c.size) {
		t.content.leave("%s has a malformed entry", t.name())
		return nil, nil
	}
	t.inOrder(last, e)
	if t.index == nil {
		w.rowOf(t.content, &e.rec, 0)
		return e, nil
	}
	one, scratch, ok := e.sumOf(w.seed, w.row.scratch)
	w.row.scratch = scratch
	if !ok {
		t.content.leave("%s has an entry that is too long, or no number", t.name())
		return nil, nil
	}
	*sum += one
	return e, nil
}

// inOrder says nothing about the content any more if b does not come after a.
func (t *tree) inOrder(a, b *entry) {
	if a == nil || b == nil || t.content.open.Load() != nil {
		return
	}
	switch ordered, apart, known := t.before(a, b); {
	case !known:
		t.content.leave("%s has entries that cannot be compared", t.name())
	case !ordered:
		t.content.leave("%s is out of order", t.name())
	case !apart:
		t.content.leave("%s has an entry twice", t.name())
	}
}

func (t *tree) name() string {
	if t.index != nil {
		return "index " + t.index.Name
	}
	return "table " + t.table.Name
}
