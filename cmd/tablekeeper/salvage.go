package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/storage/salvage"
	"tablekeeper/storage/table"
)

func newSalvage(p *program) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "salvage TABLE|FILE -o FILE",
		Short: "Read what can still be read of a damaged table into a new file",
		Long: `salvage reads the pages of a damaged table, or of a file from quarantine, without SQLite, with what is in its write-ahead log, and writes
the rows it finds into a new file. It counts what could not be read. The damaged file is only read.

The result is for you to look at: rows may come back that had been deleted, and some may be garbled. It is never put in place by
itself. Rows that no SQL table leads to are in the SQL table lost_and_found.`,
		Example: `  tablekeeper salvage orders -o orders-salvaged.db
  tablekeeper salvage ./data/.tablekeeper/quarantine/orders.db/20261122T100000.000Z-corrupt/orders.db -o old.db`,
		Args:              one("TABLE or FILE"),
		ValidArgsFunction: p.completeTables,
		RunE: func(cmd *cobra.Command, args []string) error {
			if output == "" {
				return usage(cmd.CommandPath()+" "+args[0]+" -o FILE", "name the new file")
			}
			return p.salvage(cmd.Context(), args[0], output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "new `FILE`, which must not exist")
	return cmd
}

// salvaged is the report as --json shows it.
type salvaged struct {
	Source string `json:"source"`
	Output string `json:"output"`
	salvage.Report
}

func (p *program) salvage(ctx context.Context, what, output string) error {
	source, err := p.salvageSource(ctx, what)
	if err != nil {
		return err
	}
	if output, err = filepath.Abs(output); err != nil {
		return fmt.Errorf("find %s: %w", output, err)
	}
	pages, err := table.OpenRaw(source)
	if err != nil {
		return err
	}
	progress := p.screen.Progress(p.now)
	report, err := salvage.File(ctx, pages, output, salvage.Options{
		Progress: func(done, total int64) { progress.Show("salvage "+filepath.Base(source), done, total) },
	})
	progress.Done()
	err = errors.Join(err, pages.Close())
	switch {
	case errors.Is(err, fs.ErrExist):
		return fail(exitUsage, "name a file that does not exist", "%w", err)
	case errors.Is(err, salvage.ErrNothing):
		return fail(exitCorrupt, "restore a backup: tablekeeper restore TABLE", "%w", err)
	case err != nil:
		return err
	}
	return p.showSalvaged(salvaged{Source: source, Output: output, Report: report})
}

// salvageSource is the file to read: what is named is a table, or a file.
func (p *program) salvageSource(ctx context.Context, what string) (string, error) {
	if info, err := os.Stat(what); err == nil && info.Mode().IsRegular() {
		return filepath.Abs(what)
	}
	f, err := p.openFleet(ctx, false)
	if err != nil {
		return "", err
	}
	t, err := f.shelf.Get(what)
	if err != nil {
		return "", err
	}
	return t.Path, nil
}

func (p *program) showSalvaged(s salvaged) error {
	if p.json {
		return p.screen.Record(s)
	}
	var rows int64
	for _, t := range s.Tables {
		rows += t.Rows
		p.screen.Line("  %s  %s; unreadable: %s, %s", t.Name, screen.Count(int(t.Rows), "row"), screen.Count(int(t.PagesLost), "page"), screen.Count(int(t.CellsLost), "row"))
	}
	p.screen.Line("%s salvaged into %s. Of %s, %s could not be read, and %s besides.", screen.Count(int(rows), "row"), s.Output,
		screen.Count(int(s.Pages), "page"), screen.Number(s.PagesLost), screen.Count(int(s.CellsLost), "row"))
	if s.LostAndFound > 0 {
		p.screen.Line("%s that no SQL table leads to: lost_and_found.", screen.Count(int(s.LostAndFound), "row"))
	}
	for _, problem := range s.Problems {
		p.screen.Note("Note: %s", problem)
	}
	p.screen.Note("Look at it before you use it: rows may be old, deleted or garbled.")
	return nil
}
