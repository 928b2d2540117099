package main

import (
	"context"
	"encoding/json"

	"github.com/spf13/cobra"

	"tablekeeper/cmd/tablekeeper/screen"
	recovery "tablekeeper/functions/recover"
	"tablekeeper/infra/admin/client"
	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
)

func newRecover(p *program) *cobra.Command {
	var e recovery.Event
	cmd := &cobra.Command{
		Use:   "recover TABLE",
		Short: "Repair a damaged table, losing as little as can be",
		Long: `recover makes a damaged table whole again. It makes indexes anew, fetches single pages from backups, or restores the newest backup that
passes every check; each step is reported, with what it loses. What was damaged is kept in quarantine. A service does this by
itself when it finds damage; the command is for tables of other programs, and for trying again.

A table that no backup could bring back is empty and degraded: it is used, and its backups replace no earlier one. A restore
ends that, or --accept, if nothing better will come.`,
		Example: `  tablekeeper recover orders --reason 'the shop reports a malformed database'
  tablekeeper recover orders --dry-run
  tablekeeper recover orders --accept`,
		Args:              one("TABLE"),
		ValidArgsFunction: p.completeTables,
		Annotations:       goesElsewhere(),
		RunE: func(cmd *cobra.Command, args []string) error {
			e.Table, e.Force = args[0], true // a person has decided
			return p.recover(cmd.Context(), e)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&e.Reason, "reason", "", "`TEXT` for the record: who noticed what")
	fl.BoolVar(&e.Accept, "accept", false, "use a degraded table as it is from now on")
	fl.BoolVarP(&e.DryRun, "dry-run", "n", false, "only say what is damaged")
	fl.BoolVar(&e.Empty, "empty", false, "begin anew, empty, if no backup is good; a service does so with tables of its own only")
	return cmd
}

func (p *program) recover(ctx context.Context, e recovery.Event) error {
	if e.Accept && e.DryRun {
		return usage("leave one of them out", "--accept and --dry-run exclude each other")
	}
	there, err := p.server()
	if err != nil {
		return err
	}
	run, err := p.recoverBy(ctx, there, e)
	if err != nil {
		return err
	}
	err = p.showRun(run)
	if !p.json && !p.quiet && len(run.Entries) == 1 {
		p.showRecovered(run.Entries[0])
	}
	return err
}

// recoverBy has the table recovered by a service elsewhere, or, if there is none, here.
func (p *program) recoverBy(ctx context.Context, there *client.Client, e recovery.Event) (run history.Run, err error) {
	if there != nil {
		fields := map[string]any{"reason": e.Reason, "accept": e.Accept, "dry_run": e.DryRun, "force": e.Force, "empty": e.Empty}
		return p.runThere(ctx, there, func() (string, error) {
			return there.Start(ctx, client.Work{Function: "recover", Table: e.Table, Event: fields})
		})
	}
	event, err := json.Marshal(e)
	if err != nil {
		return run, err
	}
	f, err := p.openFleet(ctx, false)
	if err != nil {
		return run, err
	}
	if err := f.knows(e.Table); err != nil {
		return run, err
	}
	return p.invoke(ctx, f, jobs.Invocation{Function: "recover", Event: event, Type: jobs.Sync})
}

// showRecovered adds the steps, what is lost, and where the damaged files are.
func (p *program) showRecovered(e history.Entry) {
	var report recovery.Entry
	// A report that is not understood has been shown as far as it is.
	_ = json.Unmarshal(e.Report, &report)
	for _, step := range report.Rungs {
		tone := screen.Careful
		if step.Outcome == recovery.Done {
			tone = screen.Good
		}
		p.screen.Line("  %s  %s  %s", screen.Cell{Text: step.Rung, Tone: tone}, step.Outcome, step.Detail)
	}
	switch {
	case report.Lost != "":
		p.screen.Line("Lost: %s.", report.Lost)
	case report.LostRows != nil && report.Rung != "":
		p.screen.Line("Nothing is lost.")
	}
	if report.Quarantine != "" {
		p.screen.Line("What was damaged is in %s", report.Quarantine)
	}
}
