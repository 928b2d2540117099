package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
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
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := p.openFleet(cmd.Context(), false)
			if err != nil {
				return err
			}
			report, err := f.status(cmd.Context(), args, p.now())
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

// health is what status knows of one table.
type health struct {
	Table       string      `json:"table"`
	Path        string      `json:"path"`
	Health      string      `json:"health"` // healthy, unproved, none (no backup), overdue, suspect, recovering, degraded, missing, error
	Reason      string      `json:"reason,omitempty"`
	State       shelf.State `json:"state"`
	Bytes       int64       `json:"bytes"`
	WALBytes    int64       `json:"wal_bytes"`
	FreeRatio   float64     `json:"free_ratio"`
	Threshold   float64     `json:"threshold"`
	JournalMode string      `json:"journal_mode,omitempty"`
	LastBackup  time.Time   `json:"last_backup,omitzero"`
	Backup      string      `json:"backup,omitempty"`
	LastProved  time.Time   `json:"last_proved,omitzero"`
	RPOMS       int64       `json:"rpo_ms"`
}

type statusSummary struct {
	Tables    int            `json:"tables"`
	Bytes     int64          `json:"bytes"`
	FreeBytes int64          `json:"free_bytes"`
	Unwell    int            `json:"unwell"`
	Problems  int            `json:"problems"`
	ByHealth  map[string]int `json:"by_health"`
	Sentence  string         `json:"sentence"`
}

type statusReport struct {
	Tables   []health        `json:"tables"`
	Problems []shelf.Problem `json:"problems"`
	Summary  statusSummary   `json:"summary"`
	now      time.Time
}

// badness orders health, worst first.
var badness = []string{"missing", "error", "degraded", "suspect", "recovering", "overdue", "none", "unproved", "healthy"}

func (f *fleet) status(ctx context.Context, patterns []string, now time.Time) (statusReport, error) {
	tables, err := f.shelf.Select(patterns)
	if err != nil {
		return statusReport{}, err
	}
	report := statusReport{Tables: make([]health, len(tables)), Problems: []shelf.Problem{}, now: now}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2 * runtime.GOMAXPROCS(0))
	for i, t := range tables {
		group.Go(func() error {
			report.Tables[i] = look(ctx, t, now)
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return report, err
	}
	slices.SortStableFunc(report.Tables, func(a, b health) int {
		return cmp.Or(cmp.Compare(slices.Index(badness, a.Health), slices.Index(badness, b.Health)), a.LastBackup.Compare(b.LastBackup))
	})
	for _, problem := range f.problems {
		if !problem.Ignorable() {
			report.Problems = append(report.Problems, problem)
		}
	}
	report.summarize()
	return report, nil
}

// look reads what is on the disk about one table.
func look(ctx context.Context, t shelf.Table, now time.Time) health {
	h := health{
		Table: t.Name, Path: t.Path, State: t.State, Reason: t.Reason,
		Threshold: t.Settings.Threshold, RPOMS: t.Settings.RPO.Milliseconds(),
	}
	record, recordErr := shelf.ReadRecord(t.Path)
	if recordErr == nil {
		h.LastBackup, h.Backup, h.LastProved = record.Created, record.Key, record.Proved
		if record.Confirmed.After(h.LastBackup) {
			h.LastBackup = record.Confirmed
		}
	}
	stats, err := table.Stat(ctx, t.Path)
	if err == nil {
		h.Bytes, h.WALBytes, h.FreeRatio, h.JournalMode = stats.Bytes, stats.WALBytes, stats.FreeRatio, stats.JournalMode
	}
	switch {
	case t.Missing || errors.Is(err, fs.ErrNotExist):
		h.Health, h.Reason = "missing", "the file is gone: tablekeeper restore "+t.Name+" --in-place"
	case err != nil:
		h.Health, h.Reason = "error", err.Error()
	case t.State != shelf.Healthy && t.State != "":
		h.Health = string(t.State)
	default:
		h.judgeBackup(t, record, recordErr, now)
	}
	return h
}

func (h *health) judgeBackup(t shelf.Table, record shelf.Record, err error, now time.Time) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		h.Health, h.Reason = "none", "no backup yet"
	case err != nil:
		h.Health, h.Reason = "error", err.Error()
	case record.Distrust != "":
		h.Health, h.Reason = "overdue", "no good backup: "+record.Distrust
	case t.Settings.RPO > 0 && now.Sub(h.LastBackup) > t.Settings.RPO:
		h.Health, h.Reason = "overdue", "the last backup is older than "+screen.Span(t.Settings.RPO)
	case record.Proved.IsZero():
		h.Health, h.Reason = "unproved", "no drill has restored the backup yet"
	default:
		h.Health = "healthy"
	}
}

func (r *statusReport) summarize() {
	s := statusSummary{Tables: len(r.Tables), Problems: len(r.Problems), ByHealth: map[string]int{}}
	for _, h := range r.Tables {
		s.Bytes += h.Bytes
		s.FreeBytes += int64(float64(h.Bytes) * h.FreeRatio)
		s.ByHealth[h.Health]++
	}
	s.Unwell = s.Tables - s.ByHealth["healthy"] - s.ByHealth["unproved"]
	s.Sentence = s.sentence()
	r.Summary = s
}

func (s statusSummary) sentence() string {
	share := 0.0
	if s.Bytes > 0 {
		share = float64(s.FreeBytes) / float64(s.Bytes)
	}
	words := []string{}
	for _, h := range slices.Backward(badness) {
		if n := s.ByHealth[h]; n > 0 {
			name := map[string]string{"none": "without a backup", "unproved": "not proved yet", "error": "unreadable"}[h]
			words = append(words, fmt.Sprintf("%d %s", n, cmp.Or(name, h)))
		}
	}
	text := fmt.Sprintf("%s, %s (%s free): %s.", screen.Count(s.Tables, "table"), screen.Bytes(s.Bytes), screen.Percent(share), strings.Join(words, ", "))
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
		if p.quiet && (h.Health == "healthy" || h.Health == "unproved") {
			continue
		}
		rows = append(rows, h.row(r.now))
	}
	if len(rows) > 0 {
		p.screen.Table([]string{"health", "table", "size>", "free>", "wal>", "backup", "proved", ""}, rows)
	}
	if !p.quiet {
		p.screen.Line("%s", r.Summary.Sentence)
	}
	return nil
}

func (h health) row(now time.Time) []screen.Cell {
	state := screen.Status(h.Health)
	switch h.Health {
	case "none":
		state.Text = "! no backup"
	case "missing":
		state = screen.Cell{Text: "✗ missing", Tone: screen.Bad}
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
func (p *program) completeTables(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
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
