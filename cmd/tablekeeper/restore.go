package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/functions"
	"tablekeeper/functions/restore"
	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
)

type restoreFlags struct {
	event restore.Event
	yes   bool
}

func newRestore(p *program) *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore TABLE",
		Short: "Bring a table back: into a new file, or in place",
		Long: `restore fetches the newest backup of a table that passes every check (or one by --backup or --at) and writes it to a new file:
-o PATH, or TABLE-restored.db in the working directory. A backup that fails a check is passed over, and the next older one is taken.
What comes back is compared with the backup's sha256. If a drill has proved that backup, its check holds for the same bytes; else, and with
--full-check, SQLite checks the file and every row is read.

With --in-place it takes the table's place. It shows what will happen first and wants the table's name typed, or --yes. The
replaced file is kept in quarantine. If another process has the table open, the content is written through SQLite into the open database
instead of exchanging the file.`,
		Example: `  tablekeeper restore orders
  tablekeeper restore orders -o /tmp/orders.db --at '2026-11-22 10:00'
  tablekeeper restore orders --in-place --dry-run
  tablekeeper restore orders --in-place --yes`,
		Args:              one("TABLE"),
		ValidArgsFunction: p.completeTables,
		Annotations:       goesElsewhere(),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.event.Table = args[0]
			return p.restore(cmd.Context(), f)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.event.Output, "output", "o", "", "new `FILE` (default TABLE-restored.db)")
	fl.BoolVar(&f.event.InPlace, "in-place", false, "take the table's place")
	fl.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	fl.BoolVar(&f.event.Force, "force", false, "replace a file that is at -o")
	fl.BoolVarP(&f.event.DryRun, "dry-run", "n", false, "only show what would be done")
	fl.BoolVar(&f.event.FullCheck, "full-check", false, "check a backup that a drill has proved, too")
	fl.StringVar(&f.event.Backup, "backup", "", "this `BACKUP`, as tablekeeper backups lists it")
	fl.StringVar(&f.event.At, "at", "", "as the table was at this `TIME`: 2026-11-22 10:00, or RFC 3339")
	return cmd
}

func (p *program) restore(ctx context.Context, f restoreFlags) error {
	if f.event.InPlace && f.event.Output != "" {
		return usage("leave one of them out", "-o and --in-place exclude each other")
	}
	if f.event.Output == "-" {
		return usage("-o FILE; ./- for a file of that name", "a table is restored to a file, not to standard output")
	}
	there, err := p.server()
	switch {
	case err != nil:
		return err
	case there != nil:
		return p.restoreThere(ctx, there, f)
	}
	if err := aim(&f.event); err != nil {
		return err
	}
	var wrong *functions.EventError
	if errors.As(f.event.Check(), &wrong) {
		return usage(wrong.Try, "%s", wrong.Problem)
	}
	if f.event.DryRun || (f.event.InPlace && !f.yes) {
		if err := p.showPlan(ctx, f.event); err != nil || f.event.DryRun {
			return err
		}
		if err := p.confirm(f.event.Table); err != nil {
			return err
		}
	}
	run, err := p.invokeRestore(ctx, f.event)
	if err != nil {
		return err
	}
	err = p.showRun(run)
	if !p.json && len(run.Entries) == 1 {
		p.showRestored(run.Entries[0])
	}
	return err
}

// aim makes the destination absolute: a service has another working directory.
func aim(e *restore.Event) error {
	if e.InPlace {
		return nil
	}
	if e.Output == "" {
		e.Output = e.Table + "-restored.db"
	}
	path, err := filepath.Abs(e.Output)
	if err != nil {
		return fmt.Errorf("find %s: %w", e.Output, err)
	}
	e.Output = path
	return nil
}

func (p *program) invokeRestore(ctx context.Context, e restore.Event) (history.Run, error) {
	event, err := json.Marshal(e)
	if err != nil {
		return history.Run{}, fmt.Errorf("encode the event: %w", err)
	}
	f, err := p.openFleet(ctx, false)
	if err != nil {
		return history.Run{}, err
	}
	return p.invoke(ctx, f, jobs.Invocation{Function: "restore", Event: event, Type: jobs.Sync})
}

