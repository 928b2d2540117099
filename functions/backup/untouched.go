package backup

import (
	"context"

	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// Untouched is Run for a table whose file is not here, and of which the caller knows by other means that nobody has written it since the record beside
// it was made: the version of an object, say. ok is false where that does not suffice: nothing was done then, and the table is to be read.
func (f *Function) Untouched(ctx context.Context, event Event, name string) (entry Entry, ok bool, err error) {
	start := f.Now()
	t, err := f.Shelf.Get(name)
	if err != nil || event.Force || t.State == shelf.Suspect || t.State == shelf.Recovering {
		return entry, false, err
	}
	if record, err := shelf.ReadRecord(t.Path); err != nil || record.Token == "" {
		return entry, false, nil // it is not known of which content the last backup is
	}
	entry.Table, entry.DryRun = name, event.DryRun
	defer func() { entry.End(err, f.Now().Sub(start)) }()
	a := &attempt{Function: f, event: event, table: t, entry: &entry}
	if a.record, err = a.recall(ctx); err != nil || a.record.Token == "" || a.record.State != a.mark() {
		return entry, false, err
	}
	a.token = table.Token(a.record.Token)
	return entry, true, a.unchanged("it was not written since, so its content was not fetched")
}
