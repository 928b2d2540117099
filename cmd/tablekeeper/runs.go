package main

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/cmd/tablekeeper/settings"
	"tablekeeper/jobs/history"
)

func newRuns(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "runs",
		Short:   "Show what was done, by whom, and how it went",
		Example: "  tablekeeper runs list --status failed\n  tablekeeper runs show 4f2a91c0",
		Args:    knownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRunsList(p), newRunsShow(p))
	return cmd
}

// runBook is where runs are looked up: the history here, or a service elsewhere.
type runBook interface {
	List(ctx context.Context, f history.Filter) (history.Page, error)
	Get(ctx context.Context, id string) (history.Run, error)
}

// withHistory opens the history to read. A service may be writing it meanwhile.
func (p *program) withHistory(ctx context.Context, use func(runBook) error) error {
	there, err := p.server()
	switch {
	case err != nil:
		return err
	case there != nil:
		return use(there)
	}
	cfg, err := p.configure()
	if err != nil {
		return err
	}
	if cfg.State == "" {
		return usage("--state DIR, or --tables FOLDER", "it is not known where the history is")
	}
	store, err := history.OpenReader(ctx, filepath.Join(cfg.State, history.File), history.Options{Logger: p.logger(cfg, false), Now: p.now})
	if errors.Is(err, fs.ErrNotExist) {
		return fail(exitNotFound, "tablekeeper backup --all makes the first run; or give another --state", "there is no history in %s", cfg.State)
	}
	if err != nil {
		return err
	}
	defer store.Close()
	return use(store)
}

func newRunsList(p *program) *cobra.Command {
	var filter history.Filter
	var since string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List runs, newest first",
		Example: `  tablekeeper runs list
  tablekeeper runs list --table orders --function backup --since 2d
  tablekeeper runs list --status failed,partial,lost --json`,
		Args: cobra.NoArgs, Annotations: goesElsewhere(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if since != "" {
				d, err := settings.ParseDuration(since)
				if err != nil {
					return usage("--since 2d", "--since: %w", err)
				}
				filter.Since = p.now().Add(-d)
			}
			if err := checkStatuses(filter.Statuses); err != nil {
				return err
			}
			if filter.Limit < 1 {
				return usage("--limit 20", "--limit: at least one run, not %d", filter.Limit)
			}
			return p.withHistory(cmd.Context(), func(store runBook) error { return p.listRuns(cmd.Context(), store, filter) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&filter.Function, "function", "", "only runs of this `FUNCTION`")
	f.StringVar(&filter.Table, "table", "", "only runs that were about this `TABLE`")
	f.StringVar(&filter.Job, "job", "", "only runs of this `JOB`")
	f.StringSliceVar(&filter.Statuses, "status", nil, "only runs with one of these `STATUSES`, with commas between")
	f.StringVar(&since, "since", "", "only runs of the last `TIME`: 90m, 12h, 2d")
	f.IntVar(&filter.Limit, "limit", 20, "at most so `MANY`")
	f.StringVar(&filter.Cursor, "cursor", "", "go on at the `CURSOR` that the last list ended with")
	return cmd
}

func checkStatuses(statuses []string) error {
	var known []string
	for _, s := range history.Statuses() {
		known = append(known, string(s))
	}
	for _, s := range statuses {
		if !slices.Contains(known, s) {
			return usage("use one of "+strings.Join(known, ", "), "--status: %q is no status of a run", s)
		}
	}
	return nil
}

func (p *program) listRuns(ctx context.Context, store runBook, filter history.Filter) error {
	page, err := store.List(ctx, filter)
	if errors.Is(err, history.ErrCursor) {
		return usage("use the cursor as the last list gave it", "--cursor: %w", err)
	}
	if err != nil {
		return err
	}
	if p.json {
		if page.Runs == nil {
			page.Runs = []history.Run{}
		}
		return p.screen.Document(page)
	}
	rows := make([][]screen.Cell, len(page.Runs))
	for i, r := range page.Runs {
		rows[i] = runRow(r, p.now())
	}
	if len(rows) == 0 {
		p.screen.Note("No such runs.")
		return nil
	}
	p.screen.Table([]string{"run", "status", "function", "when", "took>", "tables>", "by", ""}, rows)
	if page.Next != "" {
		p.screen.Note("More: --cursor %s", page.Next)
	}
	return nil
}

// shortID is the end of a run's id, which is random; the beginning is the time.
func shortID(id string) string { return id[max(0, len(id)-8):] }

func runRow(r history.Run, now time.Time) []screen.Cell {
	by := r.Trigger
	if r.Actor != "" && r.Actor != r.Trigger {
		by += " " + r.Actor
	}
	tables := screen.Text("%d", r.Counts.Tables)
	if r.Counts.Failed > 0 {
		tables = screen.Cell{Text: screen.Text("%d of %d failed", r.Counts.Failed, r.Counts.Tables).Text, Tone: screen.Bad}
	}
	what := strings.ReplaceAll(r.Reason, "_", " ")
	if r.Error != "" {
		what = firstLine(r.Error)
	}
	return []screen.Cell{
		{Text: shortID(r.ID)}, screen.Status(string(r.Status)), {Text: r.Function}, {Text: screen.Ago(r.Queued, now)},
		{Text: screen.Span(time.Duration(r.DurationMS) * time.Millisecond)}, tables, {Text: by}, {Text: what, Tone: screen.Dim},
	}
}

func firstLine(s string) string {
	const most = 80
	s, _, _ = strings.Cut(s, "\n")
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
