package main

import "github.com/spf13/cobra"

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
			if named := backup != "latest" && backup != "all"; !named || s.all || len(args) > 0 {
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
