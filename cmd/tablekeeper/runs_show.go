package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/jobs/history"
)

func newRunsShow(p *program) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "show RUN",
		Short: "Show one run: each table, phases, log",
		Long:  `show takes a run's id, or at least four characters of its beginning or end.`,
		Example: `  tablekeeper runs show 4f2a91c0
  tablekeeper runs show 4f2a91c0 --follow`,
		Args: one("RUN"), Annotations: goesElsewhere(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withHistory(cmd.Context(), func(store runBook) error {
				run, err := store.Get(cmd.Context(), args[0])
				if err == nil && follow {
					run, err = p.follow(cmd.Context(), store, run)
				}
				if err != nil {
					return err
				}
				return p.showRecord(run)
			})
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "wait until the run has ended, and show its log as it comes")
	return cmd
}

// followEvery is how often the history is asked for news.
const followEvery = 500 * time.Millisecond

// follow shows log lines as they come until the run has ended.
func (p *program) follow(ctx context.Context, store runBook, run history.Run) (history.Run, error) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for shown := 0; ; {
		for _, line := range run.Log[min(shown, len(run.Log)):] {
			p.screen.Note("%s", logLine(line))
		}
		shown = max(shown, len(run.Log))
		if run.Status.Ended() {
			return run, nil
		}
		select {
		case <-ctx.Done():
			return run, ctx.Err()
		case <-tick.C:
		}
		var err error
		if run, err = store.Get(ctx, run.ID); err != nil {
			return run, err
		}
	}
}

func logLine(l history.LogLine) string {
	parts := []string{l.Time.Local().Format("15:04:05.000"), l.Level}
	for _, s := range []string{l.Table, l.Message, l.Attrs} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, "  ")
}

func (p *program) showRecord(run history.Run) error {
	if p.json {
		return p.screen.Document(run)
	}
	p.screen.Line("%s  %s, run %s, %s", screen.Status(string(run.Status)), screen.Cell{Text: run.Function, Tone: screen.Strong}, run.ID, startedWords(run, p.now()))
	if run.Reason != "" {
		p.screen.Line("reason: %s", strings.ReplaceAll(run.Reason, "_", " "))
	}
	if run.Error != "" {
		p.screen.Line("error: %s", run.Error)
	}
	if run.Hint != "" {
		p.screen.Line("Try: %s", run.Hint)
	}
	p.screen.Line("event: %s", string(run.Event))
	p.showEntries(run)
	p.showPhases(run)
	for _, l := range run.Log {
		p.screen.Line("%s", logLine(l))
	}
	if run.LogDropped > 0 {
		p.screen.Line("… and %s of log", screen.Count(run.LogDropped, "more line"))
	}
	return nil
}

func startedWords(run history.Run, now time.Time) string {
	words := run.Queued.Local().Format(time.DateTime) + " (" + screen.Ago(run.Queued, now) + ")"
	if !run.Ended.IsZero() {
		words += ", took " + screen.Span(time.Duration(run.DurationMS)*time.Millisecond)
	}
	if run.Attempts > 1 {
		words += ", " + screen.Count(run.Attempts, "attempt")
	}
	return words + ", by " + strings.TrimSpace(run.Trigger+" "+run.Actor)
}

func (p *program) showEntries(run history.Run) {
	rows := make([][]screen.Cell, len(run.Entries))
	for i, e := range run.Entries {
		view := readEntry(e)
		rows[i] = []screen.Cell{screen.Status(e.Status), {Text: view.name()}, {Text: view.sentence()}}
	}
	if len(rows) > 0 {
		p.screen.Table([]string{"status", "table", ""}, rows)
	}
}

func (p *program) showPhases(run history.Run) {
	rows := make([][]screen.Cell, len(run.Phases))
	for i, ph := range run.Phases {
		bytes := ""
		if ph.Bytes > 0 {
			bytes = screen.Bytes(ph.Bytes)
		}
		rows[i] = []screen.Cell{{Text: ph.Name}, {Text: ph.Table}, {Text: screen.Span(time.Duration(ph.DurationMS) * time.Millisecond)}, {Text: bytes}}
	}
	if len(rows) > 0 {
		p.screen.Table([]string{"phase", "table", "took>", "bytes>"}, rows)
	}
}
