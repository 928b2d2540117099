// Package sweep keeps order: it says which tables are overdue, removes backups that retention allows to go where the bucket
// does not do that itself, ends the quarantine of what was replaced long ago, and settles what dead processes left.
//
// Which backups may go at all is the law of storage/archive: only those superseded by a newer one that was proved.
package sweep

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"tablekeeper/functions"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// Event asks for a sweep.
type Event struct {
	Tables []string `json:"tables"`  // names or globs; none: all
	DryRun bool     `json:"dry_run"` // remove nothing, only say what would go
}

// Entry is the report of a sweep: one for all tables, which names those of which there is something to say.
type Entry struct {
	functions.Entry
	Tables     int                 `json:"tables"` // looked at
	Overdue    []Overdue           `json:"overdue,omitempty"`
	Removed    []Removed           `json:"removed,omitempty"`  // backups
	Released   []Released          `json:"released,omitempty"` // from quarantine
	Held       []Held              `json:"held,omitempty"`     // old enough to leave quarantine, and needed
	BytesFreed int64               `json:"bytes_freed"`        // here and in the bucket
	Resumed    []functions.Resumed `json:"resumed,omitempty"`  // what dead processes had left
	Problems   []Problem           `json:"problems,omitempty"` // what could not be done
	DryRun     bool                `json:"dry_run,omitempty"`
}

// Overdue is a table whose newest backup is older than its RPO allows.
type Overdue struct {
	Table string    `json:"table"`
	Since time.Time `json:"since"`                   // when it became overdue
	Last  time.Time `json:"last_confirmed,omitzero"` // when it was last known to equal a backup; zero: never
	RPOMS int64     `json:"rpo_ms"`
	Why   string    `json:"why"`
}

// Removed is a backup that is gone. Size is in bytes.
type Removed struct {
	Backup string `json:"backup"`
	Size   int64  `json:"size"`
}

// Released is what was removed from quarantine. Size is in bytes.
type Released struct {
	Path string    `json:"path"`
	Time time.Time `json:"time"` // when it was put there
	Size int64     `json:"size"`
}

// Held is what stays in quarantine though it is old. Size is in bytes.
type Held struct {
	Path string    `json:"path"`
	Time time.Time `json:"time"` // when it was put there
	Size int64     `json:"size"`
	Why  string    `json:"why"`
}

// Problem is something that could not be done.
type Problem struct {
	Table  string `json:"table,omitempty"`
	Reason string `json:"reason"`
	Detail string `json:"detail"`
}

// Catalogue is what a sweep asks of the backups.
type Catalogue interface {
	Sweep(ctx context.Context, table string, olderThan time.Time, dryRun bool) ([]archive.Backup, error)
}

// Config is what a Function is made of. Shelf and Bucket are required.
type Config struct {
	Shelf     functions.Selector
	Bucket    string    // which bucket backups go to, as their records name it
	Catalogue Catalogue // nil: the bucket has a lifecycle of its own, and retention is left to it

	Retention      time.Duration    // how long a superseded backup stays; default 30 days
	QuarantineAge  time.Duration    // how long what was replaced stays; default 30 days
	QuarantineKeep int              // the newest so many of each table stay whatever their age
	Since          time.Time        // when this service began: tables without a backup get their RPO from then on; zero: they are overdue at once
	Now            func() time.Time // default time.Now
}

const month = 30 * 24 * time.Hour

// Function keeps order.
type Function struct {
	Config

	mu          sync.Mutex
	swept       bool                 // at least once
	unprotected map[string]time.Time // tables without a good backup, and since when that is known
}

// New makes a Function.
func New(c Config) *Function {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Retention <= 0 {
		c.Retention = month
	}
	if c.QuarantineAge <= 0 {
		c.QuarantineAge = month
	}
	return &Function{Config: c, unprotected: map[string]time.Time{}}
}

// Tables is nil: a sweep is one unit of work, whatever the number of tables. So a table that is locked for days is still
// found to be overdue.
func (f *Function) Tables(_ context.Context, event Event) ([]string, error) {
	_, err := functions.Names(f.Shelf, event.Tables)
	return nil, err
}

// Run sweeps. Overdue tables and whatever could not be done make it fail, after all the rest was done.
func (f *Function) Run(ctx context.Context, event Event, _ string, p functions.Progress) (entry Entry, err error) {
	start := f.Now()
	entry.DryRun = event.DryRun
	defer func() { entry.End(err, f.Now().Sub(start)) }()
	tables, err := f.Shelf.Select(event.Tables)
	if err != nil {
		return entry, err
	}
	entry.Tables = len(tables)
	s := &sweep{Function: f, entry: &entry, now: start, dryRun: event.DryRun}
	if !event.DryRun {
		s.resume(ctx, tables)
	}
	for i, t := range tables {
		s.overdue(t)
		p.Tell(int64(i+1), int64(len(tables)), "overdue")
	}
	f.mu.Lock()
	f.swept = true
	f.mu.Unlock()
	s.retain(ctx, tables, p)
	s.release(ctx, tables)
	err = s.verdict(ctx)
	return entry, err
}

