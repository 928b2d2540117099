// Package compact gives the free pages of a table back to the disk, where there are enough of them and where it can be
// done within the pause that the table's users accept.
//
// How a file is compacted is the business of storage/table; when, of the runner and of the table's windows. A table that this
// process owns is compacted through its handle, while it is in use; any other in place.
package compact

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"tablekeeper/functions"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// Event asks for a compaction.
type Event struct {
	Tables     []string `json:"tables"`       // names or globs; none: all
	Force      bool     `json:"force"`        // whatever the share of free pages and the window; never longer than the pause
	DryRun     bool     `json:"dry_run"`      // only say what would be done
	MaxPauseMS int64    `json:"max_pause_ms"` // over the table's setting; 0: that
	Threshold  *float64 `json:"threshold"`    // over the table's setting, 0 to 1
	// Convert writes the whole table anew with auto_vacuum=incremental or none, whatever is free in it, and whatever the window.
	Convert string `json:"convert,omitempty"`
}

// Entry is the report of one table. Sizes are in bytes.
type Entry struct {
	functions.Entry
	Strategy         string  `json:"strategy,omitempty"`
	FreelistRatio    float64 `json:"freelist_ratio"`
	Threshold        float64 `json:"threshold"`
	BytesBefore      int64   `json:"bytes_before"`
	BytesAfter       int64   `json:"bytes_after"`
	PagesBefore      int64   `json:"pages_before"`
	PagesAfter       int64   `json:"pages_after"`
	FreePages        int64   `json:"free_pages"`
	PredictedPauseMS int64   `json:"predicted_pause_ms"`
	MaxPauseMS       int64   `json:"max_pause_ms"`
	DiskNeeded       int64   `json:"disk_needed"`
	DryRun           bool    `json:"dry_run,omitempty"`
	GainBytes        int64   `json:"gain_bytes"`               // that was given back, or would be
	Rounds           int     `json:"rounds,omitempty"`         // of catching up with the writers
	RowsCaughtUp     int64   `json:"rows_caught_up,omitempty"` // in these rounds
	CutUS            int64   `json:"cut_us,omitempty"`         // how long the writers waited for the last round and the swap, in microseconds
}

// Shelf is what a compaction asks of the tables.
type Shelf interface {
	functions.Selector
	Get(name string) (shelf.Table, error)
	SetState(name string, state shelf.State, reason string) error
}

// Owner is a Shelf of tables of which this process owns some.
type Owner interface {
	Owned(name string) *table.Table // nil if it does not
}

// Config is what a Function is made of. Shelf is required; it may be an Owner.
type Config struct {
	Shelf Shelf
	// NeedBackup: a table that has no good backup is not compacted, unless forced. Else the entry only says so.
	NeedBackup bool
	// BackUp makes the backup that a table lacks, before the table is compacted. nil: the table is skipped, no_backup.
	BackUp func(ctx context.Context, name string, p functions.Progress) error
	Wait   time.Duration    // how long to wait for the write lock of SQLite; 0: what storage/table does
	Now    func() time.Time // default time.Now
}

// Function compacts tables.
type Function struct{ Config }

// New makes a Function.
func New(c Config) *Function {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Function{c}
}

// Tables are those that the event names.
func (f *Function) Tables(_ context.Context, event Event) ([]string, error) {
	if t := event.Threshold; t != nil && (*t < 0 || *t > 1) {
		return nil, &functions.EventError{Problem: fmt.Sprintf("threshold %v is no share", *t), Try: "it is a number from 0 to 1, such as 0.1"}
	}
	if event.MaxPauseMS < 0 {
		return nil, &functions.EventError{Problem: fmt.Sprintf("max_pause_ms %d is negative", event.MaxPauseMS), Try: "it is in milliseconds; leave it out for the table's setting"}
	}
	if c := event.Convert; c != "" && c != table.Incremental && c != table.NoAutoVacuum {
		return nil, &functions.EventError{Problem: fmt.Sprintf("convert: %q is nothing that a table can be converted to", c), Try: "incremental or none"}
	}
	return functions.Names(f.Shelf, event.Tables)
}

// Run compacts one table.
func (f *Function) Run(ctx context.Context, event Event, name string, p functions.Progress) (entry Entry, err error) {
	start := f.Now()
	entry.Table, entry.DryRun = name, event.DryRun
	defer func() { entry.End(err, f.Now().Sub(start)) }()
	t, err := f.Shelf.Get(name)
	if err == nil && t.Missing {
		err = functions.Missing(t)
	}
	if err != nil {
		return entry, err
	}
	if t.State == shelf.Recovering {
		entry.Skip("recovering", "the table is being recovered")
		return entry, nil
	}
	if !event.Force && !event.DryRun && event.Convert == "" && !t.Settings.Open(start) {
		entry.Skip("outside_window", "the next window opens at "+t.Settings.NextOpen(start).UTC().Format(time.RFC3339))
		return entry, nil
	}
	if event.DryRun && !t.Settings.Open(start) {
		entry.Notes = append(entry.Notes, "it is compacted in its windows only; the next one opens at "+t.Settings.NextOpen(start).UTC().Format(time.RFC3339))
	}
	lacks := lacksBackup(t)
	if lacks != "" {
		entry.Notes = append(entry.Notes, lacks)
	}
	if (lacks != "" || event.Convert != "") && f.NeedBackup && !event.Force && !event.DryRun {
		if ready, err := f.secure(ctx, event, t, p, &entry); !ready || err != nil {
			return entry, err
		}
	}
	err = f.compact(ctx, event, t, p, &entry)
	return entry, err
}

