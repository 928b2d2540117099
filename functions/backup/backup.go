// Package backup copies a table into the bucket if it has changed: checked and read in one transaction, compressed and
// uploaded as it is read, compared with the bucket afterwards. A table that fails its check is never uploaded.
//
// The format and the keys are the business of storage/archive, the snapshot that of storage/table. Whether a backup can
// be restored is for verify to prove; only that lets older ones go.
package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"tablekeeper/functions"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// Event asks for a backup.
type Event struct {
	Tables []string `json:"tables"`  // names or globs; none: all
	Force  bool     `json:"force"`   // make a new one though nothing has changed
	DryRun bool     `json:"dry_run"` // only say whether there seems to be something to do
}

// Entry is the report of one table. Sizes are in bytes.
type Entry struct {
	functions.Entry
	Backup      string `json:"backup,omitempty"` // the key of the newest backup: the new one, or that of which the table is unchanged
	BytesRead   int64  `json:"bytes_read"`       // of the table; 0 if its content was not looked at
	BytesStored int64  `json:"bytes_stored"`     // in the bucket, by this run
	FileSize    int64  `json:"file_size"`        // of the database in the backup
	RecordCount int64  `json:"record_count"`
	FreePages   int64  `json:"free_pages"`
	SHA256      string `json:"sha256,omitempty"`
	DryRun      bool   `json:"dry_run,omitempty"`
}

// Shelf is what a backup asks of the tables.
type Shelf interface {
	functions.Selector
	Get(name string) (shelf.Table, error)
	SetState(name string, state shelf.State, reason string) error
	// Owned is the handle of a table that this process owns, nil if it does not.
	Owned(name string) *table.Table
}

// Config is what a Function is made of. All but the last three is required.
type Config struct {
	Shelf     Shelf
	Catalogue *archive.Catalogue
	Objects   bucket.Reader // what the catalogue is in
	Bucket    string        // which bucket that is, without credentials: a record of another one is not believed

	ToolVersion string
	Busy        time.Duration    // how long to wait for a lock of SQLite; 0: what storage/table does
	Now         func() time.Time // default time.Now
}

// Function backs tables up.
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
	return functions.Names(f.Shelf, event.Tables)
}

// Run backs up one table.
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
	owned := f.Shelf.Owned(name)
	if t.State == shelf.Recovering || t.State == shelf.Suspect && owned != nil {
		entry.Skip("recovering", "the table is being recovered")
		return entry, nil
	}
	a := &attempt{Function: f, event: event, table: t, owned: owned, progress: p, entry: &entry}
	if err := a.run(ctx); err != nil {
		return entry, a.explain(err)
	}
	return entry, nil
}

// attempt is one backup of one table under way.
type attempt struct {
	*Function
	event    Event
	table    shelf.Table
	owned    *table.Table // nil: its pages cannot be compared with what was written
	progress functions.Progress
	entry    *Entry

	token   table.Token                 // of the file before anything of it was read
	at      time.Time                   // of the backup
	accepts func(page, sum uint32) bool // what the pages may be; nil: nobody knows
	record  shelf.Record                // of the backup that the table may equal; zero if none is there to rely on
}

func (a *attempt) run(ctx context.Context) error {
	token, err := table.ReadToken(a.table.Path)
	if err != nil {
		return err
	}
	a.token = token
	if a.record, err = a.recall(ctx); err != nil {
		return err
	}
	suspect := a.table.State == shelf.Suspect
	cold := a.record.Key != "" && a.record.Token == string(token) && a.record.State == a.mark() && !suspect
	switch {
	case cold && !a.event.Force:
		return a.unchanged("neither the file nor its write-ahead log was touched")
	case a.event.DryRun:
		a.entry.Skip("dry_run", "the table was touched since its last backup, or has none: its content would be read, and stored if it differs")
		return nil
	}
	if err := a.overtaken(ctx); err != nil {
		return err
	}
	return a.read(ctx)
}

