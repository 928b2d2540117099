// Package recover makes a damaged table whole again without a human, and loses as little as can be. It climbs a ladder, and each
// rung is a step of the report:
//
//	bit      a page differs from its sum by one bit, and the sum tells which. Nothing is lost, and no backup is needed.
//	reindex  only indexes or free pages are damaged: they are made anew from the rows. Nothing is lost.
//	pages    the damaged pages are fetched from a backup whose sums equal those of the ledger. Nothing is lost.
//	restore  the newest backup that passes every check; then older ones; then those of a second bucket.
//	empty    a new table with the last known schema; the table is degraded from then on.
//
// What is put in place is first built beside the table, and checked there: integrity, every row, counts, size. The damaged
// files are never changed; they go to quarantine as they are. So a recovery can be killed at any point and begun again. A
// bucket that does not answer is no bad backup: the table then stays out of service, and is never emptied.
//
// How files are copied, mended, exchanged and kept is the business of storage/table; who asks, when it is tried again and who is
// told, of the caller.
package recover

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"tablekeeper/functions"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// Event asks for a recovery, or for the end of a degraded state.
type Event struct {
	Table  string `json:"table"`
	Reason string `json:"reason"`  // who noticed what
	Accept bool   `json:"accept"`  // the table is degraded, and is to be used as it is now
	DryRun bool   `json:"dry_run"` // only say what is damaged and which rungs there are
	// Force recovers a table though it was recovered several times just now: a person has looked at it.
	Force bool `json:"force"`
	// Empty allows the last rung for a table that other programs own. Without it such a table is left as it is.
	Empty bool `json:"empty"`
	// Tell only reports what an earlier process did that ended before it was recorded.
	Tell bool `json:"tell"`
}

// Rungs.
const (
	RungNone    = "none" // nothing is damaged, or nothing any more
	RungBit     = "bit"
	RungReindex = "reindex"
	RungPages   = "pages"
	RungRestore = "restore"
	RungEmpty   = "empty"
	RungAccept  = "accept"
)

// Outcomes of a step.
const (
	Done        = "done"
	Failed      = "failed"       // tried, and it did not lead to a sound table
	NotPossible = "not_possible" // there is nothing to try
)

// Step is what was done on one rung. LostSince and LostRows say what it loses, where that is known.
type Step struct {
	Rung       string    `json:"rung"`
	Backup     string    `json:"backup,omitempty"`
	Started    time.Time `json:"started"`
	DurationMS int64     `json:"duration_ms"`
	Outcome    string    `json:"outcome"`
	Detail     string    `json:"detail,omitempty"`
	Lost       string    `json:"lost,omitempty"`
}

// Entry is the report of a recovery. Sizes are in bytes.
type Entry struct {
	functions.Entry
	Cause       string          `json:"cause,omitempty"`     // how the damage was noticed
	BadPages    int             `json:"bad_pages,omitempty"` // where pages are known one by one
	Rung        string          `json:"rung,omitempty"`
	Rungs       []Step          `json:"rungs,omitempty"`
	BackupUsed  string          `json:"backup_used,omitempty"`
	RecordCount int64           `json:"record_count"`
	FileSize    int64           `json:"file_size"`
	Method      string          `json:"method,omitempty"`    // swap or overwrite
	LostSince   time.Time       `json:"lost_since,omitzero"` // what was written after it is lost
	LostRows    *int64          `json:"lost_rows,omitempty"` // how many rows fewer there are, where that is known
	Lost        string          `json:"lost,omitempty"`
	Quarantine  string          `json:"quarantine,omitempty"` // the folder that has the damaged files
	Processes   []table.Process `json:"processes,omitempty"`  // that have the table open
	// Recoveries are the names of those that this tells of: its own, and earlier ones that may have been recorded nowhere.
	Recoveries []string `json:"recoveries,omitempty"`
}

// Shelf is what a recovery asks of the tables.
type Shelf interface {
	Get(name string) (shelf.Table, error)
	SetState(name string, state shelf.State, reason string) error
	Owned(name string) *table.Table
	OwnedReport(name string) table.Report
	OwnedSchema(name string) []string
}

// Catalogue is what a recovery asks of the backups.
type Catalogue interface {
	functions.Opener
	functions.Accuser
	Backups(ctx context.Context, table string) ([]archive.Backup, error)
}

// Source is a bucket with backups.
type Source struct {
	Catalogue Catalogue
	Bucket    string // which one it is, as the records of backups name it
}

// Config is what a Function is made of. Shelf is required.
type Config struct {
	Shelf   Shelf
	Sources []Source         // in the order in which they are asked
	Held    functions.Holder // the locks that the caller has taken
	Wait    time.Duration    // how long to wait for users of the table to let it go; 0: not at all
	Now     func() time.Time // default time.Now
	Logger  *slog.Logger     // default: none
	// Remember keeps each report beside its table until shelf.Told is called with its names. Without it a report counts as recorded when Run
	// returns it.
	Remember bool
}

// Function recovers tables.
type Function struct {
	Config

	handed *told
}

// New makes a Function.
func New(c Config) *Function {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Function{Config: c, handed: &told{}}
}

