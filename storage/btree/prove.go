package btree

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Pages gives the pages of one committed state of a database. It must be safe for concurrent use.
type Pages interface {
	// ReadPages reads whole pages into p, beginning with page first, which counts from 1.
	ReadPages(first uint32, p []byte) error
}

// DoubtError is why a file was not proved: the first thing found that is not as it should be, or not as this package knows it.
type DoubtError struct {
	Page uint32 // on which page; 0: none in particular
	What string
}

func (d *DoubtError) Error() string {
	if d.Page == 0 {
		return d.What
	}
	return fmt.Sprintf("page %d: %s", d.Page, d.What)
}

func doubt(page uint32, format string, args ...any) error {
	return &DoubtError{page, fmt.Sprintf(format, args...)}
}

// Options say how to go about it. The zero value is one worker.
type Options struct {
	Workers  int                     // goroutines, that of the caller included; 0: 1
	Progress func(done, total int64) // in pages, from any goroutine; nil: nobody is told
}

// Proof says what is so of a file whose b-trees, freelist and pointer map are sound.
type Proof struct {
	Rows map[string]int64 // of each of the SQL tables, by name
	// Open names the SQL tables about whose content nothing is said, and why. Their b-trees are sound.
	Open map[string]string
}

// Prove reads all pages in use. The database has count pages of size bytes. schema lists all its SQL tables that have a b-tree, but for
// sqlite_schema itself. The error is a *DoubtError, the context's, or of pages.
func Prove(ctx context.Context, pages Pages, size int, count uint32, schema []Table, opts Options) (Proof, error) {
	p, err := newProver(pages, size, count, opts)
	if err != nil {
		return Proof{}, err
	}
	return p.prove(ctx, append([]Table{schemaTable}, schema...))
}

// prover is shared by all workers.
type prover struct {
	pages Pages
	layout
	claimed  []atomic.Uint64 // a bit a page
	progress func(done, total int64)
	done     atomic.Int64
	seed     maphash.Seed
	spare    sync.Pool // of *walker
	group    errgroup.Group
	stop     func() error // whether, and why
	fail     context.CancelCauseFunc
}

func newProver(pages Pages, size int, count uint32, opts Options) (*prover, error) {
	first := make([]byte, max(size, smallestPage))
	if err := pages.ReadPages(1, first); err != nil {
		return nil, fmt.Errorf("read page 1: %w", err)
	}
	l, err := parseLayout(first, size, count)
	if err != nil {
		return nil, err
	}
	p := &prover{pages: pages, layout: l, progress: opts.Progress, seed: maphash.MakeSeed(), claimed: make([]atomic.Uint64, count/64+1)}
	if p.progress == nil {
		p.progress = func(int64, int64) {}
	}
	p.spare.New = func() any { return newWalker(p) }
	p.group.SetLimit(max(opts.Workers-1, 0))
	return p, nil
}

func (p *prover) prove(ctx context.Context, tables []Table) (Proof, error) {
	ctx, p.fail = context.WithCancelCause(ctx)
	defer p.fail(nil)
	p.stop = func() error { return context.Cause(ctx) }
	all, err := p.trees(tables)
	if err == nil {
		err = p.stop()
	}
	for _, t := range all {
		if err != nil {
			break
		}
		err = p.with(t.walk)
	}
	if err != nil {
		p.fail(err)
	}
	if waited := p.group.Wait(); waited != nil && !errors.Is(err, waited) {
		err = waited // the first failure is the cause of the others
	}
	if err == nil {
		err = p.rest(all)
	}
	if err != nil {
		return Proof{}, err
	}
	return conclude(all), nil
}

// trees lists the b-trees, largest first as far as anybody knows: tables before their indexes.
func (p *prover) trees(tables []Table) ([]*tree, error) {
	var all []*tree
	for i := range tables {
		if err := tables[i].check(); err != nil {
			return nil, err
		}
		all = append(all, p.treesOf(&tables[i])...)
	}
	return all, nil
}

// with runs f with buffers of its own.
func (p *prover) with(f func(*walker) error) error {
	w := p.spare.Get().(*walker)
	defer p.spare.Put(w)
	return f(w)
}

// try runs f beside the caller if a worker is idle.
func (p *prover) try(f func(*walker) error) bool {
	return p.group.TryGo(func() error {
		err := p.with(f)
		if err != nil {
			p.fail(err)
		}
		return err
	})
}

// claim counts page n as used by b-trees or freelist.
func (p *prover) claim(n uint32) error {
	if n < 1 || n > p.count || n == p.lockPage || p.isMap(n) {
		return doubt(n, "is referred to and cannot be")
	}
	bit := uint64(1) << (n % 64)
	if p.claimed[n/64].Or(bit)&bit != 0 {
		return doubt(n, "is referred to twice")
	}
	const every = 256
	if done := p.done.Add(1); done%every == 0 {
		p.progress(done, int64(p.count))
		return p.stop()
	}
	return nil
}

// rest proves what is no b-tree: the freelist, the largest root, and that no page is left over.
func (p *prover) rest(all []*tree) error {
	if err := p.with(func(w *walker) error { return w.freelist() }); err != nil {
		return err
	}
	if err := p.checkLargestRoot(all); err != nil {
		return err
	}
	used := p.done.Load() + p.apart()
	if used != int64(p.count) {
		return doubt(0, "%d pages are never used", int64(p.count)-used)
	}
	p.progress(int64(p.count), int64(p.count))
	return nil
}

func (p *prover) checkLargestRoot(all []*tree) error {
	if p.largestRoot == 0 {
		return nil
	}
	largest := slices.MaxFunc(all, func(a, b *tree) int { return int(int64(a.root) - int64(b.root)) }).root
	if largest != p.largestRoot {
		return doubt(1, "the header says that %d is the last root, it is %d", p.largestRoot, largest)
	}
	return nil
}

// conclude compares the sums of each index with those of its table's rows.
func conclude(all []*tree) Proof {
	proof := Proof{Rows: map[string]int64{}, Open: map[string]string{}}
	for _, t := range all {
		if t.index == nil {
			proof.Rows[t.table.Name] = t.entries.Load()
		} else if t.content.open.Load() == nil {
			t.content.compare(t)
		}
		if why := t.content.open.Load(); why != nil {
			proof.Open[t.table.Name] = *why
		}
	}
	maps.DeleteFunc(proof.Rows, func(name string, _ int64) bool { return name == schemaTable.Name })
	return proof
}
