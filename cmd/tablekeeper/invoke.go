package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"tablekeeper/infra/lambdaapi"
	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
)

func newInvoke(p *program) *cobra.Command {
	var event, key string
	var async, dryRun bool
	cmd := &cobra.Command{
		Use:   "invoke FUNCTION",
		Short: "Invoke a function with an event, as AWS Lambda would",
		Long: `invoke runs one of the functions of the template with an event of your own. The answer is the report. With --async the running
service does it later, with the template's retries; with --dry-run the event is only checked.`,
		Example: `  tablekeeper invoke sweep
  tablekeeper invoke backup -e event.json
  echo '{"tables":["orders"],"force":true}' | tablekeeper invoke compact -e -`,
		Args: one("FUNCTION"), Annotations: goesElsewhere(),
		RunE: func(cmd *cobra.Command, args []string) error {
			payload, err := p.readEvent(event)
			if err != nil {
				return err
			}
			inv := jobs.Invocation{Function: args[0], Event: payload, Type: jobs.Sync, IdempotencyKey: key}
			switch {
			case async && dryRun:
				return usage("leave one of them out", "--async and --dry-run exclude each other")
			case async:
				inv.Type = jobs.Async
			case dryRun:
				inv.Type = jobs.DryRun
			}
			return p.invokeAndShow(cmd.Context(), inv)
		},
	}
	cmd.Flags().StringVarP(&event, "event", "e", "", "`FILE` with the event, a JSON object; - is standard input")
	cmd.Flags().StringVar(&key, "idempotency-key", "", "the same `KEY` always gives the first run")
	cmd.Flags().BoolVar(&async, "async", false, "have the service do it, and do not wait")
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "only check that the function takes the event")
	return cmd
}

// invokeAndShow has the event checked first, so that a wrong one is an error of the command and not a run that failed.
func (p *program) invokeAndShow(ctx context.Context, inv jobs.Invocation) error {
	there, err := p.server()
	switch {
	case err != nil:
		return err
	case there != nil:
		return p.invokeThere(ctx, there, inv)
	}
	f, err := p.openFleet(ctx, false)
	if err != nil {
		return err
	}
	rehearsal := inv
	rehearsal.Type = jobs.DryRun
	run, err := p.invoke(ctx, f, rehearsal)
	if err == nil && inv.Type != jobs.DryRun {
		run, err = p.invoke(ctx, f, inv)
	}
	if err != nil {
		return err
	}
	return p.showInvoked(inv, run)
}

func (p *program) readEvent(from string) (json.RawMessage, error) {
	if from == "" {
		return json.RawMessage("{}"), nil
	}
	in := p.stdin
	if from != "-" {
		f, err := os.Open(from)
		if err != nil {
			return nil, usage("-e FILE, or -e - for standard input", "read the event: %w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, lambdaapi.MaxSyncPayload+1))
	if err != nil {
		return nil, fmt.Errorf("read the event: %w", err)
	}
	if len(data) > lambdaapi.MaxSyncPayload {
		return nil, usage("make it smaller", "the event is larger than %d bytes", lambdaapi.MaxSyncPayload)
	}
	if !json.Valid(data) {
		return nil, usage(`an event is a JSON object, such as {"tables":["*"]}`, "the event is not JSON")
	}
	return data, nil
}

func (p *program) showInvoked(inv jobs.Invocation, run history.Run) error {
	switch {
	case inv.Type == jobs.Sync:
		return p.showRun(run)
	case p.json:
		return p.screen.Document(run)
	case inv.Type == jobs.Async:
		p.screen.Line("queued %s", run.ID)
		p.screen.Note("To follow it: tablekeeper runs show %s --follow", run.ID)
		return nil
	}
	p.screen.Line("%s takes the event.", inv.Function)
	return nil
}