// Tables is the one table that the event names.
func (f *Function) Tables(_ context.Context, event Event) ([]string, error) {
	switch {
	case !shelf.ValidName(event.Table):
		return nil, &functions.EventError{Problem: fmt.Sprintf("%q is no name of a table", event.Table), Try: "name the table to recover"}
	case event.Accept && event.DryRun:
		return nil, &functions.EventError{Problem: "accept and dry_run exclude each other", Try: "give one of them"}
	}
	return []string{event.Table}, nil
}

// Over names what a recovery ends to have its table now: work that a damaged table makes vain, and that is done again after it. A restore is
// not among it: a person asked for it, and it replaces the damage, too.
func (f *Function) Over(event Event) []string {
	if event.Accept || event.DryRun || event.Tell {
		return nil
	}
	return []string{"backup", "compact", "verify", "sweep"}
}

// Run recovers the table.
func (f *Function) Run(ctx context.Context, event Event, name string, p functions.Progress) (entry Entry, err error) {
	start := f.Now()
	entry.Table = name
	defer func() { entry.End(err, f.Now().Sub(start)) }()
	t, err := f.Shelf.Get(name)
	if err != nil {
		return entry, &functions.Failure{Err: err, Final: true}
	}
	r := &recovery{Function: f, event: event, table: t, handle: f.Shelf.Owned(name), held: f.Held.Of(name), entry: &entry, progress: p, start: start}
	switch {
	case event.Accept:
		err = r.accept()
	case event.Tell:
		err = r.tell()
	case event.DryRun:
		err = r.rehearse(ctx)
	default:
		err = r.run(ctx)
	}
	return entry, err
}

// accept ends the degraded state of a table whose rows are gone for good, or were put there by hand.
func (r *recovery) accept() error {
	if r.table.State != shelf.Degraded {
		r.entry.Skip("not_degraded", "the table is "+string(r.table.State)+": there is nothing to accept")
		return nil
	}
	// First, so that what is in quarantine has its time from now on whatever happens between.
	if err := r.keep(func(k *shelf.Recovery) {
		k.Outcome = nil
		k.NotDegraded(true, r.Now())
	}); err != nil {
		return err
	}
	if err := r.Shelf.SetState(r.table.Name, shelf.Healthy, ""); err != nil {
		return err
	}
	r.entry.Status, r.entry.Rung = functions.Repaired, RungAccept
	r.entry.Detail = "the table is used as it is from now on, and its backups count again"
	return nil
}

// keep changes what is kept of the recovery beside the table.
func (r *recovery) keep(change func(*shelf.Recovery)) error {
	return shelf.UpdateRecovery(r.table.Path, func(k *shelf.Recovery) error {
		change(k)
		return nil
	})
}

// announce keeps what the report will be once the file is in place.
func (r *recovery) announce() error {
	r.name()
	outcome, err := json.Marshal(r.entry)
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	return r.keep(func(k *shelf.Recovery) { k.Outcome = outcome })
}

// The bounds beyond which a table that is damaged again and again is left alone for a while.
const (
	maxRecoveries = 3
	perWindow     = 10 * time.Minute
)

// tooOften is the failure of a table that was recovered several times just now: something goes on damaging it.
func (r *recovery) tooOften() error {
	if r.event.Force || r.table.State == shelf.Healthy {
		return nil
	}
	since, n := r.start.Add(-perWindow), 0
	for _, at := range shelf.ReadRecovery(r.table.Path).Ended {
		if at.After(since) && !at.After(r.start) {
			n++
		}
	}
	if n < maxRecoveries {
		return nil
	}
	return &functions.Failure{
		Reason: "corrupt_again", Final: true,
		Err: fmt.Errorf("the table was recovered %d times within %v and is damaged again: disk, memory or another program damage it", n, perWindow),
		Try: "look for the cause, then: tablekeeper recover " + r.table.Name,
	}
}

// rehearse says what a recovery would find, and changes nothing: the table stays in service.
func (r *recovery) rehearse(ctx context.Context) error {
	r.entry.Skip("dry_run", "nothing was changed")
	if report := r.Shelf.OwnedReport(r.table.Name); report.Cause != "" { // out of service: there is nothing to scrub
		r.entry.BadPages, r.entry.Cause = len(report.Pages), string(report.Cause)
		r.entry.Detail += "; " + report.Err.Error()
		return nil
	}
	if r.handle != nil {
		scrubbed, err := r.handle.Scrub(ctx, table.ScrubOptions{})
		r.entry.BadPages = len(scrubbed.Bad)
		if err == nil && len(scrubbed.Bad) == 0 {
			r.entry.Detail += "; every page is what was written"
		}
		return err
	}
	report, err := table.Check(ctx, r.table.Path, table.CheckOptions{Traverse: true})
	if err != nil {
		return err
	}
	r.entry.RecordCount, r.entry.FileSize = sum(report.Rows), report.Stats.Bytes
	r.entry.Detail += "; SQLite finds nothing wrong"
	if !report.OK {
		r.entry.Detail = "nothing was changed; " + report.Err().Error()
	}
	return nil
}
