package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/jobs/history"
)

// entry is what the commands show of a function's report on one table. Each function fills its own part.
type entry struct {
	Table      string   `json:"table"`
	Status     string   `json:"status"`
	Reason     string   `json:"reason"`
	Detail     string   `json:"detail"`
	Notes      []string `json:"notes"`
	DurationMS int64    `json:"duration_ms"`
	BlockedMS  int64    `json:"blocked_ms"`

	DryRun           bool    `json:"dry_run"`
	Strategy         string  `json:"strategy"`
	FreelistRatio    float64 `json:"freelist_ratio"`
	GainBytes        int64   `json:"gain_bytes"`
	PredictedPauseMS int64   `json:"predicted_pause_ms"`
	DiskNeeded       int64   `json:"disk_needed"`

	BytesBefore int64  `json:"bytes_before"`
	BytesAfter  int64  `json:"bytes_after"`
	Backup      string `json:"backup"`
	BackupUsed  string `json:"backup_used"`
	BytesStored int64  `json:"bytes_stored"`
	FileSize    int64  `json:"file_size"`
	RecordCount int64  `json:"record_count"`
	Quarantine  string `json:"quarantine"`
	Rung        string `json:"rung"`
	Tables      int    `json:"tables"`
	BytesFreed  int64  `json:"bytes_freed"`
	Holder      string `json:"holder"`
	Error       string `json:"error"`
	Hint        string `json:"hint"`
}

func readEntry(e history.Entry) entry {
	view := entry{Table: e.Table, Status: e.Status, Reason: e.Reason, DurationMS: e.DurationMS}
	// A report that is not what we know is still shown by what the runner knows of it.
	_ = json.Unmarshal(e.Report, &view)
	return view
}

// name is the table, or what stands for all of them in the report of a function that is about none in particular.
func (e entry) name() string {
	if e.Table == "" {
		return "(all)"
	}
	return e.Table
}

// sentence says in words what an entry's figures mean.
func (e entry) sentence() string {
	took := screen.Span(time.Duration(e.DurationMS) * time.Millisecond)
	switch e.Status {
	case "compacted":
		return fmt.Sprintf("%s -> %s in %s, users waited %s", screen.Bytes(e.BytesBefore), screen.Bytes(e.BytesAfter), took,
			screen.Span(time.Duration(e.BlockedMS)*time.Millisecond))
	case "backed_up":
		return fmt.Sprintf("%s -> %s in %s  %s", screen.Bytes(e.FileSize), screen.Bytes(e.BytesStored), took, e.Backup)
	case "verified":
		return fmt.Sprintf("%s proved in %s: %s, %s", e.backup(), took, screen.Bytes(e.FileSize), screen.Count(int(e.RecordCount), "row"))
	case "restored":
		return fmt.Sprintf("from %s in %s: %s, %s", e.backup(), took, screen.Bytes(e.FileSize), screen.Count(int(e.RecordCount), "row"))
	case "repaired":
		return fmt.Sprintf("by %s in %s", e.Rung, took)
	case "degraded":
		return fmt.Sprintf("no backup was good: it is empty, after %s", took)
	case "swept":
		return fmt.Sprintf("%s looked at, %s freed in %s", screen.Count(e.Tables, "table"), screen.Bytes(e.BytesFreed), took)
	case "skipped":
		detail := e.Detail
		if e.DryRun && e.Strategy != "" {
			detail += e.cost()
		}
		if detail == "" && e.Holder != "" {
			detail = "by " + e.Holder
		}
		return joinWords(strings.ReplaceAll(e.Reason, "_", " "), detail)
	}
	return cmp.Or(e.Detail, e.Error, strings.ReplaceAll(e.Reason, "_", " "))
}

// cost is what a compaction would give and take.
func (e entry) cost() string {
	return fmt.Sprintf("; %.0f %% free, %s to gain, by %s: writers would wait about %d ms, %s of disk needed", 100*e.FreelistRatio, screen.Bytes(e.GainBytes),
		e.Strategy, e.PredictedPauseMS, screen.Bytes(e.DiskNeeded))
}

func (e entry) backup() string {
	if e.BackupUsed != "" {
		return e.BackupUsed
	}
	return e.Backup
}

func joinWords(reason, detail string) string {
	switch {
	case detail == "":
		return reason
	case reason == "":
		return detail
	}
	return reason + ": " + detail
}

// summary is the last line of a run's JSON Lines.
type summary struct {
	RunID      string         `json:"run_id"`
	Function   string         `json:"function"`
	Status     history.Status `json:"status"`
	Reason     string         `json:"reason,omitempty"`
	Error      string         `json:"error,omitempty"`
	Hint       string         `json:"hint,omitempty"`
	Counts     history.Counts `json:"counts"`
	DurationMS int64          `json:"duration_ms"`
}

