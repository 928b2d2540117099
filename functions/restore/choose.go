package restore

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"tablekeeper/functions"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/shelf"
)

// choice is what an event asks for: one backup, or the newest good one, or the newest good one at a time.
type choice struct {
	table string
	key   archive.Key // zero: any
	at    time.Time   // zero: now
}

func mistake(try, format string, args ...any) error {
	return &functions.EventError{Problem: fmt.Sprintf(format, args...), Try: try}
}

// Check refuses, as Run does, what can be refused without disk and bucket. The error is a *functions.EventError.
func (event Event) Check() error {
	_, err := event.choice(time.UTC)
	return err
}

// choice is what is asked for. Times without a zone are in the zone given.
func (event Event) choice(zone *time.Location) (choice, error) {
	c := choice{table: event.Table}
	switch {
	case !shelf.ValidName(event.Table):
		return c, mistake("name the table to restore", "%q is no name of a table", event.Table)
	case event.Output != "" && event.InPlace:
		return c, mistake("give one of them", "output and in_place exclude each other")
	case event.Output == "" && !event.InPlace && !event.DryRun:
		return c, mistake("give output (a new file) or in_place", "nothing says where to restore to")
	case event.At != "" && event.Backup != "" && event.Backup != "latest":
		return c, mistake("give one of them", "backup and at exclude each other")
	}
	var err error
	if event.Backup != "" && event.Backup != "latest" {
		if c.key, err = archive.ParseKey(event.Backup); err != nil {
			return c, mistake("tablekeeper backups "+event.Table+" shows the keys", "%v", err)
		}
		if c.key.Table != event.Table {
			return c, mistake("tablekeeper backups "+event.Table+" shows its keys", "%s is a backup of %s, not of %s", event.Backup, c.key.Table, event.Table)
		}
	}
	if event.At != "" {
		c.at, err = parseTime(event.At, zone)
	}
	return c, err
}

// layouts are those of times without a zone.
var layouts = []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04"}

func parseTime(s string, zone *time.Location) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at, nil
	}
	for _, layout := range layouts {
		if at, err := time.ParseInLocation(layout, s, zone); err == nil {
			return at, nil
		}
	}
	return time.Time{}, mistake(`write it like 2026-11-22T10:00:00Z or "2026-11-22 10:00"`, "%q is no time", s)
}

// candidates are the backups to be tried, in this order. Those of a table that had been emptied by a recovery come last:
// nobody who asks for the latest means them.
func (f *Function) candidates(ctx context.Context, want choice) ([]archive.Backup, error) {
	all, err := f.Catalogue.Backups(ctx, want.table)
	if err != nil {
		return nil, err
	}
	var good, degraded []archive.Backup
	for _, b := range all {
		switch {
		case !want.key.IsZero() && b.Key != want.key:
		case !want.at.IsZero() && b.Key.Created.After(want.at):
		case b.Degraded && want.key.IsZero():
			degraded = append(degraded, b)
		default:
			good = append(good, b)
		}
	}
	if chosen := slices.Concat(good, degraded); len(chosen) > 0 {
		return chosen, nil
	}
	return nil, &functions.Failure{Reason: "no_backup", Final: true, Err: want.notFound(all), Try: want.suggest(all)}
}

func (c choice) notFound(all []archive.Backup) error {
	switch {
	case len(all) == 0:
		return absent(fmt.Sprintf("table %s has no backup in this bucket", c.table))
	case !c.key.IsZero():
		return absent(fmt.Sprintf("backup %s is not in this bucket", c.key))
	}
	return absent(fmt.Sprintf("table %s has no backup as old as %s", c.table, c.at.UTC().Format(time.RFC3339)))
}

// absent says which backup is not there. It is fs.ErrNotExist.
type absent string

func (e absent) Error() string { return string(e) }
func (e absent) Unwrap() error { return fs.ErrNotExist }

func (c choice) suggest(all []archive.Backup) string {
	if len(all) == 0 {
		return "check the bucket and the name: tablekeeper backups"
	}
	return "the oldest is " + all[len(all)-1].Key.String() + ", the newest " + all[0].Key.String()
}
