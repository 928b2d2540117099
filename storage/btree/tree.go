package btree

import "sync/atomic"

// tree is one b-tree: that of an SQL table or of an index.
type tree struct {
	*layout
	table   *Table
	index   *Index // nil: the tree of the table itself
	number  int    // of the index
	root    uint32
	fields  []Field // of an entry, in the order of storage
	unique  int     // how many of them no two entries have alike
	content *content

	leaves  atomic.Int32 // how far the leaves are below the root, plus one; 0: not known yet
	entries atomic.Int64
	sum     atomic.Uint64 // of the entries
}

// treesOf gives the tree of an SQL table, and after it those of its indexes.
func (p *prover) treesOf(t *Table) []*tree {
	c := newContent(t, &p.layout)
	all := []*tree{{layout: &p.layout, table: t, root: t.Root, fields: t.Key, unique: t.Unique, content: c}}
	for i := range t.Indexes {
		index := &t.Indexes[i]
		all = append(all, &tree{layout: &p.layout, table: t, index: index, number: i, root: index.Root, fields: index.Fields, unique: index.Unique, content: c})
	}
	return all
}

// deepest is more than any b-tree has levels: with two children a page there would be 2^40 of them.
const deepest = 40

// walk proves the tree. It may leave parts to other workers.
func (t *tree) walk(w *walker) error {
	w.ahead = nil
	if err := w.read(t.root); err != nil {
		return err
	}
	switch w.kind(t.root) {
	case tableLeaf, tableInterior:
		if (t.index != nil || t.fields != nil) && t.table.Opaque == "" {
			return doubt(t.root, "is the root of a table, and should be that of an index")
		}
		return w.rows(t, place{page: t.root}, span{least, most})
	default:
		if t.index == nil && t.fields == nil && t.table.Opaque == "" {
			return doubt(t.root, "is not the root of a table")
		}
		return w.entries(t, place{page: t.root}, bounds{})
	}
}

// level sees that all leaves are equally far from the root.
func (t *tree) level(at place, leaf bool) error {
	if at.depth > deepest {
		return doubt(at.page, "is %d levels below the root", at.depth)
	}
	if !leaf {
		return nil
	}
	depth := int32(at.depth) + 1
	if !t.leaves.CompareAndSwap(0, depth) && t.leaves.Load() != depth {
		return doubt(at.page, "is a leaf %d levels below the root, others are %d", depth-1, t.leaves.Load()-1)
	}
	return nil
}

// place is where a page is in its tree.
type place struct {
	page, parent uint32
	depth        int
}

// below is the place of a child.
func (p place) below(child uint32) place { return place{child, p.page, p.depth + 1} }

// descend visits the children of the page at p: here, or by an idle worker if the children are not leaves.
func (t *tree) descend(w *walker, p place, children []uint32, visit func(w *walker, i int) error) error {
	for i := range children {
		if leaves := int(t.leaves.Load()) - 1; leaves > p.depth+1 && w.prover.try(func(w *walker) error {
			w.ahead = nil
			return visit(w, i)
		}) {
			continue
		}
		w.ahead = children[i:]
		if err := visit(w, i); err != nil {
			return err
		}
	}
	return nil
}