// showRun shows a run that has ended and gives the exit status.
func (p *program) showRun(run history.Run) error {
	if p.json {
		for _, e := range run.Entries {
			if err := p.screen.Record(e); err != nil {
				return err
			}
		}
		if err := p.screen.Record(summary{
			run.ID, run.Function, run.Status, run.Reason, run.Error, run.Hint, run.Counts, run.DurationMS,
		}); err != nil {
			return err
		}
		return exitWith(runStatus(run))
	}
	columns := columnsOf(run.Entries)
	for _, e := range run.Entries {
		p.showEntry(readEntry(e), columns)
	}
	p.showNotes(run)
	p.showEnd(run)
	return exitWith(runStatus(run))
}

// showEntry is one line for a table; what failed goes to standard error, with the next step.
func (p *program) showEntry(e entry, columns columns) {
	status, name := columns.fill(e.mark(), e.name())
	if e.Reason == "cancelled" {
		p.screen.Warn("%s%sstopped before it was done", status, name)
	} else if e.Status == history.EntryFailed || e.Status == history.EntryLost {
		p.screen.Warn("%s%s%s", status, name, e.sentence())
		if e.Hint != "" {
			p.screen.Warn("Try: %s", e.Hint)
		}
	} else if !p.quiet {
		p.screen.Line("%s%s%s", status, name, e.sentence())
	}
}

// mark is the status as a symbol and a word.
func (e entry) mark() screen.Cell {
	if e.Reason == "cancelled" {
		return screen.Status("cancelled")
	}
	return screen.Status(e.Status)
}

// columns are the widths of what begins the lines of a run.
type columns struct{ status, name int }

func columnsOf(entries []history.Entry) (c columns) {
	for _, e := range entries {
		view := readEntry(e)
		c.status = max(c.status, utf8.RuneCountInString(view.mark().Text))
		c.name = max(c.name, len(view.name()))
	}
	return c
}

// fill makes the cells as wide as their columns, with a gap to the next.
func (c columns) fill(status screen.Cell, name string) (screen.Cell, string) {
	status.Text += strings.Repeat(" ", max(0, c.status-utf8.RuneCountInString(status.Text))+2)
	return status, name + strings.Repeat(" ", max(0, c.name-len(name))+2)
}

// showNotes shows what the entries remark, each remark once.
func (p *program) showNotes(run history.Run) {
	tables := map[string][]string{}
	var notes []string
	for _, e := range run.Entries {
		view := readEntry(e)
		for _, note := range view.Notes {
			if tables[note] == nil {
				notes = append(notes, note)
			}
			tables[note] = append(tables[note], view.name())
		}
	}
	const most = 5
	for i, note := range notes {
		if i == most {
			p.screen.Note("And %s: tablekeeper runs show %s --json", screen.Count(len(notes)-most, "more note"), shortID(run.ID))
			break
		}
		about := tables[note][0]
		if n := len(tables[note]); n > 1 {
			about = screen.Count(n, "table")
		}
		p.screen.Note("Note on %s: %s", about, note)
	}
}

func (p *program) showEnd(run history.Run) {
	took := screen.Span(time.Duration(run.DurationMS) * time.Millisecond)
	switch {
	case run.Error != "" && run.Counts.Failed == 0:
		p.screen.Warn("%s  %s: %s", screen.Status(string(run.Status)), run.Function, run.Error)
		if run.Hint != "" {
			p.screen.Warn("Try: %s", run.Hint)
		}
	case run.Status == history.Skipped && run.Reason != "":
		p.screen.Warn("%s  %s: %s", screen.Status("skipped"), run.Function, strings.ReplaceAll(run.Reason, "_", " "))
	case len(run.Entries) > 1:
		c := run.Counts
		p.screen.Note("%s in %s: %d done, %d skipped, %d failed.", screen.Count(c.Tables, "table"), took, c.Done, c.Skipped, c.Failed)
	case len(run.Entries) == 0:
		p.screen.Note("No tables to work on.")
	}
}

// reasonStatus is the exit status of a failure by the reason in its report.
var reasonStatus = map[string]int{
	"locked": exitLocked, "busy": exitLocked, "in_use": exitLocked,
	"unknown_table": exitNotFound, "not_found": exitNotFound, "missing": exitNotFound, "no_backup": exitNotFound, "no_bucket": exitNotFound,
	"wrong_key": exitWrongKey, "bucket_unreachable": exitTemporary,
	"corrupt": exitCorrupt, "backup_damaged": exitCorrupt, "backup_truncated": exitCorrupt, "backup_invalid": exitCorrupt,
	"no_good_backup": exitCorrupt, "cancelled": exitCancelled,
}

// runStatus is the exit status that a run amounts to: if every table failed for one reason, that of the reason.
func runStatus(run history.Run) int {
	switch run.Status {
	case history.Succeeded:
		return exitDone
	case history.Partial:
		return exitPartial
	case history.Cancelled:
		return exitCancelled
	case history.Skipped:
		return exitLocked
	case history.Queued, history.Running:
		return exitDone
	case history.Failed, history.Lost, history.TimedOut:
	}
	code := 0
	for _, e := range run.Entries {
		c, known := reasonStatus[e.Reason]
		if !known || (code != 0 && c != code) {
			return exitFailed
		}
		code = c
	}
	if code == 0 {
		return exitFailed
	}
	return code
}