// overtaken looks whether the bucket has a backup of the table that is newer than the one we know of: one of ours whose
// run was killed before it was remembered, or one of another tablekeeper's.
func (a *attempt) overtaken(ctx context.Context) error {
	if a.record.Key == "" || a.record.Token == "" {
		return nil // the bucket was asked already, or will be
	}
	latest, err := a.Catalogue.Latest(ctx, a.table.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || latest.Key.String() <= a.record.Key {
		return err
	}
	a.note(latest.Key.String() + " is newer than the last backup known here: if another tablekeeper stores a table of this name in the same bucket, give each a prefix of its own")
	a.record, err = a.recallFromBucket(ctx)
	return err
}

// recall finds the backup that the table may still equal: the one in its record if it is in the bucket as it was stored,
// else the newest in the bucket. A backup that a drill found bad is not relied on.
func (a *attempt) recall(ctx context.Context) (shelf.Record, error) {
	record, err := shelf.ReadRecord(a.table.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.note(err.Error())
	}
	if err != nil || record.Bucket != a.Bucket || record.Table != a.table.Name {
		return a.recallFromBucket(ctx)
	}
	if record.Distrust != "" {
		a.note(record.Key + " is not relied on: " + record.Distrust)
		return shelf.Record{}, nil
	}
	info, err := a.Objects.Head(ctx, record.Key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		a.note(record.Key + " is gone from the bucket")
		return shelf.Record{}, nil
	case err != nil:
		return shelf.Record{}, fmt.Errorf("look for %s: %w", record.Key, err)
	case info.Size != record.Size:
		a.note(fmt.Sprintf("%s has %d bytes in the bucket, and had %d when it was stored", record.Key, info.Size, record.Size))
		return shelf.Record{}, nil
	}
	return record, nil
}

// recallFromBucket makes a record of the newest backup, without a token: what the file held then is not known.
func (a *attempt) recallFromBucket(ctx context.Context) (shelf.Record, error) {
	latest, err := a.Catalogue.Latest(ctx, a.table.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return shelf.Record{}, nil
	}
	if err != nil {
		return shelf.Record{}, err
	}
	if !latest.Failed.IsZero() {
		a.note(latest.Key.String() + " is not relied on: a drill found it bad")
		return shelf.Record{}, nil
	}
	reader, err := a.Catalogue.Open(ctx, latest.Key)
	switch {
	case functions.BadBackup(err):
		a.note(latest.Key.String() + " is not relied on: " + err.Error())
		return shelf.Record{}, nil
	case errors.Is(err, archive.ErrWrongKey) || errors.Is(err, archive.ErrNewer):
		return shelf.Record{}, nil // good for those who can read it; we cannot compare
	case err != nil:
		return shelf.Record{}, err
	}
	m := reader.Manifest()
	return shelf.Record{
		Table: a.table.Name, Bucket: a.Bucket, Key: latest.Key.String(), Size: latest.Size,
		SHA256: m.SHA256, SumsSHA256: m.SumsSHA256, State: m.State, Created: m.Created, Proved: latest.Proved,
	}, nil
}

// unchanged ends the attempt: the table equals the backup of the record, and that is confirmed now.
func (a *attempt) unchanged(detail string) error {
	a.entry.Skip("unchanged", detail)
	a.entry.Backup, a.entry.SHA256 = a.record.Key, a.record.SHA256
	if !a.event.DryRun {
		a.remember()
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// remember keeps the record. If that fails the backup is none the worse: the next run reads the table again.
func (a *attempt) remember() {
	a.record.Token, a.record.Confirmed = string(a.token), a.Now().UTC()
	if before, err := shelf.ReadRecord(a.table.Path); err == nil && before.Table == a.record.Table && before.Bucket == a.record.Bucket {
		a.record.LastProved = later(before.LastProved, before.Proved)
	}
	if err := shelf.WriteRecord(a.table.Path, a.record); err != nil {
		a.note("the backup is not remembered, so that the next run will read the table again: " + err.Error())
	}
}

func (a *attempt) note(text string) { a.entry.Notes = append(a.entry.Notes, text) }

// explain turns damage into a state of the table, and names the next step.
func (a *attempt) explain(err error) error {
	if errors.Is(err, table.ErrWouldBlock) {
		return &functions.Failure{Err: err, Try: "give the table a larger max_pause, or put it in WAL mode: then a backup holds nobody up"}
	}
	if !errors.Is(err, table.ErrCorrupt) && !errors.Is(err, table.ErrNotDatabase) {
		return err
	}
	if a.owned != nil { // its owner knows, and has it recovered
		return &functions.Failure{Err: err, Final: true, Try: "it is recovered by itself: tablekeeper runs list; nothing of the damaged table was stored"}
	}
	failure := &functions.Failure{Err: err, Final: true, Try: "tablekeeper recover " + a.table.Name + "; nothing of the damaged table was stored"}
	reason := err.Error()
	var corrupt *table.CorruptError
	if errors.As(err, &corrupt) { // where it was seen is in the report; a state is read in a line
		reason = strings.TrimPrefix(corrupt.Error(), corrupt.Path+": ")
	}
	if set := a.Shelf.SetState(a.table.Name, shelf.Suspect, reason); set != nil {
		failure.Err = errors.Join(err, set)
	}
	return failure
}