// sweep is one under way.
type sweep struct {
	*Function
	entry  *Entry
	now    time.Time
	dryRun bool
	errs   []error
}

func (s *sweep) problem(name string, err error) {
	s.errs = append(s.errs, err)
	s.entry.Problems = append(s.entry.Problems, Problem{Table: name, Reason: functions.ReasonOf(err), Detail: err.Error()})
}

func (s *sweep) resume(ctx context.Context, tables []shelf.Table) {
	resumed, err := functions.ResumeAll(ctx, tables)
	s.entry.Resumed = resumed
	if err != nil {
		s.problem("", err)
	}
}

// retain removes the backups that may go.
func (s *sweep) retain(ctx context.Context, tables []shelf.Table, p functions.Progress) {
	if s.Catalogue == nil {
		return
	}
	for i, t := range tables {
		removed, err := s.Catalogue.Sweep(ctx, t.Name, s.now.Add(-s.Retention), s.dryRun)
		for _, b := range removed {
			s.entry.Removed = append(s.entry.Removed, Removed{Backup: b.Key.String(), Size: b.Size})
			s.entry.BytesFreed += b.Size
		}
		p.Tell(int64(i+1), int64(len(tables)), "retention")
		if err == nil {
			continue
		}
		s.problem(t.Name, err)
		if ctx.Err() != nil || errors.Is(err, bucket.ErrUnreachable) || errors.Is(err, bucket.ErrNoBucket) || errors.Is(err, bucket.ErrDenied) {
			return // the other tables would only say the same
		}
	}
}

// release removes from quarantine what is old enough.
func (s *sweep) release(ctx context.Context, tables []shelf.Table) {
	dirs := map[string]bool{}
	for _, t := range tables {
		dirs[filepath.Dir(t.Path)] = true
	}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		released, err := s.expire(ctx, dir)
		for _, q := range released {
			s.entry.Released = append(s.entry.Released, Released{Path: q.Path, Time: q.Time, Size: q.Bytes})
			s.entry.BytesFreed += q.Bytes
		}
		if err != nil {
			s.problem("", err)
		}
	}
}

func (s *sweep) expire(ctx context.Context, dir string) ([]table.Quarantined, error) {
	before := s.now.Add(-s.QuarantineAge)
	return table.QuarantineExpire(ctx, dir, table.Expiry{
		Before: before, Keep: s.QuarantineKeep, DryRun: s.dryRun,
		Holds: func(q table.Quarantined) bool { return s.holds(filepath.Join(dir, q.Table), before, q) },
	})
}

// holds tells what stays whatever its age: all that was ever replaced of a table that is not well, and until it has been well for as long as
// anything stays. An empty table may be accepted by mistake, and what was damaged is then all there is.
func (s *sweep) holds(path string, before time.Time, q table.Quarantined) bool {
	needed, since, err := shelf.Needed(path)
	if !needed && since.Before(before) {
		return false
	}
	held := Held{Path: q.Path, Time: q.Time, Size: q.Bytes, Why: "the table has not been well for long enough"}
	switch {
	case err != nil:
		held.Why = err.Error()
	case needed:
		held.Why = "the table is not well, or began anew: a restore or an accepted state ends that"
	}
	s.entry.Held = append(s.entry.Held, held)
	return true
}

// verdict is the end of the report.
func (s *sweep) verdict(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return errors.Join(append(s.errs, err)...)
	}
	if len(s.entry.Overdue) > 0 {
		s.errs = append([]error{s.lament()}, s.errs...)
	}
	if err := errors.Join(s.errs...); err != nil {
		return err
	}
	s.entry.Status = functions.Swept
	if len(s.entry.Removed)+len(s.entry.Released)+len(s.entry.Resumed) == 0 {
		s.entry.Skip("nothing_to_do", "no table is overdue, and nothing may go")
	}
	return nil
}

// lament names the first few of the overdue tables.
func (s *sweep) lament() error {
	const most = 5
	var names []string
	for _, o := range s.entry.Overdue[:min(most, len(s.entry.Overdue))] {
		names = append(names, fmt.Sprintf("%s (since %s: %s)", o.Table, o.Since.UTC().Format(time.RFC3339), o.Why))
	}
	if more := len(s.entry.Overdue) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return &functions.Failure{
		Reason: "overdue", Final: true, Err: errors.New("overdue: " + strings.Join(names, ", ")),
		Try: "tablekeeper backup TABLE, and tablekeeper runs list --function backup for what kept it from being backed up",
	}
}
