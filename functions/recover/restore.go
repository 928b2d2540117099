package recover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"tablekeeper/functions"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/ledger"
	"tablekeeper/storage/table"
)

// offered is a backup and where it is.
type offered struct {
	Source
	archive.Backup
}

// restore is the rung on which a whole backup is put in place: the newest that passes every check, of the first bucket that has one. Those
// of a table that had been emptied come last, wherever they are.
func (r *recovery) restore(ctx context.Context) (candidate, error) {
	var last []offered
	for _, source := range r.Sources {
		backups, err := source.Catalogue.Backups(ctx, r.table.Name)
		if err != nil {
			return candidate{}, err
		}
		if len(backups) == 0 {
			r.step(RungRestore, "", r.Now(), NotPossible, fmt.Errorf("no backup in %s", source.Bucket))
		}
		for _, b := range backups {
			o := offered{source, b}
			empty, err := o.ofEmptied(ctx)
			switch {
			case err != nil:
				return candidate{}, err
			case empty:
				last = append(last, o)
				continue
			}
			if c, err := r.try(ctx, o); err != nil || c.file != "" {
				return c, err
			}
		}
	}
	for _, o := range last {
		if c, err := r.try(ctx, o); err != nil || c.file != "" {
			return c, err
		}
	}
	return candidate{}, nil
}

// ofEmptied tells whether the backup is of a degraded table. Only the manifest knows of one that was never proved.
func (o offered) ofEmptied(ctx context.Context) (bool, error) {
	reader, err := o.Catalogue.Open(ctx, o.Key)
	switch {
	case err == nil:
		return reader.Manifest().Degraded(), nil
	case functions.BadBackup(err):
		return o.Degraded, nil // to be tried, and passed over
	}
	return false, err
}

// sums are those of the backup's pages, nil if the backup was damaged on its way: what was fetched before has been proved without them.
func (o offered) sums(ctx context.Context) (ledger.Sums, error) {
	reader, err := o.Catalogue.Open(ctx, o.Key)
	var sums ledger.Sums
	if err == nil {
		sums, err = reader.Sums()
	}
	if functions.BadBackup(err) {
		return nil, nil // it was good a moment ago
	}
	return sums, err
}

// try restores one backup into a file and proves it.
func (r *recovery) try(ctx context.Context, b offered) (candidate, error) {
	started := r.Now()
	file, err := r.temporary()
	if err != nil {
		return candidate{}, err
	}
	drill := functions.Drill{From: b.Catalogue, SkipFrameSums: true, Mode: 0o644}
	proof, err := drill.Run(ctx, b.Key, file, r.progress)
	if functions.BadBackup(err) {
		// Before a backup is passed over, the way to it is given a second chance.
		proof, err = drill.Run(ctx, b.Key, file, r.progress)
	}
	if err != nil {
		if !functions.BadBackup(err) {
			return candidate{}, err
		}
		r.step(RungRestore, b.Key.String(), started, Failed, err)
		if err := functions.Accuse(ctx, b.Catalogue, r.table.Path, b.Bucket, b.Key, r.Now(), err); err != nil {
			r.note(err.Error())
		}
		return candidate{}, nil
	}
	want, err := b.sums(ctx)
	if err != nil {
		return candidate{}, errors.Join(err, functions.RemoveTable(file))
	}
	m := proof.Manifest
	c := candidate{
		file: file, want: want, status: functions.Restored, backup: b.Key.String(), rows: m.Rows, size: m.Size, full: true, degraded: m.Degraded(),
		since: m.Created, lost: "what was written after " + m.Created.UTC().Format(time.RFC3339),
	}
	if c.backup == r.scene.cold {
		c.since, c.lost = time.Time{}, ""
	}
	c.step = r.succeed(RungRestore, c.backup, started, "the newest backup that passes every check, of "+b.Bucket, c.lost)
	return c, nil
}

// empty is the last rung: every bucket has been asked, and no backup is good.
func (r *recovery) empty(ctx context.Context) (candidate, error) {
	started := r.Now()
	if r.handle == nil && !r.event.Empty {
		return candidate{}, &functions.Failure{
			Reason: "no_good_backup", Final: true, Err: errors.New("no backup is good; the table belongs to other programs, and was left as it is"),
			Try: fmt.Sprintf("tablekeeper salvage %s -o FILE reads what can be read; tablekeeper recover %s --empty begins anew", r.table.Name, r.table.Name),
		}
	}
	schema, form, from := r.lastSchema(ctx)
	file, err := r.temporary()
	if err != nil {
		return candidate{}, err
	}
	skipped, err := table.MakeEmpty(ctx, file, schema, form)
	if err != nil {
		return candidate{}, err
	}
	for _, s := range skipped {
		r.note("not in the new table: " + s)
	}
	report, err := r.verified(ctx, file, "the new table")
	if err != nil {
		return candidate{}, errors.Join(err, functions.RemoveTable(file))
	}
	c := candidate{
		file: file, status: functions.Degraded, rows: report.Rows, size: report.Stats.PageCount * report.Stats.PageSize, degraded: true, full: true,
		lost: "all rows; the damaged files are in quarantine",
	}
	c.step = r.succeed(RungEmpty, "", started, "a new table with the schema "+from, c.lost)
	return c, nil
}

// lastSchema is that of the newest backup whose manifest can be read, whatever the rest of it is; else that of the damaged file. form is
// what else that one says.
func (r *recovery) lastSchema(ctx context.Context) (schema []string, form table.Form, from string) {
	for _, source := range r.Sources {
		backups, err := source.Catalogue.Backups(ctx, r.table.Name)
		if err != nil {
			continue
		}
		for _, b := range backups {
			reader, err := source.Catalogue.Open(ctx, b.Key)
			if err == nil && len(reader.Manifest().Schema) > 0 {
				m := reader.Manifest()
				form := table.Form{
					PageSize: int64(m.PageSize), Encoding: m.Encoding, AutoVacuum: m.AutoVacuum,
					UserVersion: m.UserVersion, ApplicationID: m.ApplicationID,
				}
				return m.Schema, form, "of " + b.Key.String()
			}
		}
	}
	here, found := r.here(ctx)
	if len(here) > 0 {
		return here, found, "of the damaged file"
	}
	if schema := r.Shelf.OwnedSchema(r.table.Name); len(schema) > 0 {
		return schema, found, "that its owner gave"
	}
	return nil, found, "of nothing: it is not known"
}

// here is the schema and the form that can still be read in the damaged file. A first page that is not what was written tells
// nothing but its size.
func (r *recovery) here(ctx context.Context) (schema []string, form table.Form) {
	form.PageSize = r.scene.pageSize
	file, err := r.temporary()
	if err != nil || r.copyTable(ctx, file) != nil {
		return nil, form
	}
	if schema, err = table.Schema(ctx, file); err != nil {
		schema = nil
	}
	if stats, err := table.Stat(ctx, file); err == nil && !slices.Contains(r.scene.bad, 1) {
		form = stats.Form()
	}
	if err := functions.RemoveTable(file); err != nil {
		r.note(err.Error())
	}
	return schema, form
}

// lostRows is how many rows fewer there are in the new table; nil if the rows of the damaged one cannot be counted.
func (r *recovery) lostRows(c candidate) *int64 {
	var fewer int64
	if c.lost == "" {
		return &fewer
	}
	had := slices.Sorted(maps.Keys(r.scene.rows))
	if len(had) == 0 || !slices.Equal(had, slices.Sorted(maps.Keys(c.rows))) {
		return nil
	}
	for name, n := range r.scene.rows {
		fewer += max(0, n-c.rows[name])
	}
	return &fewer
}
