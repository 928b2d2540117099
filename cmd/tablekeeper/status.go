package main

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/shelf/health"
)

func newStatus(p *program) *cobra.Command {
	var exitCode bool
	cmd := &cobra.Command{
		Use:   "status [TABLE...]",
		Short: "Show each table's size, free share, last backup and health, worst first",
		Long: `status shows what is known of each table on this machine: it reads headers and the records of the last backups, and
asks neither SQLite nor the bucket. A table is overdue when its last backup is older than its RPO.`,
		Example: `  tablekeeper status
  tablekeeper status 'shop-*' --json
  tablekeeper status --quiet --exit-code        for monitoring: exit status 21 if a table is not well`,
		ValidArgsFunction: p.completeTables,
		Annotations:       goesElsewhere(),
		RunE: func(cmd *cobra.Command, args []string) error {
			report, err := p.status(cmd.Context(), args)
			if err != nil {
				return err
			}
			if err := p.showStatus(report); err != nil {
				return err
			}
			if exitCode && report.Summary.Unwell > 0 {
				return exitWith(exitUnhealthy)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with status 21 if a table is not well")
	return cmd
}

type statusSummary struct {
	Tables    int                    `json:"tables"`
	Bytes     int64                  `json:"bytes"`
	FreeBytes int64                  `json:"free_bytes"`
	Unwell    int                    `json:"unwell"`
	Problems  int                    `json:"problems"`
	ByHealth  map[health.Verdict]int `json:"by_health"`
	Sentence  string                 `json:"sentence"`
}

type statusReport struct {
	Tables   []health.Report `json:"tables"`
	Problems []shelf.Problem `json:"problems"`
	Summary  statusSummary   `json:"summary"`
	now      time.Time
}

// status looks at the tables here, or asks a service elsewhere.
func (p *program) status(ctx context.Context, patterns []string) (statusReport, error) {
	there, err := p.server()
	switch {
	case err != nil:
		return statusReport{}, err
	case there != nil:
		return statusThere(ctx, there, patterns, p.now())
	}
	f, err := p.openFleet(ctx, false)
	if err != nil {
		return statusReport{}, err
	}
	return f.status(ctx, patterns, p.now())
}

func (f *fleet) status(ctx context.Context, patterns []string, now time.Time) (statusReport, error) {
	tables, err := f.shelf.Select(patterns)
	if err != nil {
		return statusReport{}, err
	}
	report := statusReport{Tables: make([]health.Report, len(tables)), Problems: []shelf.Problem{}, now: now}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2 * runtime.GOMAXPROCS(0))
	for i, t := range tables {
		group.Go(func() error {
			report.Tables[i] = health.Look(ctx, t, now)
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return report, err
	}
	order := health.Verdicts()
	slices.SortStableFunc(report.Tables, func(a, b health.Report) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Health), slices.Index(order, b.Health)), a.LastBackup.Compare(b.LastBackup))
	})
	for _, problem := range f.problems {
		if !problem.Ignorable() {
			report.Problems = append(report.Problems, problem)
		}
	}
	report.summarize()
	return report, nil
}

func (r *statusReport) summarize() {
	s := statusSummary{Tables: len(r.Tables), Problems: len(r.Problems), ByHealth: map[health.Verdict]int{}}
	for _, h := range r.Tables {
		s.Bytes += h.Bytes
		s.FreeBytes += h.FreeBytes
		s.ByHealth[h.Health]++
		if !h.Health.Well() {
			s.Unwell++
		}
	}
	s.Sentence = s.sentence()
	r.Summary = s
}

func (s statusSummary) sentence() string {
	share := 0.0
	if s.Bytes > 0 {
		share = float64(s.FreeBytes) / float64(s.Bytes)
	}
	words := []string{}
	for _, h := range slices.Backward(health.Verdicts()) {
		if n := s.ByHealth[h]; n > 0 {
			name := map[health.Verdict]string{health.NoBackup: "without a backup", health.Unproved: "not proved yet", health.Error: "unreadable"}[h]
			words = append(words, fmt.Sprintf("%d %s", n, cmp.Or(name, string(h))))
		}
	}
	text := fmt.Sprintf("%s, %s (%s free): %s.", screen.Count(s.Tables, "table"), screen.Bytes(s.Bytes), screen.Percent(share), strings.Join(words, ", "))
	if s.Tables == 0 {
		text = "No tables: the folders have no SQLite file."
	}
	if s.Problems > 0 {
		text += fmt.Sprintf(" %s: see tablekeeper check.", screen.Count(s.Problems, "problem"))
	}
	return text
}

func (p *program) showStatus(r statusReport) error {
	if p.json {
		return p.screen.Document(r)
	}
	var rows [][]screen.Cell
	for _, h := range r.Tables {
		if p.quiet && h.Health.Well() {
			continue
		}
		rows = append(rows, healthRow(h, r.now))
	}
	if len(rows) > 0 {
		p.screen.Table([]string{"health", "table", "size>", "free>", "wal>", "backup", "proved", ""}, rows)
	}
	if !p.quiet {
		p.screen.Line("%s", r.Summary.Sentence)
	}
	return nil
}

func healthRow(h health.Report, now time.Time) []screen.Cell {
	state := screen.Status(string(h.Health))
	switch h.Health {
	case health.NoBackup:
		state.Text = "! no backup"
	case health.Missing:
		state = screen.Cell{Text: "✗ missing", Tone: screen.Bad}
	default: // Status knows it
	}
	free := screen.Cell{Text: screen.Percent(h.FreeRatio)}
	if h.FreeRatio > h.Threshold {
		free.Tone = screen.Careful
	}
	wal := ""
	if h.WALBytes > 0 {
		wal = screen.Bytes(h.WALBytes)
	}
	return []screen.Cell{
		state, {Text: h.Table}, {Text: screen.Bytes(h.Bytes)}, free, {Text: wal},
		{Text: screen.Ago(h.LastBackup, now)}, {Text: screen.Ago(h.LastProved, now)}, {Text: firstLine(h.Reason), Tone: screen.Dim},
	}
}

// completeTables offers the names of tables to the shell.
func (p *program) completeTables(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	if there, err := p.server(); err == nil && there != nil {
		return tablesThere(cmd.Context(), there, begun), cobra.ShellCompDirectiveNoFileComp
	}
	f, err := p.openFleet(cmd.Context(), false)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, t := range f.shelf.Tables() {
		names = append(names, t.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
