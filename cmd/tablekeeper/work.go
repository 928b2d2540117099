package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/cmd/tablekeeper/settings"
	"tablekeeper/infra/admin/client"
	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
)

// selection is the tables that a command is told to work on.
type selection struct{ all bool }

func (s *selection) flag(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&s.all, "all", "a", false, "every table")
}

// patterns are the names and globs given, or * for all. None at all is refused: nobody should compact a fleet by a typing error.
func (s *selection) patterns(args []string) ([]string, error) {
	switch {
	case s.all && len(args) > 0:
		return nil, usage("leave one of them out", "--all and names of tables exclude each other")
	case s.all:
		return []string{"*"}, nil
	case len(args) == 0:
		return nil, usage("--all, or name tables: orders 'shop-*'", "which tables?")
	}
	return args, nil
}

// work asks for a run of a function, waits for it and shows it. The tables must be known: a misspelt name is told before anything is begun.
func (p *program) work(ctx context.Context, function string, event map[string]any) error {
	if there, err := p.server(); err != nil || there != nil {
		if err != nil {
			return err
		}
		return p.workThere(ctx, there, client.Work{Function: function, Event: event})
	}
	f, err := p.openFleet(ctx, false)
	if err != nil {
		return err
	}
	patterns, _ := event["tables"].([]string)
	if _, err := f.shelf.Select(patterns); err != nil {
		return err
	}
	text, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("encode the event: %w", err)
	}
	run, err := p.invoke(ctx, f, jobs.Invocation{Function: function, Event: text, Type: jobs.Sync})
	if err != nil {
		return err
	}
	err = p.showRun(run)
	if slices.Contains(patterns, "*") {
		p.noteLeftOut(f)
	}
	return err
}

// noteLeftOut reminds whoever wanted every table of the files that look like one and are none.
func (p *program) noteLeftOut(f *fleet) {
	n := 0
	for _, problem := range f.problems {
		if !problem.Ignorable() {
			n++
		}
	}
	if n > 0 {
		p.screen.Note("Left out as no tables: %s. tablekeeper check says why.", screen.Count(n, "file"))
	}
}

// invoke has a function run: by the service that runs on the state folder, else right here.
func (p *program) invoke(ctx context.Context, f *fleet, inv jobs.Invocation) (run history.Run, err error) {
	inv.Trigger, inv.Actor = jobs.TriggerCLI, actor()
	s, err := findService(ctx, f.cfg.State)
	if err != nil {
		return run, err
	}
	if s != nil {
		if err := p.sameService(f.cfg, s); err != nil {
			return run, err
		}
		return s.invoke(ctx, inv)
	}
	if fn, ok := f.template.Function(inv.Function); ok && fn.Name != "compact" {
		if err := needBucket(f.cfg); err != nil {
			return run, err
		}
	}
	return p.invokeHere(ctx, f, inv)
}

// sameService refuses to hand work to a service that keeps its backups elsewhere than this command was told to.
func (p *program) sameService(cfg settings.Config, s *service) error {
	origin := cfg.Origin("bucket")
	explicit := origin == "--bucket" || origin == "TABLEKEEPER_BUCKET"
	if explicit && s.Bucket != "" && s.Bucket != addressOf(cfg.Bucket) {
		return usage("leave "+origin+" out, or give another --state",
			"a service (pid %d) runs on %s with the bucket %s, not %s", s.PID, cfg.State, s.Bucket, addressOf(cfg.Bucket))
	}
	return nil
}

// invokeHere does the work in this process.
func (p *program) invokeHere(ctx context.Context, f *fleet, inv jobs.Invocation) (run history.Run, err error) {
	if inv.Type == jobs.Async {
		return run, fail(exitTemporary, "leave --async out, or start tablekeeper serve",
			"no service runs on %s that could do it later", f.cfg.State)
	}
	f.resume(ctx)
	progress := p.screen.Progress(p.now)
	defer progress.Done()
	h, err := p.openHouse(ctx, f, houseOptions{watch: &watch{label: inv.Function, show: progress.Show}})
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, h.Close(ctx)) }()
	if _, err := h.runner.Reap(ctx); err != nil {
		f.log.Warn("lost runs were not looked for", "error", err)
	}
	if inv.Function == "recover" {
		if err := h.ownStore(ctx, inv.Event); err != nil {
			return run, err
		}
	}
	return h.runner.Invoke(ctx, inv)
}
