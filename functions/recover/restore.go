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
	"tablekeeper/storage/table"
)

// restore is the rung on which a whole backup is put in place: the newest that passes every check, of the first bucket that has one.
func (r *recovery) restore(ctx context.Context) (candidate, error) {
	for _, source := range r.Sources {
		backups, err := source.Catalogue.Backups(ctx, r.table.Name)
		if err != nil {
			return candidate{}, err
		}
		if len(backups) == 0 {
			r.step(RungRestore, "", r.Now(), NotPossible, fmt.Errorf("no backup in %s", source.Bucket))
		}
		for _, b := range inOrder(backups) {
			c, err := r.try(ctx, source, b)
			if err != nil || c.file != "" {
				return c, err
			}
		}
	}
	return candidate{}, nil
}

// inOrder puts the backups of a table that had been emptied last.
func inOrder(all []archive.Backup) []archive.Backup {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b archive.Backup) int { return rank(a) - rank(b) })
	return all
}

func rank(b archive.Backup) int {
	if b.Degraded {
		return 1
	}
	return 0
}

// try restores one backup into a file and proves it.
func (r *recovery) try(ctx context.Context, source Source, b archive.Backup) (candidate, error) {
	started := r.Now()
	file, err := r.temporary()
	if err != nil {
		return candidate{}, err
	}
	proof, err := functions.Drill{From: source.Catalogue, Mode: 0o644}.Run(ctx, b.Key, file, r.progress)
	if err != nil {
		if !functions.BadBackup(err) {
			return candidate{}, err
		}
		r.step(RungRestore, b.Key.String(), started, Failed, err)
		if err := functions.Accuse(ctx, source.Catalogue, r.table.Path, source.Bucket, b.Key, r.Now(), err); err != nil {
			r.note(err.Error())
		}
		return candidate{}, nil
	}
	m := proof.Manifest
	c := candidate{
		file: file, status: functions.Restored, backup: b.Key.String(), rows: m.Rows, size: m.Size, full: true, degraded: m.Degraded(),
		since: m.Created, lost: "what was written after " + m.Created.UTC().Format(time.RFC3339),
	}
	if c.backup == r.scene.cold {
		c.since, c.lost = time.Time{}, ""
	}
	c.step = r.succeed(RungRestore, c.backup, started, "the newest backup that passes every check, of "+source.Bucket, c.lost)
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
	schema, from := r.lastSchema(ctx)
	file, err := r.temporary()
	if err != nil {
		return candidate{}, err
	}
	skipped, err := table.MakeEmpty(ctx, file, schema, r.scene.pageSize)
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

// lastSchema is that of the newest backup whose manifest can be read, whatever the rest of it is; else that of the damaged file.
func (r *recovery) lastSchema(ctx context.Context) (schema []string, from string) {
	for _, source := range r.Sources {
		backups, err := source.Catalogue.Backups(ctx, r.table.Name)
		if err != nil {
			continue
		}
		for _, b := range backups {
			reader, err := source.Catalogue.Open(ctx, b.Key)
			if err == nil && len(reader.Manifest().Schema) > 0 {
				return reader.Manifest().Schema, "of " + b.Key.String()
			}
		}
	}
	if schema := r.schemaHere(ctx); len(schema) > 0 {
		return schema, "of the damaged file"
	}
	return nil, "of nothing: it is not known"
}

func (r *recovery) schemaHere(ctx context.Context) []string {
	file, err := r.temporary()
	if err != nil || r.copyTable(ctx, file) != nil {
		return nil
	}
	schema, err := table.Schema(ctx, file)
	if err = errors.Join(err, functions.RemoveTable(file)); err != nil {
		return nil
	}
	return schema
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
