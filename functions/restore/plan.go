package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"tablekeeper/functions"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/table"
)

// Plan is what a restore would do, and what it would cost. Sizes are in bytes.
type Plan struct {
	Table       string       `json:"table"`
	Backup      string       `json:"backup"`
	Created     time.Time    `json:"created"`
	AgeMS       int64        `json:"age_ms"`
	Proved      time.Time    `json:"proved,omitzero"` // when a drill last restored it
	Size        int64        `json:"size"`            // of the object: what is fetched
	FileSize    int64        `json:"file_size"`       // of the database: what the disk needs room for
	RecordCount int64        `json:"record_count"`
	Destination string       `json:"destination,omitempty"`
	InPlace     bool         `json:"in_place"`
	Replaces    *Replaces    `json:"replaces,omitempty"` // nil: nothing is at the destination
	PassedOver  []PassedOver `json:"passed_over,omitempty"`
}

// Replaces is what is at the destination now. It goes to quarantine.
type Replaces struct {
	FileSize    int64           `json:"file_size"`
	RecordCount int64           `json:"record_count"`
	Problem     string          `json:"problem,omitempty"`   // why its rows cannot be counted
	Processes   []table.Process `json:"processes,omitempty"` // that have it open
	Changes     []Change        `json:"changes,omitempty"`   // SQL tables whose number of rows would change
}

// Change is a SQL table that has another number of rows in the backup.
type Change struct {
	SQLTable string `json:"sql_table"`
	Now      int64  `json:"now"`
	Backup   int64  `json:"backup"`
}

// Plan looks, and changes nothing. It reads the manifest of the backup, not its content: what a restore then finds wrong
// with that, it passes over.
func (f *Function) Plan(ctx context.Context, event Event) (Plan, error) {
	want, err := event.choice(f.Location)
	if err != nil {
		return Plan{}, err
	}
	plan := Plan{Table: event.Table, InPlace: event.InPlace}
	r := &restore{Function: f, entry: &Entry{}, want: want}
	if event.InPlace || event.Output != "" {
		if err := r.aim(event); err != nil {
			return plan, err
		}
		plan.Destination = r.path
	}
	manifest, err := plan.choose(ctx, r)
	if err != nil {
		return plan, err
	}
	if plan.Destination != "" {
		plan.Replaces, err = replaced(ctx, plan.Destination, manifest)
	}
	return plan, err
}

// choose takes the newest candidate that opens.
func (plan *Plan) choose(ctx context.Context, r *restore) (archive.Manifest, error) {
	candidates, err := r.candidates(ctx, r.want)
	if err != nil {
		return archive.Manifest{}, err
	}
	for _, c := range candidates {
		reader, err := r.Catalogue.Open(ctx, c.Key)
		if err == nil {
			m := reader.Manifest()
			plan.describe(c, m, r.Now())
			return m, nil
		}
		if !functions.BadBackup(err) {
			return archive.Manifest{}, err
		}
		plan.PassedOver = append(plan.PassedOver, PassedOver{Backup: c.Key.String(), Reason: functions.ReasonOf(err), Detail: err.Error()})
	}
	return archive.Manifest{}, r.exhausted(len(candidates))
}

func (plan *Plan) describe(b archive.Backup, m archive.Manifest, now time.Time) {
	plan.Backup, plan.Created, plan.Proved = b.Key.String(), m.Created, b.Proved
	plan.AgeMS = max(now.Sub(m.Created).Milliseconds(), 0)
	plan.Size, plan.FileSize, plan.RecordCount = b.Size, m.Size, sum(m.Rows)
}

func sum(rows map[string]int64) (all int64) {
	for _, n := range rows {
		all += n
	}
	return all
}

// replaced looks at what is at the destination. That it cannot be read is why one restores: no error.
func replaced(ctx context.Context, path string, m archive.Manifest) (*Replaces, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", filepath.Base(path), err)
	}
	now := &Replaces{FileSize: info.Size()}
	now.Processes, _ = table.Holders(path) // those that can be seen; the restore itself wants proof
	report, err := table.Check(ctx, path, table.CheckOptions{Quick: true})
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		now.Problem = err.Error()
		return now, nil
	}
	now.RecordCount, now.Changes = sum(report.Rows), changes(report.Rows, m.Rows)
	return now, nil
}

func changes(now, backup map[string]int64) []Change {
	names := maps.Clone(now)
	maps.Copy(names, backup)
	var all []Change
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if now[name] != backup[name] {
			all = append(all, Change{SQLTable: name, Now: now[name], Backup: backup[name]})
		}
	}
	return all
}
