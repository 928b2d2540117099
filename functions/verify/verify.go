// Package verify proves that backups restore: it fetches one into a temporary file, decodes it, compares its sha256 and
// every page's sum, has SQLite check it, reads every row and counts them. Only a backup that was proved so lets older ones
// go.
//
// There are three outcomes, and they are never confused: proved; failed, which is about the backup; could not run, which is
// about the bucket, the disk or the key, and says nothing of the backup.
package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"tablekeeper/functions"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// Event asks for drills.
type Event struct {
	Tables []string `json:"tables"` // names or globs; none: all
	Backup string   `json:"backup"` // "latest" (also ""), "all", or a key, which says the table too
}

// The outcomes of a drill.
const (
	Proved      = "proved"
	Failed      = "failed"
	CouldNotRun = "could_not_run"
)

// Entry is the report of one table. The fields of its newest drill are repeated in it.
type Entry struct {
	functions.Entry
	Outcome     string  `json:"outcome,omitempty"`
	BackupUsed  string  `json:"backup_used,omitempty"`
	RecordCount int64   `json:"record_count"`
	FileSize    int64   `json:"file_size"`
	Scrubbed    int64   `json:"scrubbed,omitempty"`    // pages of an owned table that were compared with what was written
	BadPages    int     `json:"bad_pages,omitempty"`   // of these, damaged ones
	LastProved  string  `json:"last_proved,omitempty"` // newest backup known to restore, where this one did not
	Drills      []Drill `json:"drills,omitempty"`
}

// Drill is the report of one backup. Sizes are in bytes.
type Drill struct {
	Backup      string   `json:"backup"`
	Outcome     string   `json:"outcome"`
	Reason      string   `json:"reason,omitempty"`
	Detail      string   `json:"detail,omitempty"`
	Size        int64    `json:"size"`      // of the object
	FileSize    int64    `json:"file_size"` // of the database
	RecordCount int64    `json:"record_count"`
	ForeignKeys []string `json:"foreign_key_violations,omitempty"` // the first hundred, as the source had them: no failure
	Unchecked   []string `json:"unchecked,omitempty"`              // what needs a collation or a module that is not here
	Repeated    string   `json:"repeated,omitempty"`               // why the first attempt failed, if it did: it may have been the network
	DurationMS  int64    `json:"duration_ms"`

	err error
}

// Shelf is what a drill asks of the tables.
type Shelf interface {
	functions.Selector
	Get(name string) (shelf.Table, error)
	// Owned is the handle of a table that this process owns, nil if it does not.
	Owned(name string) *table.Table
}

// Catalogue is what a drill asks of the backups.
type Catalogue interface {
	functions.Opener
	Backups(ctx context.Context, table string) ([]archive.Backup, error)
	MarkProved(ctx context.Context, key archive.Key, at time.Time) error
	MarkFailed(ctx context.Context, key archive.Key, at time.Time) error
}

// Config is what a Function is made of. Shelf, Catalogue and Bucket are required.
type Config struct {
	Shelf     Shelf
	Catalogue Catalogue
	Bucket    string           // which bucket the catalogue is in, as the records of backups name it
	ScrubRate int64            // bytes a second at which owned tables are scrubbed; 0: as fast as the disk
	Scratch   string           // folder for the restored files; "": beside each table
	Held      functions.Holder // the locks that the caller has taken
	Now       func() time.Time // default time.Now
}

// Function proves backups.
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
	if event.Backup == "" || event.Backup == "latest" || event.Backup == "all" {
		return functions.Names(f.Shelf, event.Tables)
	}
	key, err := archive.ParseKey(event.Backup)
	if err != nil {
		return nil, &functions.EventError{Problem: err.Error(), Try: `backup is "latest", "all", or a key as "tablekeeper backups TABLE" shows it`}
	}
	if len(event.Tables) > 0 && !slices.Equal(event.Tables, []string{key.Table}) {
		return nil, &functions.EventError{Problem: fmt.Sprintf("%s is a backup of %s alone", event.Backup, key.Table), Try: "leave tables out"}
	}
	return functions.Names(f.Shelf, []string{key.Table})
}

