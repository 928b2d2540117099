package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/cmd/tablekeeper/settings"
)

func newServe(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run as a service: schedules, history, catch-up of missed runs",
		Long: `serve does what the template schedules: it compacts, backs up, proves and sweeps, catches up on what was missed while it was down, and
keeps the history of all runs. The other commands find it by its state folder and ask it, rather than work beside it.

It stops on SIGTERM and SIGINT: what is under way is ended safely and recorded. See docs/tablekeeper.service for systemd.`,
		Example: `  tablekeeper serve
  tablekeeper --tables ./data --bucket ./backups serve --log-format json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.serve(cmd.Context()) },
	}
}

func (p *program) serve(ctx context.Context) (err error) {
	f, err := p.openFleet(ctx, true)
	if err != nil {
		return err
	}
	if err := needBucket(f.cfg); err != nil {
		return err
	}
	planned, err := f.readPlan()
	if err != nil {
		return err
	}
	hold, err := takeState(ctx, f.cfg.State, addressOf(f.cfg.Bucket), p.now())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hold.Close()) }()
	f.resume(ctx)
	h, err := p.openHouse(ctx, f, houseOptions{service: true, planned: planned})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close(ctx)) }()
	service, err := h.runner.Serve(ctx, planned)
	if err != nil {
		return err
	}
	c := &control{house: h, service: service, started: p.now()}
	if f.cfg.Stores != settings.Off {
		if c.stores, err = h.openHub(ctx); err != nil {
			return errors.Join(err, service.Stop(ctx))
		}
	}
	h.tellUntold(ctx)
	shown, err := p.openFront(ctx, c)
	if err != nil {
		return errors.Join(err, service.Stop(ctx))
	}
	defer func() { err = errors.Join(err, shown.Close(ctx)) }()
	return c.run(ctx, hold)
}

// run serves until the context ends.
func (c *control) run(ctx context.Context, hold *claim) error {
	log := c.house.log
	server := &http.Server{Handler: c.handler(), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(hold.Listener) }()
	go keepWatchdog(ctx, func() error { return c.alive(ctx) })
	for _, problem := range c.house.problems {
		if !problem.Ignorable() {
			log.Warn("this is no table", "problem", screen.Clean(problem.String()), "hint", problem.Hint)
		}
	}
	log.Info("serving", "tables", len(c.house.shelf.Tables()), "bucket", c.house.first.Address, "state", hold.dir, "version", toolVersion())
	if err := notifySystemd("READY=1"); err != nil {
		log.Warn("the service manager was not told that we are ready", "error", err)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
	}
	return errors.Join(err, c.stop(ctx, server))
}

// stop ends what is under way: it is recorded, and what it left is settled by the next start.
func (c *control) stop(ctx context.Context, server *http.Server) error {
	c.house.log.Info("stopping", "active_runs", len(c.house.runner.Active()))
	if err := notifySystemd("STOPPING=1"); err != nil {
		c.house.log.Warn("the service manager was not told that we stop", "error", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
	defer cancel()
	// The runs first: callers on the socket wait for theirs.
	errs := []error{c.service.Stop(ctx), server.Shutdown(ctx)}
	c.house.log.Info("stopped")
	return errors.Join(errs...)
}
