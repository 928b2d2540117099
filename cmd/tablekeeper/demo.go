package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/cmd/tablekeeper/settings"
	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
)

func newDemo(p *program) *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it all in half a minute, on throw-away tables",
		Long: `demo makes four tables in a temporary folder, has another process write to one of them all the time, and then backs up, compacts,
proves, deletes and restores, for real. It needs no configuration, no account and no other program, and leaves nothing behind.`,
		Example: "  tablekeeper demo\n  tablekeeper demo --keep",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.demo(cmd.Context(), keep) },
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the folder, to try other commands on it")
	return cmd
}

// show is one performance of the demo.
type show struct {
	*program
	dir    string
	house  *house
	writer *writer
	scene  int
	before fingerprint // of the table that gets lost
}

// victim is the table that the demo deletes; busy is the one that another process writes to.
const (
	victim = "sessions"
	busy   = "orders"
)

func (p *program) demo(ctx context.Context, keep bool) (err error) {
	started := p.now()
	dir, err := os.MkdirTemp("", "tablekeeper-demo-")
	if err != nil {
		return fmt.Errorf("make a folder for the demo: %w", err)
	}
	s := &show{program: p, dir: dir}
	err = errors.Join(s.perform(ctx), s.end(context.WithoutCancel(ctx)))
	if err != nil && ctx.Err() != nil {
		err = s.interrupted(keep)
	}
	if !keep {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		return err
	}
	s.bow(p.now().Sub(started), keep)
	return nil
}

// interrupted is the error of a demo that was stopped before its end.
func (s *show) interrupted(keep bool) error {
	left := "nothing is left of the demo"
	if keep {
		left = "what there is of the demo is in " + s.dir
	}
	return fail(exitCancelled, "tablekeeper demo begins anew", "stopped; %s", left)
}