// Run drills one table's backups.
func (f *Function) Run(ctx context.Context, event Event, name string, p functions.Progress) (entry Entry, err error) {
	start := f.Now()
	entry.Table = name
	defer func() { entry.End(err, f.Now().Sub(start)) }()
	t, err := f.Shelf.Get(name)
	if err != nil {
		return entry, err
	}
	if _, err := functions.Resume(ctx, t.Path, f.Held.Of(name)); err != nil && !errors.Is(err, table.ErrLocked) {
		entry.Notes = append(entry.Notes, err.Error())
	}
	if err := f.scrub(ctx, t, &entry, p); err != nil {
		return entry, err
	}
	all, err := f.Catalogue.Backups(ctx, name)
	if err != nil {
		entry.Outcome = CouldNotRun
		return entry, err
	}
	if len(all) == 0 && neverBackedUp(t) {
		entry.Skip("no_backup", "the table has no backup yet: tablekeeper backup "+name)
		return entry, nil
	}
	chosen, err := choose(all, event.Backup, t)
	if err != nil {
		entry.Outcome = Failed
		return entry, err
	}
	for _, backup := range chosen {
		d := f.drill(ctx, t, backup, p)
		if f.expired(ctx, backup.Key, d.err) {
			entry.Notes = append(entry.Notes, d.Backup+" was removed by retention meanwhile")
		} else {
			entry.Drills = append(entry.Drills, d)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if len(entry.Drills) == 0 {
		entry.Outcome = Failed
		return entry, noBackup(t, chosen[0].Key.String())
	}
	err = f.conclude(&entry, t, all)
	return entry, err
}

// expired tells whether err is that of a backup that retention has removed since it was listed: a newer one stands for it.
func (f *Function) expired(ctx context.Context, key archive.Key, err error) bool {
	if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, functions.ErrHere) {
		return false
	}
	all, err := f.Catalogue.Backups(ctx, key.Table)
	there := func(b archive.Backup) bool { return b.Key == key }
	stands := func(b archive.Backup) bool {
		return b.Key.Compare(key) > 0 && !b.Proved.IsZero() && b.Failed.IsZero() && !b.Degraded
	}
	return err == nil && !slices.ContainsFunc(all, there) && slices.ContainsFunc(all, stands)
}

// neverBackedUp tells a table that is new, and which sweep will find overdue in time, from one whose backups are gone.
func neverBackedUp(t shelf.Table) bool {
	_, err := shelf.ReadRecord(t.Path)
	return errors.Is(err, fs.ErrNotExist)
}

// choose picks the backups that the event means; newest first.
func choose(all []archive.Backup, which string, t shelf.Table) ([]archive.Backup, error) {
	if len(all) == 0 {
		return nil, &functions.Failure{
			Reason: "no_backup", Err: fmt.Errorf("table %s has no backup", t.Name), Try: "tablekeeper backup " + t.Name, Final: true,
		}
	}
	switch which {
	case "", "latest":
		return all[:1], nil
	case "all":
		return all, nil
	}
	for _, b := range all {
		if b.Key.String() == which {
			return []archive.Backup{b}, nil
		}
	}
	return nil, noBackup(t, which)
}

func noBackup(t shelf.Table, which string) error {
	return &functions.Failure{
		Reason: "no_backup", Err: fmt.Errorf("backup %s: %w", which, fs.ErrNotExist), Try: "tablekeeper backups " + t.Name + " lists them", Final: true,
	}
}

// conclude makes one verdict of the drills. The worst counts: a bad backup before one that could not be looked at.
func (f *Function) conclude(entry *Entry, t shelf.Table, all []archive.Backup) error {
	first := entry.Drills[0]
	entry.BackupUsed, entry.RecordCount, entry.FileSize = first.Backup, first.RecordCount, first.FileSize
	entry.Status, entry.Outcome = functions.Verified, Proved
	var errs []error
	for _, d := range entry.Drills {
		errs = append(errs, d.err)
		if d.Outcome == Failed || d.Outcome == CouldNotRun && entry.Outcome == Proved {
			entry.Outcome = d.Outcome
		}
		if d.Repeated != "" && d.Outcome == Proved {
			entry.Notes = append(entry.Notes, d.Backup+" restored at the second attempt only: "+d.Repeated)
		}
		if len(d.ForeignKeys) > 0 {
			entry.Notes = append(entry.Notes, d.Backup+" has violations of foreign keys, as its source had")
		}
	}
	err := errors.Join(errs...)
	if err == nil {
		return nil
	}
	if entry.Outcome == Failed {
		err = f.accuse(entry, t, all, err)
	}
	return err
}

// accuse says what is left where a backup is bad.
func (f *Function) accuse(entry *Entry, t shelf.Table, all []archive.Backup, err error) error {
	failure := &functions.Failure{Reason: worst(entry.Drills), Err: err, Try: "tablekeeper backup " + t.Name + " --force stores a new one"}
	bad := map[string]bool{}
	for _, d := range entry.Drills {
		bad[d.Backup] = d.Outcome == Failed
	}
	for _, b := range all {
		if !b.Proved.IsZero() && b.Failed.IsZero() && !bad[b.Key.String()] {
			entry.LastProved = b.Key.String()
			failure.Try += "; until then the newest good one is " + entry.LastProved
			return failure
		}
	}
	failure.Try += "; no backup of the table is known to be good"
	return failure
}

func worst(drills []Drill) string {
	for _, d := range drills {
		if d.Outcome == Failed {
			return d.Reason
		}
	}
	return ""
}
