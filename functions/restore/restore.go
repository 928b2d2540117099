// Package restore brings a table back: the newest backup that passes every check, into a new file or in place of the
// table.
//
// A backup that fails a check is passed over, said so, and the next older one is taken; a bucket that does not answer
// is no bad backup. What is replaced is kept. How a file is put in place, and how it is known that nobody has it open, is
// the business of storage/table.
package restore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"tablekeeper/functions"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// Event asks for a restore.
type Event struct {
	Table   string `json:"table"`
	Backup  string `json:"backup"`   // "latest" (also ""), or a key
	At      string `json:"at"`       // the newest backup not after this time: RFC 3339, or "2026-11-22 10:00"
	Output  string `json:"output"`   // a new file
	InPlace bool   `json:"in_place"` // instead of the table itself
	Force   bool   `json:"force"`    // replace a file that is at output; it goes to quarantine
	DryRun  bool   `json:"dry_run"`  // only say what would be done
	// FullCheck has SQLite check a backup that a drill has proved, too, and every row read.
	FullCheck bool `json:"full_check"`
}

// Entry is the report of a restore. Sizes are in bytes.
type Entry struct {
	functions.Entry
	BackupUsed  string          `json:"backup_used,omitempty"`
	Checked     string          `json:"checked,omitempty"` // "full", or "proved" with the time of the drill that the restore relied on
	RecordCount int64           `json:"record_count"`
	FileSize    int64           `json:"file_size"`
	Destination string          `json:"destination,omitempty"`
	Method      string          `json:"method,omitempty"`     // new_file, swap or overwrite
	Quarantine  string          `json:"quarantine,omitempty"` // the folder that has what was replaced
	LostSince   time.Time       `json:"lost_since,omitzero"`  // what was written after this is not in the backup
	PassedOver  []PassedOver    `json:"passed_over,omitempty"`
	Processes   []table.Process `json:"processes,omitempty"` // that have the table open
	Plan        *Plan           `json:"plan,omitempty"`      // of a dry run
}

// PassedOver is a backup that failed a check.
type PassedOver struct {
	Backup string `json:"backup"`
	Reason string `json:"reason"`
	Detail string `json:"detail"`
}

// The ways in which a file is put in place.
const (
	NewFile   = "new_file"
	Swap      = "swap"      // nobody has the table open: the file is exchanged
	Overwrite = "overwrite" // somebody has: its content is written through SQLite
)

// Shelf is what a restore asks of the tables.
type Shelf interface {
	Place(name string) (shelf.Table, error)
	SetState(name string, state shelf.State, reason string) error
	// Owned is the handle of a table that this process owns, nil if it does not.
	Owned(name string) *table.Table
}

// Catalogue is what a restore asks of the backups.
type Catalogue interface {
	functions.Opener
	functions.Accuser
	Backups(ctx context.Context, table string) ([]archive.Backup, error)
}

// Config is what a Function is made of. Shelf, Catalogue and Bucket are required.
type Config struct {
	Shelf     Shelf
	Catalogue Catalogue
	Bucket    string           // which bucket the catalogue is in, as the records of backups name it
	Held      functions.Holder // the locks that the caller has taken
	Wait      time.Duration    // how long to wait for users of the table to let it go; 0: not at all
	Location  *time.Location   // of times without a zone in an event; default the machine's
	Now       func() time.Time // default time.Now
}

// Function restores tables.
type Function struct{ Config }

// New makes a Function.
func New(c Config) *Function {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Location == nil {
		c.Location = time.Local
	}
	return &Function{c}
}

// Tables is the one table that the event names.
func (f *Function) Tables(_ context.Context, event Event) ([]string, error) {
	if _, err := event.choice(f.Location); err != nil {
		return nil, err
	}
	return []string{event.Table}, nil
}

// Run restores the table.
func (f *Function) Run(ctx context.Context, event Event, name string, p functions.Progress) (entry Entry, err error) {
	start := f.Now()
	entry.Table = name
	defer func() { entry.End(err, f.Now().Sub(start)) }()
	if event.DryRun {
		return f.rehearse(ctx, event, entry)
	}
	r, err := f.begin(ctx, event, &entry)
	if err == nil {
		err = r.run(ctx, p)
	}
	return entry, err
}

func (f *Function) rehearse(ctx context.Context, event Event, entry Entry) (Entry, error) {
	plan, err := f.Plan(ctx, event)
	if err != nil {
		return entry, err
	}
	entry.Skip("dry_run", "nothing was changed; the backup's content is checked when it is restored")
	entry.Plan, entry.PassedOver = &plan, plan.PassedOver
	entry.BackupUsed, entry.RecordCount, entry.FileSize, entry.Destination = plan.Backup, plan.RecordCount, plan.FileSize, plan.Destination
	return entry, nil
}

// restore is one restore under way.
type restore struct {
	*Function
	entry *Entry
	want  choice
	full  bool        // check what a drill has proved, too
	force bool        // replace what is at the destination
	table shelf.Table // zero if it is not on the shelf, nor has a place there
	held  *table.Held // the lock of the destination, nil if nobody has taken it for us
	path  string      // the destination
}