// lacksBackup says why the table could not be brought back, "" if it could.
func lacksBackup(t shelf.Table) string {
	record, err := shelf.ReadRecord(t.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "the table has no backup yet: tablekeeper backup " + t.Name
	case err != nil:
		return "it is not known whether the table has a backup: " + err.Error()
	case record.Distrust != "":
		return "the table has no good backup: " + record.Distrust
	}
	return ""
}

// secure has a backup made of a table that has work to be done and no good backup, or is to be written anew altogether; ready is false if the entry says why there is
// nothing to be done, or no backup. A table without work is skipped for that.
func (f *Function) secure(ctx context.Context, event Event, t shelf.Table, p functions.Progress, entry *Entry) (ready bool, err error) {
	event.DryRun = true
	if err := f.compact(ctx, event, t, p, entry); err != nil || entry.Reason != table.DryRun {
		return false, err
	}
	if f.BackUp == nil && lacksBackup(t) == "" {
		entry.Reason, entry.Detail = "", ""
		return true, nil
	}
	if f.BackUp == nil {
		entry.Skip("no_backup", "a compaction is not begun without a good backup; --force does")
		return false, nil
	}
	err = f.BackUp(ctx, t.Name, p)
	switch {
	case ctx.Err() != nil, errors.Is(err, table.ErrCorrupt), errors.Is(err, table.ErrNotDatabase):
		return false, err
	case err != nil:
		entry.Skip("no_backup", "the backup that has to come first could not be made: "+err.Error())
		return false, nil //nolint:nilerr // it is told in the entry: the table is as well as before
	}
	if lacks := lacksBackup(t); lacks != "" {
		entry.Skip("no_backup", lacks)
		return false, nil
	}
	if len(entry.Notes) > 0 {
		entry.Notes = []string{"it had no good backup: one was made first"}
	}
	entry.Reason, entry.Detail = "", ""
	return true, nil
}

func (f *Function) options(event Event, t shelf.Table, p functions.Progress) table.CompactOptions {
	opts := table.CompactOptions{
		Threshold: t.Settings.Threshold, Force: event.Force, MaxPause: t.Settings.MaxPause, Wait: f.Wait, DryRun: event.DryRun,
		Convert:  event.Convert,
		Progress: func(phase string, done, total int64) { p.Tell(done, total, phase) },
	}
	if event.Threshold != nil {
		opts.Threshold = *event.Threshold
		if opts.Threshold == 0 {
			opts.Threshold = -1 // storage/table takes 0 for its default
		}
	}
	if event.MaxPauseMS > 0 {
		opts.MaxPause = time.Duration(event.MaxPauseMS) * time.Millisecond
	}
	return opts
}

func (f *Function) compact(ctx context.Context, event Event, t shelf.Table, p functions.Progress, entry *Entry) error {
	opts := f.options(event, t, p)
	entry.Threshold, entry.MaxPauseMS = max(opts.Threshold, 0), opts.MaxPause.Milliseconds()
	end := p.Begin("compact")
	done, err := f.run(ctx, t, opts)
	end(max(done.BytesBefore-done.BytesAfter, 0))
	entry.fill(done)
	if err == nil {
		return nil
	}
	if errors.Is(err, table.ErrCorrupt) {
		err = f.suspect(t, err)
	}
	return err
}

func (f *Function) run(ctx context.Context, t shelf.Table, opts table.CompactOptions) (table.Compaction, error) {
	if owner, ok := f.Shelf.(Owner); ok {
		if handle := owner.Owned(t.Name); handle != nil {
			return handle.Compact(ctx, opts)
		}
	}
	return table.Compact(ctx, t.Path, opts)
}

// suspect records that the table is damaged.
func (f *Function) suspect(t shelf.Table, err error) error {
	failure := &functions.Failure{Err: err, Final: true, Try: "tablekeeper restore " + t.Name + " --in-place"}
	if set := f.Shelf.SetState(t.Name, shelf.Suspect, err.Error()); set != nil {
		failure.Err = errors.Join(err, set)
	}
	return failure
}

func (e *Entry) fill(c table.Compaction) {
	e.Status, e.Reason, e.Detail = functions.Status(c.Status), c.Reason, c.Note
	e.Strategy, e.FreelistRatio = c.Strategy, c.FreelistRatio
	e.BytesBefore, e.BytesAfter, e.PagesBefore, e.PagesAfter = c.BytesBefore, c.BytesAfter, c.PagesBefore, c.PagesAfter
	e.FreePages, e.DiskNeeded = c.FreeBefore, c.DiskNeeded
	e.PredictedPauseMS, e.BlockedMS = c.PredictedPauseMS, c.BlockedMS
	e.GainBytes, e.Rounds, e.RowsCaughtUp, e.CutUS = c.GainBytes(), c.Rounds, c.RowsCaughtUp, c.CutUS
}