// showPlan asks what the restore would do, and shows it.
func (p *program) showPlan(ctx context.Context, e restore.Event) error {
	e.DryRun = true
	run, err := p.invokeRestore(ctx, e)
	if err != nil {
		return err
	}
	var report restore.Entry
	if len(run.Entries) == 1 {
		// What is not understood has no plan, and is shown as any other run.
		_ = json.Unmarshal(run.Entries[0].Report, &report)
	}
	if report.Plan == nil {
		return p.showRun(run)
	}
	if p.json {
		return p.screen.Record(report.Plan)
	}
	p.tellPlan(*report.Plan)
	return nil
}

func (p *program) tellPlan(plan restore.Plan) {
	proved := "never proved by a drill"
	if !plan.Proved.IsZero() {
		proved = "proved " + screen.Ago(plan.Proved, p.now())
	}
	p.screen.Line("Restore %s from %s", screen.Cell{Text: plan.Table, Tone: screen.Strong}, plan.Backup)
	p.screen.Line("  made     %s (%s), %s", plan.Created.Local().Format(time.DateTime), screen.Ago(plan.Created, p.now()), proved)
	p.screen.Line("  content  %s, %s", screen.Bytes(plan.FileSize), screen.Count(int(plan.RecordCount), "row"))
	p.screen.Line("  to       %s", plan.Destination)
	for _, b := range plan.PassedOver {
		p.screen.Line("  passing over %s: %s", b.Backup, b.Detail)
	}
	if now := plan.Replaces; now != nil {
		p.tellReplaced(*now)
	}
}

func (p *program) tellReplaced(now restore.Replaces) {
	what := screen.Count(int(now.RecordCount), "row")
	if now.Problem != "" {
		what = "unreadable: " + now.Problem
	}
	p.screen.Line("  replaces %s, %s; it is kept in quarantine", screen.Bytes(now.FileSize), what)
	for _, c := range now.Changes {
		p.screen.Line("    %s: %s now, %s in the backup", c.SQLTable, screen.Count(int(c.Now), "row"), screen.Number(c.Backup))
	}
	if len(now.Processes) > 0 {
		p.screen.Line("  open in  %s", processList(now.Processes))
	}
}

// confirm wants the table's name typed by a person.
func (p *program) confirm(table string) error {
	return p.confirmDoing(table, "restoring "+table+" in place")
}

func (p *program) confirmDoing(table, doing string) error {
	if !p.screen.Interactive {
		return fail(exitUnsure, "--yes, if that is what you want", "%s needs to be confirmed; nothing was changed", doing)
	}
	fmt.Fprintf(p.stderr, "Type %s to go on: ", table)
	answer, _ := bufio.NewReader(p.stdin).ReadString('\n')
	if strings.TrimSpace(answer) != table {
		return fail(exitUnsure, "type the table's name, or use --yes", "not confirmed; nothing was changed")
	}
	return nil
}

// showRestored adds what matters after a restore: where it is, what was passed over, and what may be lost.
func (p *program) showRestored(e history.Entry) {
	var report restore.Entry
	// A report that is not understood has been shown as far as it is.
	_ = json.Unmarshal(e.Report, &report)
	if report.Status != functions.Restored {
		return
	}
	for _, b := range report.PassedOver {
		p.screen.Warn("%s  passed over %s: %s", screen.Cell{Text: "!", Tone: screen.Careful}, b.Backup, b.Detail)
	}
	if p.quiet {
		return
	}
	p.screen.Line("It is at %s. What was written after %s is not in it.", report.Destination, report.LostSince.Local().Format(time.DateTime))
	if !strings.HasPrefix(report.Checked, "full") {
		p.screen.Line("Its bytes are those that a drill has %s. To have SQLite check them again: --full-check", report.Checked)
	}
	if report.Quarantine != "" {
		p.screen.Line("What was there before is in %s", report.Quarantine)
	}
}
