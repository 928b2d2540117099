package main

import (
	"github.com/spf13/cobra"

	"tablekeeper/cmd/tablekeeper/settings"
)

func newCompact(p *program) *cobra.Command {
	var s selection
	var force, dryRun bool
	var threshold, maxPause string
	cmd := &cobra.Command{
		Use:   "compact TABLE...",
		Short: "Give the free pages of tables back to the disk",
		Long: `compact works on the tables of which more than the threshold is free (10 % by default), if it can be done without holding up
the table's users for longer than the pause (1 s by default); all others are skipped, and it says why.`,
		Example: `  tablekeeper compact --all
  tablekeeper compact orders --max-pause 5s
  tablekeeper compact 'shop-*' --threshold 25% --dry-run`,
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
			if err := limits(event, threshold, maxPause); err != nil {
				return err
			}
			return p.work(cmd.Context(), "compact", event)
		},
	}
	s.flag(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "whatever the free share and the table's window")
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "only say what would be done, and what it would cost")
	cmd.Flags().StringVar(&threshold, "threshold", "", "compact above this free `SHARE` (10%) instead of the tables' settings")
	cmd.Flags().StringVar(&maxPause, "max-pause", "", "accept this `TIME` (1s) of waiting for users instead of the tables' settings")
	return cmd
}

func limits(event map[string]any, threshold, maxPause string) error {
	if threshold != "" {
		var r settings.Ratio
		if err := r.UnmarshalText([]byte(threshold)); err != nil {
			return usage("--threshold 10%", "--threshold: %w", err)
		}
		event["threshold"] = float64(r)
	}
	if maxPause != "" {
		d, err := settings.ParseDuration(maxPause)
		if err != nil {
			return usage("--max-pause 1s", "--max-pause: %w", err)
		}
		event["max_pause_ms"] = d.Milliseconds()
	}
	return nil
}