func (s *show) perform(ctx context.Context) error {
	for _, act := range []func(context.Context) error{
		s.prepare, s.look, s.backup, s.compact, s.prove, s.disaster, s.restore, s.reckon,
	} {
		if err := act(ctx); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	return nil
}

// title begins a scene.
func (s *show) title(title, command, explanation string) {
	s.scene++
	if s.json {
		// A scene that cannot be told is told by what happens in it.
		_ = s.screen.Record(map[string]any{"scene": s.scene, "title": title, "command": command})
		return
	}
	s.screen.Line("")
	s.screen.Line("%s  %s", screen.Cell{Text: fmt.Sprintf("%d. %s", s.scene, title), Tone: screen.Strong}, screen.Cell{Text: command, Tone: screen.Dim})
	if explanation != "" {
		s.screen.Line("   %s", explanation)
	}
}

func (s *show) say(format string, args ...any) { s.screen.Line("   "+format, args...) }

func (s *show) tables() string { return filepath.Join(s.dir, "tables") }

func (s *show) path(table string) string { return filepath.Join(s.tables(), table+".db") }

func (s *show) prepare(ctx context.Context) (err error) {
	if !s.json {
		s.screen.Line("Four tables (a table is one SQLite file), a folder as the bucket, and another process that writes to %s all the time.", busy)
	}
	if err := os.Mkdir(s.tables(), 0o755); err != nil {
		return err
	}
	if err := makeDemoTables(ctx, s.path); err != nil {
		return err
	}
	if s.writer, err = startWriter(ctx, s.path(busy), s.stderr); err != nil {
		return err
	}
	cfg := settings.Config{
		Tables: []settings.Source{{Path: s.tables()}}, Bucket: "file://" + filepath.ToSlash(filepath.Join(s.dir, "backups")),
		State: filepath.Join(s.dir, "state"), Log: settings.Log{Format: "text", Level: "warn"},
	}
	fleet, err := s.fleetOf(ctx, cfg, s.logger(cfg, false))
	if err != nil {
		return err
	}
	s.house, err = s.openHouse(ctx, fleet, houseOptions{})
	return err
}

func (s *show) look(ctx context.Context) error {
	s.title("What is there", "tablekeeper status", victim+" is mostly free pages: rows were deleted, and SQLite keeps the space.")
	report, err := s.house.status(ctx, nil, s.now())
	if err != nil {
		return err
	}
	if s.json {
		return s.screen.Record(report) // one of many lines
	}
	return s.showStatus(report)
}

func (s *show) compact(ctx context.Context) error {
	s.title("Give the free pages back", "tablekeeper compact --all", "Only where more than 10 % is free, and only if nobody has to wait for more than a second.")
	return s.run(ctx, "compact", `{"tables":["*"]}`)
}

func (s *show) backup(ctx context.Context) error {
	s.title("Back up", "tablekeeper backup --all", "Checked and read in one transaction, compressed, stored; a damaged table would not become a backup.")
	return s.run(ctx, "backup", `{"tables":["*"]}`)
}

func (s *show) prove(ctx context.Context) error {
	s.title("Prove that the backups restore", "tablekeeper verify --all", "Each one is restored into a scratch file, checked, and every row is read. Only now may older backups go.")
	return s.run(ctx, "verify", `{"tables":["*"]}`)
}

// run has a function run and shows how it went. Anything but success ends the demo.
func (s *show) run(ctx context.Context, function, event string) error {
	run, err := s.house.runner.Invoke(ctx, jobs.Invocation{Function: function, Event: json.RawMessage(event), Trigger: jobs.TriggerCLI, Actor: "demo"})
	if err != nil {
		return err
	}
	columns := columnsOf(run.Entries)
	for _, e := range run.Entries {
		if s.json {
			if err := s.screen.Record(e); err != nil {
				return err
			}
		}
		view := readEntry(e)
		status, name := columns.fill(screen.Status(view.Status), view.name())
		s.screen.Line("   %s%s%s", status, name, view.sentence())
	}
	if run.Status != history.Succeeded {
		return fmt.Errorf("%s: %s", function, run.Error)
	}
	return nil
}

func (s *show) disaster(ctx context.Context) (err error) {
	s.title("Disaster", "rm "+victim+".db*", "")
	if s.before, err = takeFingerprint(ctx, s.path(victim)); err != nil {
		return err
	}
	for _, ending := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(s.path(victim) + ending); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	s.say("%s is gone, with its %s.", victim, screen.Count(int(s.before.rows), "row"))
	return nil
}

func (s *show) restore(ctx context.Context) error {
	s.title("Bring it back", "tablekeeper restore "+victim+" --in-place --yes", "")
	if err := s.run(ctx, "restore", `{"table":"`+victim+`","in_place":true}`); err != nil {
		return err
	}
	after, err := takeFingerprint(ctx, s.path(victim))
	if err != nil {
		return err
	}
	if after != s.before {
		return fmt.Errorf("%s differs from what it was: %d rows, %d before", victim, after.rows, s.before.rows)
	}
	s.say("Every row is what it was: the same sha256 over all %s.", screen.Number(after.rows))
	return nil
}

// reckon stops the writer and looks whether anything that it was told is stored is missing.
func (s *show) reckon(ctx context.Context) error {
	s.title("The reckoning", "PRAGMA integrity_check; SELECT count(*)", "")
	told, err := s.writer.stop()
	if err != nil {
		return err
	}
	found, err := countWrites(ctx, s.path(busy))
	if err != nil {
		return err
	}
	if found != told.Commits {
		return fmt.Errorf("the writer made %d commits, and %d are there", told.Commits, found)
	}
	s.say("All the while another process wrote to %s: %s, of which %s are there. The longest waited %s.",
		busy, screen.Count(int(told.Commits), "commit"), screen.Number(found), screen.Span(time.Duration(told.LongestMS)*time.Millisecond))
	for _, table := range demoTables {
		if err := checkIntegrity(ctx, s.path(table)); err != nil {
			return err
		}
	}
	s.say("integrity_check says ok to all %d tables.", len(demoTables))
	return nil
}

// end stops what was started.
func (s *show) end(ctx context.Context) error {
	var errs []error
	if s.writer != nil {
		s.writer.kill()
	}
	if s.house != nil {
		errs = append(errs, s.house.Close(ctx))
	}
	return errors.Join(errs...)
}

func (s *show) bow(took time.Duration, keep bool) {
	if s.json {
		record := map[string]any{"status": "succeeded", "duration_ms": took.Milliseconds()}
		if keep {
			record["kept"] = s.dir
		}
		_ = s.screen.Record(record) // a reader that went away misses nothing else
		return
	}
	s.screen.Line("")
	s.screen.Line("%s That took %s.", screen.Cell{Text: "✓ Done.", Tone: screen.Good}, screen.Span(took))
	if !keep {
		s.screen.Line("Nothing is left of it. With your own tables: tablekeeper discover, tablekeeper init, tablekeeper serve.")
		return
	}
	s.screen.Line("It is all in %s. Try there:", s.dir)
	s.screen.Line("  cd %s && tablekeeper --tables tables --bucket backups --state state runs list", s.dir)
	s.screen.Line("  zstd -d backups/%s/*.zst -o plain.db && sqlite3 plain.db .tables      a backup is a plain SQLite file", victim)
}
