package main

import (
	"slices"

	"github.com/spf13/cobra"

	"tablekeeper/storage/archive"
)

func newVerify(p *program) *cobra.Command {
	var s selection
	var backup string
	cmd := &cobra.Command{
		Use:   "verify TABLE...",
		Short: "Prove that backups restore: a drill",
		Long: `verify fetches the newest backup of each table into a scratch file, compares every checksum, has SQLite check it, and reads and
counts every row. Only a backup that was proved so lets retention remove older ones.`,
		Example: `  tablekeeper verify --all
  tablekeeper verify orders --backup all
  tablekeeper verify --backup orders/20261122T100000.000Z-0123abcd.db.zst`,
		ValidArgsFunction: p.completeTables,
		Annotations:       goesElsewhere(),
		RunE: func(cmd *cobra.Command, args []string) error {
			event := map[string]any{"backup": backup}
			if backup != "latest" && backup != "all" {
				if err := checkKey(backup, args, s.all); err != nil {
					return err
				}
			} else {
				patterns, err := s.patterns(args)
				if err != nil {
					return err
				}
				event["tables"] = patterns
			}
			return p.work(cmd.Context(), "verify", event)
		},
	}
	s.flag(cmd)
	cmd.Flags().StringVar(&backup, "backup", "latest", "`BACKUP` to prove: latest, all, or a key")
	return cmd
}

// checkKey refuses what is no backup's key, and tables besides the one whose backup it is.
func checkKey(backup string, tables []string, all bool) error {
	key, err := archive.ParseKey(backup)
	switch {
	case err != nil:
		return usage("--backup latest, --backup all, or a key as tablekeeper backups TABLE shows it", "--backup: %w", err)
	case all, len(tables) > 0 && !slices.Equal(tables, []string{key.Table}):
		return usage("leave the tables out", "--backup: %s is a backup of %s alone", backup, key.Table)
	}
	return nil
}
