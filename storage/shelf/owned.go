package shelf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"tablekeeper/storage/table"
)

// OwnOptions of an owned table. Recover is required.
type OwnOptions struct {
	Table    table.Options // OnCorrupt is ours
	Settings Settings      // of a table that no source has
	Schema   []string      // CREATE statements, for a table of which no backup and no readable page is left
	// Recover makes a damaged table whole again. It is called once an incident, and again after a while if it fails.
	Recover func(ctx context.Context, name string, r table.Report) error
	// Backoff is how long to wait after so many failures (from 1) in a row. Default: 1 s, doubled up to 5 min.
	Backoff func(failures int) time.Duration
}

// owner is the owned tables of a shelf.
type owner struct {
	mu     sync.Mutex
	tables map[string]*owned
}

// owned is one table that this process owns.
type owned struct {
	name   string
	path   string
	opts   OwnOptions
	handle *table.Table
	ready  chan struct{} // closed when handle is set
	ctx    context.Context
	stop   context.CancelFunc
	work   sync.WaitGroup

	mu     sync.Mutex
	report table.Report
	ended  bool
}

// Own opens the table at path under a name, as its owner: reads and writes of this program pass through the handle, and damage that
// they meet is reported to Recover. A table whose recovery was interrupted is recovered again. The handle is closed by
// CloseOwned.
func (s *Shelf) Own(ctx context.Context, name, path string, opts OwnOptions) (*table.Table, error) {
	if !ValidName(name) {
		return nil, fmt.Errorf("own table %q: it is no name of a table", name)
	}
	if opts.Backoff == nil {
		opts.Backoff = doubling
	}
	o := &owned{name: name, path: path, opts: opts, ready: make(chan struct{})}
	o.ctx, o.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.register(o); err != nil {
		return nil, err
	}
	opts.Table.OnCorrupt = func(_ context.Context, r table.Report) { s.suspect(o, r) }
	handle, err := table.Open(ctx, path, opts.Table)
	if err != nil {
		o.stop()
		s.unregister(o)
		return nil, err
	}
	o.mu.Lock()
	o.handle, o.path = handle, handle.Path()
	o.mu.Unlock()
	close(o.ready)
	if c, _ := ReadCondition(o.path); c.State == Suspect || c.State == Recovering {
		handle.Suspect(o.ctx, nil, fmt.Errorf("%w: an earlier process found it so (%s)", table.ErrCorrupt, c.Reason))
	}
	return handle, nil
}

func (s *Shelf) register(o *owned) error {
	s.owner.mu.Lock()
	_, taken := s.owner.tables[o.name]
	if !taken {
		if s.owner.tables == nil {
			s.owner.tables = map[string]*owned{}
		}
		s.owner.tables[o.name] = o
	}
	s.owner.mu.Unlock()
	if taken {
		return fmt.Errorf("own table %s: it is owned already: %w", o.name, table.ErrLocked)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tables = s.withOwned(s.tables)
	return nil
}

func (s *Shelf) unregister(o *owned) {
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	delete(s.owner.tables, o.name)
}

// withOwned adds the owned tables that a scan has not found: they may be new, or damaged beyond recognition.
func (s *Shelf) withOwned(tables []Table) []Table {
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	for name, o := range s.owner.tables {
		o.mu.Lock()
		path := o.path
		o.mu.Unlock()
		i := slices.IndexFunc(tables, func(t Table) bool { return t.Name == name })
		if i >= 0 {
			tables[i].Path, tables[i].Missing = path, false // its owner sees to that
			continue
		}
		condition, _ := ReadCondition(path) // one that cannot be read is suspect
		tables = append(tables, Table{Name: name, Path: path, Settings: o.opts.Settings.Over(s.defaults), Condition: condition})
	}
	slices.SortFunc(tables, func(a, b Table) int { return cmp.Compare(a.Name, b.Name) })
	return tables
}

// Owned is the handle of a table that this process owns, nil if it does not.
func (s *Shelf) Owned(name string) *table.Table {
	o := s.ownedByName(name)
	if o == nil {
		return nil
	}
	select {
	case <-o.ready:
		return o.handle
	default:
		return nil
	}
}

// OwnedSchema is the schema that the owner of a table gave, nil if there is none.
func (s *Shelf) OwnedSchema(name string) []string {
	if o := s.ownedByName(name); o != nil {
		return o.opts.Schema
	}
	return nil
}

// OwnedReport is what was last reported of an owned table, since it was last well; the zero Report if nothing was.
func (s *Shelf) OwnedReport(name string) table.Report {
	o := s.ownedByName(name)
	if o == nil {
		return table.Report{}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.report
}

func (s *Shelf) ownedByName(name string) *owned {
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	return s.owner.tables[name]
}

// suspect takes a report: the table's state changes, and its recovery is asked for until it is well, or the table is closed.
func (s *Shelf) suspect(o *owned, r table.Report) {
	if !o.begin(r) {
		return
	}
	defer o.work.Done()
	select {
	case <-o.ready:
	case <-o.ctx.Done():
		return
	}
	s.turnSuspect(o, r)
	for failures := 0; o.ctx.Err() == nil; {
		err := o.opts.Recover(o.ctx, o.name, r)
		if err == nil || s.well(o.name) {
			break
		}
		failures++
		wait := o.opts.Backoff(failures)
		s.log.Error("table is not recovered; it stays out of service and is tried again", "table", o.name, "failures", failures, "wait", wait, "error", err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-o.ctx.Done():
		}
		timer.Stop()
		if s.well(o.name) { // by hand, meanwhile
			break
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.report = table.Report{}
}

// begin tells whether the report is the first of an incident, and not of a table that is being closed.
func (o *owned) begin(r table.Report) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return false
	}
	o.report = r
	o.work.Add(1)
	return true
}

// turnSuspect does not forget that the table is degraded.
func (s *Shelf) turnSuspect(o *owned, r table.Report) {
	if t, err := s.Get(o.name); err == nil && t.State == Degraded {
		if err := UpdateRecovery(t.Path, func(kept *Recovery) error { kept.Degraded = true; return nil }); err != nil {
			s.log.Error("a degraded table is damaged again, and stays degraded", "table", o.name, "error", err)
			return
		}
	}
	s.note(o.name, Suspect, fmt.Sprintf("%s: %v", r.Cause, r.Err))
}

func (s *Shelf) note(name string, state State, reason string) {
	if err := s.SetState(name, state, reason); err != nil {
		s.log.Error("state of a table is not kept", "table", name, "state", string(state), "error", err)
	}
}

func (s *Shelf) well(name string) bool {
	t, err := s.Get(name)
	return err == nil && (t.State == Healthy || t.State == Degraded)
}

// doubling is 1 s, 2 s, 4 s, ... up to 5 min.
func doubling(failures int) time.Duration {
	return min(time.Second<<min(failures-1, 16), 5*time.Minute)
}

// CloseOwned closes the tables that this process owns. Recoveries under way are waited for; their contexts end.
func (s *Shelf) CloseOwned() error {
	s.owner.mu.Lock()
	all := s.owner.tables
	s.owner.tables = nil
	s.owner.mu.Unlock()
	var errs []error
	for _, o := range all {
		o.mu.Lock()
		o.ended = true
		o.mu.Unlock()
		o.stop()
	}
	for _, o := range all {
		o.work.Wait()
		if o.handle != nil {
			errs = append(errs, o.handle.Close())
		}
	}
	return errors.Join(errs...)
}
