package main

import (
	"context"
	"errors"
	"net/http"
	"path"
	"strings"
	"time"

	"tablekeeper/cmd/tablekeeper/settings"
	"tablekeeper/infra/admin"
	"tablekeeper/infra/admin/client"
	"tablekeeper/storage/shelf"
)

// statusThere is what status shows, as a service elsewhere sees its tables.
func statusThere(ctx context.Context, c *client.Client, patterns []string, now time.Time) (statusReport, error) {
	report := statusReport{Problems: []shelf.Problem{}, now: now}
	fleet, err := c.Fleet(ctx)
	if err != nil {
		return report, err
	}
	all, err := c.Tables(ctx)
	if err != nil {
		return report, err
	}
	chosen, err := chooseThere(all, patterns)
	if err != nil {
		return report, err
	}
	for _, t := range chosen {
		report.Tables = append(report.Tables, t.Report)
	}
	for _, problem := range fleet.Problems {
		if !problem.Ignorable() {
			report.Problems = append(report.Problems, problem)
		}
	}
	report.summarize()
	return report, nil
}

// chooseThere is the tables that patterns name, as shelf.Select chooses them: one that finds nothing is an error, unless it is "*".
func chooseThere(all []admin.Table, patterns []string) ([]admin.Table, error) {
	found := map[string]bool{"*": true}
	var chosen []admin.Table
	names := make([]string, len(all))
	for i, t := range all {
		names[i] = t.Table
		wanted := len(patterns) == 0
		for _, pattern := range patterns {
			fits, err := path.Match(pattern, t.Table)
			if err != nil {
				return nil, usage("quote it: 'shop-*'", "pattern %q: %w", pattern, err)
			}
			found[pattern] = found[pattern] || fits
			wanted = wanted || fits
		}
		if wanted {
			chosen = append(chosen, t)
		}
	}
	for _, pattern := range patterns {
		if !found[pattern] {
			hint := "tablekeeper status lists the tables"
			if near := settings.Nearest(pattern, names); near != "" {
				hint = "did you mean " + near + "?"
			}
			return nil, fail(exitNotFound, hint, "no table %q there: %w", pattern, shelf.ErrUnknown)
		}
	}
	return chosen, nil
}

// backupsThere lists the backups of tables that a service elsewhere has. Those of tables that it has no more must be named.
func backupsThere(ctx context.Context, c *client.Client, tables []string) (reports []admin.Stored, asked int, err error) {
	named := len(tables) > 0
	if !named {
		all, err := c.Tables(ctx)
		if err != nil {
			return nil, 0, err
		}
		for _, t := range all {
			tables = append(tables, t.Table)
		}
	}
	reports = []admin.Stored{}
	for _, name := range tables {
		all, err := c.Backups(ctx, name)
		if err != nil {
			return nil, 0, err
		}
		if named && len(all) == 0 {
			return nil, 0, noBackup(name)
		}
		reports = append(reports, all...)
		if len(all) > 0 {
			asked++
		}
	}
	return reports, asked, nil
}

// jobsThere are the jobs of a service elsewhere.
type jobsThere struct{ *client.Client }

func (j jobsThere) serving() bool { return true }

func (j jobsThere) list(ctx context.Context) ([]jobReport, error) {
	all, err := j.Jobs(ctx)
	reports := []jobReport{}
	for _, job := range all {
		reports = append(reports, jobReport{job.Name, job.Function, job.Schedule, job.Timezone, job.State, job.Last, job.Next[:min(len(job.Next), upcoming)]})
	}
	return reports, err
}

func (j jobsThere) change(ctx context.Context, verb, job string) error {
	err := j.ChangeJob(ctx, verb, job)
	var refusal *client.RefusalError
	if errors.As(err, &refusal) && refusal.Status == http.StatusNotFound {
		known, listErr := j.list(ctx)
		if listErr != nil {
			return listErr
		}
		return unknownJob(job, known)
	}
	return err
}

// tablesThere are the names for the shell's completion.
func tablesThere(ctx context.Context, c *client.Client, prefix string) []string {
	all, err := c.Tables(ctx)
	if err != nil {
		return nil
	}
	var names []string
	for _, t := range all {
		if strings.HasPrefix(t.Table, prefix) {
			names = append(names, t.Table)
		}
	}
	return names
}
