package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/functions"
	"tablekeeper/functions/compact"
	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
	"tablekeeper/storage/table"
)

type convertFlags struct {
	to, maxPause       string
	force, dryRun, yes bool
}

func newConvert(p *program) *cobra.Command {
	var f convertFlags
	cmd := &cobra.Command{
		Use:   "convert TABLE",
		Short: "Make a table one that is compacted in slices, once",
		Long: `convert writes a table anew with auto_vacuum=incremental, so that from then on compact gives its free pages back in slices, for each of which
writers wait some milliseconds. It does that once, as a compaction in place does; --to none undoes it. The table stays open in the programs that use it.

It shows what it would do and how long writers would have to wait, and wants the table's name typed, or --yes. Where a bucket is
configured the table is backed up first, unless --force.`,
		Example: `  tablekeeper convert orders --dry-run
  tablekeeper convert orders --max-pause 10s --yes
  tablekeeper convert orders --to none`,
		Args:              one("TABLE"),
		ValidArgsFunction: p.completeTables,
		RunE:              func(cmd *cobra.Command, args []string) error { return p.convert(cmd.Context(), args[0], f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.to, "to", table.Incremental, "auto_vacuum `MODE`: incremental or none")
	fl.StringVar(&f.maxPause, "max-pause", "", "accept this `TIME` (1s) of waiting for users instead of the table's setting")
	fl.BoolVar(&f.force, "force", false, "without a backup")
	fl.BoolVarP(&f.dryRun, "dry-run", "n", false, "only show what would be done, and what it would cost")
	fl.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	return cmd
}

func (p *program) convert(ctx context.Context, name string, f convertFlags) error {
	if f.to != table.Incremental && f.to != table.NoAutoVacuum {
		return usage("--to incremental, or --to none", "--to: a table cannot be converted to %q", f.to)
	}
	if strings.ContainsAny(name, "*?[") {
		return usage("name one table", "%s: tables are converted one by one", name)
	}
	event := map[string]any{"tables": []string{name}, "convert": f.to}
	if f.force {
		event["force"] = true
	}
	if err := limits(event, "", f.maxPause); err != nil {
		return err
	}
	if f.dryRun || !f.yes {
		worth, err := p.showConversion(ctx, event)
		if err != nil || f.dryRun || !worth {
			return err
		}
		if err := p.confirmDoing(name, "converting "+name); err != nil {
			return err
		}
	}
	run, _, err := p.runConversion(ctx, event)
	if err != nil {
		return err
	}
	return converted(run, p.showRun(run))
}

// showConversion tells what would be done. It is not worth asking about if that is nothing.
func (p *program) showConversion(ctx context.Context, event map[string]any) (worth bool, err error) {
	dry := map[string]any{"dry_run": true}
	for key, value := range event {
		dry[key] = value
	}
	run, report, err := p.runConversion(ctx, dry)
	if err != nil {
		return false, err
	}
	if report.Reason != table.DryRun || p.json {
		return report.Reason == table.DryRun, converted(run, p.showRun(run))
	}
	p.screen.Line("Convert %s: %s", screen.Cell{Text: report.Table, Tone: screen.Strong}, report.Detail)
	p.screen.Line("  how      %s", report.Strategy)
	p.screen.Line("  pause    about %d ms for writers, %d ms are allowed", report.PredictedPauseMS, report.MaxPauseMS)
	p.screen.Line("  disk     %s needed meanwhile", screen.Bytes(report.DiskNeeded))
	for _, note := range report.Notes {
		p.screen.Line("  note     %s", note)
	}
	return true, nil
}

func (p *program) runConversion(ctx context.Context, event map[string]any) (run history.Run, report compact.Entry, err error) {
	fleet, err := p.openFleet(ctx, false)
	if err != nil {
		return run, report, err
	}
	if _, err := fleet.shelf.Select(event["tables"].([]string)); err != nil {
		return run, report, err
	}
	text, err := json.Marshal(event)
	if err != nil {
		return run, report, fmt.Errorf("encode the event: %w", err)
	}
	run, err = p.invoke(ctx, fleet, jobs.Invocation{Function: "compact", Event: text, Type: jobs.Sync})
	if err == nil && len(run.Entries) == 1 {
		// What is not understood is shown as any other run.
		_ = json.Unmarshal(run.Entries[0].Report, &report)
	}
	return run, report, err
}

// converted makes a failure of a table that was asked to be converted and was not.
func converted(run history.Run, shown error) error {
	if shown != nil || len(run.Entries) != 1 {
		return shown
	}
	e := run.Entries[0]
	if e.Status != string(functions.Skipped) || e.Reason == table.Unchanged || e.Reason == table.DryRun {
		return nil
	}
	if e.Reason == table.LockedOut || e.Reason == table.TooBusy {
		return exitWith(exitLocked)
	}
	return exitWith(exitFailed)
}