func (f *Function) begin(ctx context.Context, event Event, entry *Entry) (*restore, error) {
	want, err := event.choice(f.Location)
	if err != nil {
		return nil, err
	}
	r := &restore{Function: f, entry: entry, want: want, full: event.FullCheck, force: event.Force}
	if err := r.aim(event); err != nil {
		return nil, err
	}
	entry.Destination = r.path
	if _, err := functions.Resume(ctx, r.path, r.held); err != nil {
		return nil, err
	}
	return r, nil
}

// aim finds the destination.
func (r *restore) aim(event Event) error {
	t, err := r.Shelf.Place(event.Table)
	if err == nil {
		r.table = t
	}
	if !event.InPlace {
		r.path, err = filepath.Abs(event.Output)
		if err != nil {
			return fmt.Errorf("restore to %s: %w", event.Output, err)
		}
		if same(r.path, r.table.Path) {
			return &functions.Failure{
				Reason: "destination_exists", Final: true, Err: fmt.Errorf("restore to %s: that is the table itself", r.path),
				Try: "--in-place, which is in_place in an event, or choose another path",
			}
		}
		return vacant(r.path, event.Force)
	}
	if err != nil {
		return &functions.Failure{Err: err, Final: true, Try: "restore it to a file: -o PATH"}
	}
	r.path, r.held, r.force = t.Path, r.Held.Of(t.Name), true
	return nil
}

func (r *restore) run(ctx context.Context, p functions.Progress) error {
	candidates, err := r.candidates(ctx, r.want)
	if err != nil {
		return err
	}
	file := table.Temporary(r.path, "restore")
	tidy, err := makeStateDir(r.path)
	if err != nil {
		return err
	}
	defer tidy()
	proof, key, err := r.fetch(ctx, candidates, file, p)
	if err != nil {
		return err
	}
	if err := r.put(ctx, file, proof.Manifest, p); err != nil {
		return errors.Join(err, functions.RemoveTable(file))
	}
	r.entry.Status, r.entry.BackupUsed, r.entry.LostSince = functions.Restored, key.String(), proof.Manifest.Created
	r.entry.RecordCount, r.entry.FileSize, r.entry.Checked = proof.Records, proof.Manifest.Size, checked(proof)
	if proof.Repeated != "" {
		r.entry.Notes = append(r.entry.Notes, "the backup restored at the second attempt only: "+proof.Repeated)
	}
	if len(proof.ForeignKeys) > 0 {
		r.entry.Notes = append(r.entry.Notes, "the backup has violations of foreign keys, as its source had")
	}
	return r.settle(proof)
}

// fetch restores the newest of the candidates that passes every check. Those that a drill has proved need not pass SQLite's again: the
// file has the sha256 of what passed.
func (r *restore) fetch(ctx context.Context, candidates []archive.Backup, file string, p functions.Progress) (functions.Proof, archive.Key, error) {
	for _, c := range candidates {
		drill := functions.Drill{From: r.Catalogue, Durable: true, SkipFrameSums: true, Mode: 0o644}
		if c.Failed.IsZero() && !r.full {
			drill.Proved = c.Proved
		}
		proof, err := drill.Run(ctx, c.Key, file, p)
		if err == nil {
			return proof, c.Key, nil
		}
		if !functions.BadBackup(err) {
			return proof, c.Key, err
		}
		r.passOver(ctx, c.Key, err)
	}
	return functions.Proof{}, archive.Key{}, r.exhausted(len(candidates))
}

// checked says which check the restored file has passed.
func checked(proof functions.Proof) string {
	if proof.Relied.IsZero() {
		return "full"
	}
	return "proved " + proof.Relied.UTC().Format(time.RFC3339)
}

func (r *restore) passOver(ctx context.Context, key archive.Key, cause error) {
	r.entry.PassedOver = append(r.entry.PassedOver, PassedOver{Backup: key.String(), Reason: functions.ReasonOf(cause), Detail: cause.Error()})
	path := r.path
	if r.table.Path != "" {
		path = r.table.Path
	}
	if err := functions.Accuse(ctx, r.Catalogue, path, r.Bucket, key, r.Now(), cause); err != nil {
		r.entry.Notes = append(r.entry.Notes, err.Error())
	}
}

func (r *restore) exhausted(tried int) error {
	return &functions.Failure{
		Reason: "no_good_backup", Final: true,
		Err: fmt.Errorf("none of the %d backups tried passes its checks; nothing was changed", tried),
		Try: "tablekeeper backups " + r.want.table + " lists all; a second bucket may have others",
	}
}

// settle records that the table is well again.
func (r *restore) settle(proof functions.Proof) error {
	if r.path != r.table.Path {
		return nil
	}
	state, reason := shelf.Healthy, ""
	if proof.Manifest.Degraded() {
		state, reason = shelf.Degraded, "restored from a backup of the degraded table"
	}
	now := r.Now()
	err := shelf.UpdateRecovery(r.path, func(kept *shelf.Recovery) error {
		kept.Outcome = nil // a recovery that was under way, or had come to an empty table, is over
		if state == shelf.Degraded {
			kept.Degraded = true
		} else {
			kept.NotDegraded(r.table.State == shelf.Degraded, now)
		}
		return nil
	})
	if err != nil {
		r.entry.Notes = append(r.entry.Notes, err.Error())
	}
	if err := r.Shelf.SetState(r.table.Name, state, reason); err != nil && !errors.Is(err, shelf.ErrUnknown) {
		r.entry.Notes = append(r.entry.Notes, err.Error())
	}
	return nil
}
