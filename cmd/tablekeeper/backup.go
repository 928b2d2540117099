package main

import "github.com/spf13/cobra"

func newBackup(p *program) *cobra.Command {
	var s selection
	var force, dryRun bool
	cmd := &cobra.Command{
		Use:   "backup TABLE...",
		Short: "Check tables and store a snapshot of those that changed",
		Long: `backup checks each table and reads it in one transaction, and stores what it read: compressed, with a checksum of every page.
A table that fails its check is never stored; one that has not changed is skipped. A backup is a plain SQLite file behind zstd -d
(age -d first, if it is encrypted).`,
		Example: `  tablekeeper backup --all
  tablekeeper --tables ./data --bucket s3://backups/shop?endpoint=http://127.0.0.1:9000 backup orders`,
		ValidArgsFunction: p.completeTables,
		Annotations:       goesElsewhere(),
		RunE: func(cmd *cobra.Command, args []string) error {
			patterns, err := s.patterns(args)
			if err != nil {
				return err
			}
			event := map[string]any{"tables": patterns}
			if force {
				event["force"] = true
			}
			if dryRun {
				event["dry_run"] = true
			}
			return p.work(cmd.Context(), "backup", event)
		},
	}
	s.flag(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "store a new backup though nothing has changed")
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "only say whether there is something to do")
	return cmd
}
