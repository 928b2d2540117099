package salvage

import (
	"context"
	"errors"
	"fmt"
)

// salvager is one run of File.
type salvager struct {
	source source
	head   header
	opts   Options
	schema []object
	out    *output
	report Report
	ctx    context.Context // of this one run: a walk calls back through many frames
	pages  int64           // done
}

func newSalvager(pages Pages, opts Options) *salvager {
	s := &salvager{opts: opts}
	s.report.Pages = pages.PageCount()
	first, err := pages.Page(1)
	if err != nil {
		s.report.problem("page 1: %v", err)
	}
	s.head = parseHeader(first, pages.PageSize())
	s.source = source{pages: pages, usable: s.head.pageSize - s.head.reserved, text: s.head.text,
		seen: make([]bool, pages.PageCount()+1), done: s.progress}
	return s
}

func (s *salvager) progress(n int64) {
	s.pages += n
	if s.opts.Progress != nil {
		s.opts.Progress(s.pages, s.report.Pages)
	}
}

func (s *salvager) run(ctx context.Context, path string) error {
	s.ctx = ctx
	if err := s.readSchema(); err != nil {
		return err
	}
	if len(s.schema) == 0 && !s.anyPage() {
		return ErrNothing
	}
	out, err := create(ctx, path, s.head)
	if err != nil {
		return err
	}
	s.out = out
	if err := s.fill(); err != nil {
		return errors.Join(err, out.abandon())
	}
	problems, err := out.finish(ctx, s.report.Tables)
	for _, p := range problems {
		s.report.problem("integrity check: %s", p)
	}
	return err
}

// anyPage tells whether any page is one of a b-tree.
func (s *salvager) anyPage() bool {
	for n := int64(1); n <= s.report.Pages; n++ {
		if _, ok := parsePage(s.source.read(n), n); ok {
			return true
		}
	}
	return false
}

// fill makes the SQL tables with their rows, then what nothing led to, and last what depends on rows: indexes, views,
// triggers.
func (s *salvager) fill() error {
	s.source.freelist(s.head.freelist)
	s.markIndexes()
	for _, o := range s.schema {
		if o.kind != "table" || o.virtual() {
			continue
		}
		if err := s.table(o); err != nil {
			return err
		}
	}
	if err := s.lostAndFound(); err != nil {
		return err
	}
	s.rest()
	return nil
}

// markIndexes walks the indexes first, so that their pages are not taken for anything else; their content is made anew.
func (s *salvager) markIndexes() {
	for _, o := range s.schema {
		if o.kind != "index" || o.root == 0 {
			continue
		}
		l, err := s.source.walk(o.root, true, func(row) error { return s.ctx.Err() })
		if err == nil && l != (lost{}) {
			s.report.problem("index %s: damaged, made anew", o.name)
		}
	}
}

// table makes one SQL table and fills it.
func (s *salvager) table(o object) error {
	t, err := s.out.table(s.ctx, o)
	if err != nil {
		s.report.problem("SQL table %s: %v", o.name, err)
		return s.ctx.Err()
	}
	defer t.close()
	report := TableReport{Name: t.name}
	if o.root > 0 {
		l, err := s.source.walk(o.root, t.withoutRowid, func(r row) error {
			kept, err := t.insert(s.ctx, r)
			if kept {
				report.Rows++
			} else {
				report.Refused++
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("SQL table %s: %w", o.name, err)
		}
		report.PagesLost, report.CellsLost = l.pages, l.cells
	}
	s.report.PagesLost += report.PagesLost
	s.report.CellsLost += report.CellsLost
	s.report.Tables = append(s.report.Tables, report)
	return nil
}

// lostAndFound keeps the rows that nothing led to.
func (s *salvager) lostAndFound() error {
	l, err := s.source.orphans(func(r row) error {
		s.report.LostAndFound++
		return s.out.lostAndFound(s.ctx, r)
	})
	s.report.CellsLost += l.cells
	return err
}

// rest makes what depends on rows. What cannot be made is a problem, not a failure: the rows are there.
func (s *salvager) rest() {
	for _, kind := range []string{"table", "index", "view", "trigger"} {
		for _, o := range s.schema {
			if o.kind != kind || o.sql == "" || o.internal() || (kind == "table") != o.virtual() {
				continue
			}
			if err := s.out.object(s.ctx, o); err != nil {
				s.report.problem("%s %s: %v", o.kind, o.name, err)
			}
		}
	}
}
