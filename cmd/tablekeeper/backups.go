package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/infra/admin"
	"tablekeeper/storage/archive"
)

func newBackups(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "backups [TABLE...]",
		Short: "List the backups in the bucket, newest first",
		Long: `backups asks the bucket, so it also lists those of tables that are no longer there. Without names it lists every table that has a
backup.`,
		Example: `  tablekeeper backups orders
  tablekeeper backups --json`,
		ValidArgsFunction: p.completeTables,
		Annotations:       goesElsewhere(),
		RunE: func(cmd *cobra.Command, args []string) error {
			there, err := p.server()
			if err != nil {
				return err
			}
			if there != nil {
				reports, tables, err := backupsThere(cmd.Context(), there, args)
				if err != nil {
					return err
				}
				return p.tellBackups(reports, tables)
			}
			s, err := p.openFirst(cmd.Context())
			if err != nil {
				return err
			}
			return p.showBackups(cmd.Context(), s.Catalogue, args)
		},
	}
}

// openFirst opens the bucket. Tables need not be there: after a disaster there may be none.
func (p *program) openFirst(ctx context.Context) (*store, error) {
	cfg, err := p.configure()
	if err != nil {
		return nil, err
	}
	if err := needBucket(cfg); err != nil {
		return nil, err
	}
	return openStore(ctx, &fleet{cfg: cfg, log: p.logger(cfg, false)}, cfg.Bucket)
}

func (p *program) showBackups(ctx context.Context, c *archive.Catalogue, tables []string) error {
	named := len(tables) > 0
	if !named {
		var err error
		if tables, err = c.Tables(ctx); err != nil {
			return err
		}
	}
	reports := []admin.Stored{}
	for _, table := range tables {
		all, err := c.Backups(ctx, table)
		if err != nil {
			return err
		}
		if named && len(all) == 0 {
			return noBackup(table)
		}
		for _, b := range all {
			reports = append(reports, admin.StoredOf(b))
		}
	}
	return p.tellBackups(reports, len(tables))
}

func noBackup(table string) error {
	return fail(exitNotFound, "tablekeeper backups lists every table that has one", "table %s has no backup in this bucket", table)
}

func (p *program) tellBackups(reports []admin.Stored, tables int) error {
	if p.json {
		return p.screen.Document(map[string]any{"backups": reports})
	}
	var bytes int64
	rows := make([][]screen.Cell, len(reports))
	for i, r := range reports {
		rows[i] = backupRow(r, p.now())
		bytes += r.Size
	}
	if len(rows) > 0 {
		p.screen.Table([]string{"table", "made", "size>", "state", "backup"}, rows)
	}
	if !p.quiet {
		p.screen.Line("%s of %s, %s.", screen.Count(len(reports), "backup"), screen.Count(tables, "table"), screen.Bytes(bytes))
	}
	return nil
}

func backupRow(r admin.Stored, now time.Time) []screen.Cell {
	state := screen.Status("unproved")
	switch {
	case !r.Failed.IsZero():
		state = screen.Cell{Text: "✗ failed its drill", Tone: screen.Bad}
	case !r.Proved.IsZero():
		state = screen.Status("proved")
		state.Text += " " + screen.Ago(r.Proved, now)
	case r.Superseded:
		state = screen.Status("superseded")
	}
	if r.Degraded {
		state.Text += ", of a degraded table"
	}
	return []screen.Cell{{Text: r.Table}, {Text: screen.Ago(r.Created, now)}, {Text: screen.Bytes(r.Size)}, state, {Text: r.Backup}}
}
