package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/functions/restore"
	"tablekeeper/infra/admin/client"
	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
)

// workThere has a service elsewhere do what work does here.
func (p *program) workThere(ctx context.Context, c *client.Client, w client.Work) error {
	run, err := p.runThere(ctx, c, func() (string, error) { return c.Start(ctx, w) })
	if err != nil {
		return err
	}
	return p.showRun(run)
}

// runThere begins a run and waits for its end, with its progress on a terminal.
func (p *program) runThere(ctx context.Context, c *client.Client, start func() (string, error)) (history.Run, error) {
	id, err := start()
	if err != nil {
		return history.Run{}, err
	}
	progress := p.screen.Progress(p.now)
	defer progress.Done()
	watching, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if progress != nil {
			// Without it the run is followed all the same.
			_ = c.Watch(watching, func(said jobs.Progress) { showThere(progress, id, said) })
		}
	}()
	defer func() { stop(); <-watched }()
	return c.Follow(ctx, id)
}

func showThere(progress *screen.Progress, id string, said jobs.Progress) {
	if said.RunID != id {
		return
	}
	const parts = 1000 // of a table
	tables := int64(said.Counts.Tables)
	finished := int64(said.Counts.Done + said.Counts.Skipped + said.Counts.Failed)
	share := int64(0)
	if said.Total > 0 {
		share = min(parts, said.Done*parts/said.Total)
	}
	progress.Show(fmt.Sprintf("%s %d/%d %s", said.Function, min(finished+1, tables), tables, said.Table), finished*parts+share, tables*parts)
}

// restoreThere restores over a table of a service elsewhere: always by a plan, and never into a file, which would be on that machine.
func (p *program) restoreThere(ctx context.Context, c *client.Client, f restoreFlags) error {
	if !f.event.InPlace {
		return usage("--in-place; or run it on the service's machine", "a service elsewhere restores in place only: a new file would be on its machine")
	}
	plan, err := c.Plan(ctx, f.event.Table, f.event.Backup, f.event.At)
	if err != nil {
		return err
	}
	if f.event.DryRun || !f.yes {
		if err := p.tellPlanThere(plan.Plan); err != nil || f.event.DryRun {
			return err
		}
		if err := p.confirm(f.event.Table); err != nil {
			return err
		}
	}
	run, err := p.runThere(ctx, c, func() (string, error) { return c.Restore(ctx, plan, f.yes) })
	var refusal *client.RefusalError
	if errors.As(err, &refusal) && refusal.Code == "plan_changed" {
		return fail(exitUnsure, "run it again; or --yes, if what was written meanwhile may be lost, too", "%w; nothing was restored", err)
	}
	if err != nil {
		return err
	}
	err = p.showRun(run)
	if !p.json && len(run.Entries) == 1 {
		p.showRestored(run.Entries[0])
	}
	return err
}

func (p *program) tellPlanThere(plan restore.Plan) error {
	if p.json {
		return p.screen.Record(plan)
	}
	p.tellPlan(plan)
	return nil
}

// invokeThere checks the event first, as invokeAndShow does.
func (p *program) invokeThere(ctx context.Context, c *client.Client, inv jobs.Invocation) error {
	w := client.Work{Function: inv.Function, Event: client.Raw(inv.Event), Key: inv.IdempotencyKey}
	if err := c.Check(ctx, w); err != nil {
		return err
	}
	run := history.Run{Function: inv.Function, Status: history.Queued, Event: json.RawMessage("null")}
	var err error
	switch inv.Type {
	case jobs.DryRun:
	case jobs.Async:
		run.ID, err = c.Invoke(ctx, w)
	case jobs.Sync:
		run, err = p.runThere(ctx, c, func() (string, error) { return c.Invoke(ctx, w) })
	}
	if err != nil {
		return err
	}
	return p.showInvoked(inv, run)
}
