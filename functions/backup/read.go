package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"tablekeeper/functions"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/ledger"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// errUnchanged ends an upload whose content turned out to be in the bucket already.
var errUnchanged = errors.New("the content equals that of the newest backup")

// keyAttempts is how often a key is chosen anew because another tablekeeper had just taken it.
const keyAttempts = 20

// read checks and reads the table in one transaction, and stores what it reads unless the bucket has it.
func (a *attempt) read(ctx context.Context) error {
	opts := table.SnapshotOptions{
		MaxPause: a.table.Settings.MaxPause, Wait: a.Busy, Beside: true,
		Progress: func(phase string, done, total int64) { a.progress.Tell(done, total, phase) },
	}
	a.at = a.Now() // before the snapshot: whatever was written until then is in it
	end := a.progress.Begin("check and store")
	err := table.TakeSnapshot(ctx, a.table.Path, opts, a.store)
	end(a.entry.BytesRead)
	if errors.Is(err, errUnchanged) {
		a.sound()
		return a.unchanged("the table was touched, and its content is still that of the backup")
	}
	if err != nil {
		return err
	}
	a.sound()
	a.remember()
	return nil
}

// sound takes a suspicion back: the table has just passed its check.
func (a *attempt) sound() {
	if a.table.State != shelf.Suspect {
		return
	}
	if err := a.Shelf.SetState(a.table.Name, shelf.Healthy, ""); err != nil {
		a.note(err.Error())
	}
}

// store uploads the snapshot under a key that sorts after all others of the table.
func (a *attempt) store(ctx context.Context, s *table.Snapshot) error {
	accepts, err := a.expect(ctx)
	if err != nil {
		return err
	}
	a.accepts = accepts
	id, err := snapshotID(ctx, s)
	if err != nil {
		return err
	}
	for range keyAttempts {
		var key archive.Key
		if key, err = a.Catalogue.NextKey(ctx, a.table.Name, a.at, id); err != nil {
			return err
		}
		var stored archive.Backup
		var m archive.Manifest
		stored, m, err = a.Catalogue.PutSized(ctx, key, a.record.Size, func(w io.Writer) (archive.Manifest, error) { return a.encode(ctx, s, w) })
		if err == nil {
			a.stored(stored, m)
			return nil
		}
		if !errors.Is(err, bucket.ErrExists) {
			return err
		}
	}
	return err
}

// expectPatience is how long to wait for an owned table that turns out to be damaged at this moment: its recovery needs the lock
// that this run has.
const expectPatience = 2 * time.Second

// expect is what the pages of the snapshot may be; nil: nobody knows.
func (a *attempt) expect(ctx context.Context) (func(page, sum uint32) bool, error) {
	if a.owned == nil {
		return nil, nil
	}
	waiting, cancel := context.WithTimeout(ctx, expectPatience)
	defer cancel()
	accepts, err := a.owned.Expect(waiting)
	if err != nil && ctx.Err() == nil && waiting.Err() != nil {
		return nil, &functions.Failure{Reason: "recovering", Err: fmt.Errorf("ask what the pages of %s are: %w", a.table.Name, table.ErrRecovering)}
	}
	return accepts, err
}

// compare refuses a page that is not what was written: it would be damage in every backup from now on.
func (a *attempt) compare(ctx context.Context, page table.Page) error {
	if a.accepts == nil || page.Free || a.accepts(uint32(page.Number), ledger.Sum(page.Data)) {
		return nil
	}
	err := &table.CorruptError{Path: a.table.Path, Problems: []string{fmt.Sprintf("page %d is not what was written", page.Number)}}
	a.owned.Suspect(ctx, []uint32{uint32(page.Number)}, err)
	return err
}

// snapshotID needs the first page only.
func snapshotID(ctx context.Context, s *table.Snapshot) (string, error) {
	for page, err := range s.Pages(ctx) {
		if err != nil {
			return "", err
		}
		return archive.SnapshotID(page.Data, s.Stats().PageCount), nil
	}
	return "", fmt.Errorf("%w: it has no pages", table.ErrEmpty)
}

// encode writes the backup to w. Whether the content is sound, and new, is known only when all of it was read: until then it
// is in no bucket.
func (a *attempt) encode(ctx context.Context, s *table.Snapshot, w io.Writer) (archive.Manifest, error) {
	stats := s.Stats()
	encoder, err := a.Catalogue.NewEncoder(w, archive.EncoderOptions{
		Table: a.table.Name, Created: a.at.Truncate(time.Millisecond), PageSize: int(stats.PageSize), PageCount: stats.PageCount, ToolVersion: a.ToolVersion,
	})
	if err != nil {
		return archive.Manifest{}, err
	}
	if err := a.copyPages(ctx, encoder, s.Pages(ctx), stats); err != nil {
		return archive.Manifest{}, err
	}
	m := archive.Manifest{
		Rows: s.Rows(), Schema: s.Schema(), SQLiteVersion: stats.SQLiteVersion, ToolVersion: a.ToolVersion,
		JournalMode: stats.JournalMode, Encoding: stats.Encoding, AutoVacuum: stats.AutoVacuum, UserVersion: stats.UserVersion, ApplicationID: stats.ApplicationID,
	}
	a.entry.Notes = append(a.entry.Notes, s.Unsupported()...)
	m.State = a.mark()
	if m, err = encoder.Close(m); err != nil {
		return archive.Manifest{}, err
	}
	a.describe(m)
	if m.SHA256 == a.record.SHA256 && m.State == a.record.State && !a.event.Force {
		return archive.Manifest{}, errUnchanged
	}
	return m, nil
}

// mark is what a backup of the table must say of its state: that of an empty table never lets an older one go.
func (a *attempt) mark() string {
	if a.table.State == shelf.Degraded {
		return archive.StateDegraded
	}
	return ""
}

func (a *attempt) copyPages(ctx context.Context, encoder *archive.Encoder, pages iter.Seq2[table.Page, error], stats table.Stats) error {
	const every = 1024 // pages between two words about progress
	total := stats.PageCount * stats.PageSize
	for page, err := range pages {
		if err == nil {
			err = a.compare(ctx, page)
		}
		if err != nil {
			return err
		}
		if err := encoder.WritePage(page.Data, page.Free); err != nil {
			return err
		}
		a.entry.BytesRead = page.Number * stats.PageSize
		if page.Number%every == 0 {
			a.progress.Tell(a.entry.BytesRead, total, "store")
		}
	}
	a.progress.Tell(total, total, "store")
	return nil
}

// describe fills the report with what was read.
func (a *attempt) describe(m archive.Manifest) {
	a.entry.SHA256, a.entry.FileSize, a.entry.FreePages = m.SHA256, m.Size, m.FreePages
	a.entry.RecordCount = 0
	for _, n := range m.Rows {
		a.entry.RecordCount += n
	}
}

// stored fills report and record with the new backup.
func (a *attempt) stored(b archive.Backup, m archive.Manifest) {
	a.entry.Status, a.entry.Backup, a.entry.BytesStored = functions.BackedUp, b.Key.String(), b.Size
	a.record = shelf.Record{
		Table: a.table.Name, Bucket: a.Bucket, Key: b.Key.String(), Size: b.Size,
		SHA256: m.SHA256, SumsSHA256: m.SumsSHA256, State: m.State, Created: m.Created,
	}
}
