package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"tablekeeper"
	"tablekeeper/cmd/tablekeeper/settings"
	"tablekeeper/functions"
	"tablekeeper/jobs/template"
	"tablekeeper/storage/shelf"
)

// fleet is the tables and what the template says of them: all that a look at the local disk needs.
type fleet struct {
	cfg      settings.Config
	log      *slog.Logger
	template *template.Template
	shelf    *shelf.Shelf
	problems []shelf.Problem
}

// openFleet reads configuration and template and looks for the tables.
func (p *program) openFleet(ctx context.Context, service bool) (*fleet, error) {
	cfg, err := p.configure()
	if err != nil {
		return nil, err
	}
	if service && len(cfg.Tables) > 0 && cfg.Stores != settings.Off {
		if err := os.MkdirAll(cfg.Stores, 0o700); err != nil {
			return nil, fmt.Errorf("make the folder of the stores: %w", err)
		}
	}
	return p.fleetOf(ctx, cfg, p.logger(cfg, service))
}

func (p *program) fleetOf(ctx context.Context, cfg settings.Config, log *slog.Logger) (*fleet, error) {
	if len(cfg.Tables) == 0 {
		return nil, usage("--tables FOLDER, or tablekeeper init", "no tables are configured")
	}
	f := &fleet{cfg: cfg, log: log}
	var err error
	if f.template, err = readTemplate(cfg); err != nil {
		return nil, err
	}
	defaults, err := templateSettings(f.template, p.now())
	if err != nil {
		return nil, err
	}
	sources, err := shelfSources(cfg)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(cfg.Stores); err == nil && info.IsDir() && cfg.Stores != settings.Off {
		sources = append(sources, shelf.Source{Path: cfg.Stores})
	}
	if f.shelf, err = shelf.Open(sources, shelf.Options{Defaults: defaults, Now: p.now, Logger: log}); err != nil {
		return nil, usage("correct "+cfg.Origin("tables"), "%w", err)
	}
	if f.problems, err = f.shelf.Refresh(ctx); err != nil {
		return nil, err
	}
	return f, f.noTables()
}

// noTables is the error for a configuration that finds nothing at all, which is likely a wrong path.
func (f *fleet) noTables() error {
	if len(f.shelf.Tables()) > 0 {
		return nil
	}
	for _, problem := range f.problems {
		if !problem.Ignorable() {
			return fail(exitNotFound, problem.Hint, "no tables: %s", problem)
		}
	}
	return nil
}

// readTemplate reads the user's template, or the built-in one, with the configured parameters.
func readTemplate(cfg settings.Config) (*template.Template, error) {
	name, text := "template.yaml (built in)", tablekeeper.Template
	if cfg.Template != "" {
		var err error
		if name, text, err = readTemplateFile(cfg.Template); err != nil {
			return nil, err
		}
	}
	parameters := make(map[string]string, len(cfg.Parameters))
	for key, value := range cfg.Parameters {
		parameters[key] = string(value)
	}
	t, err := template.Read(name, text, parameters)
	var wrong *template.Error
	if errors.As(err, &wrong) {
		return nil, usage(wrong.Hint(), "%w", err)
	}
	return t, err
}

func readTemplateFile(path string) (name string, text []byte, err error) {
	info, err := os.Stat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > template.MaxSize) {
		return "", nil, usage("--template FILE", "template %s: not a file of at most %d bytes", path, template.MaxSize)
	}
	if err == nil {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return "", nil, usage("--template FILE", "read the template: %w", err)
	}
	return path, text, nil
}

// defaultThreshold is the share of free pages above which a table is compacted, where no template says otherwise.
const defaultThreshold = 0.10

// templateSettings are the settings that the template's parameters give every table. A template of the user's own need not have them.
func templateSettings(t *template.Template, now time.Time) (shelf.Settings, error) {
	var s shelf.Settings
	var err error
	if _, ok := t.Parameter("CompactThreshold"); ok {
		if s.Threshold, err = t.Number("CompactThreshold"); err != nil {
			return s, usage("", "%w", err)
		}
	}
	if _, ok := t.Parameter("CompactMaxPause"); ok {
		if s.MaxPause, err = t.Duration("CompactMaxPause"); err != nil {
			return s, usage("", "%w", err)
		}
	}
	if s.RPO, err = t.RPO(now); err != nil {
		return s, usage("", "%w", err)
	}
	return s, nil
}

func shelfSources(cfg settings.Config) ([]shelf.Source, error) {
	sources := make([]shelf.Source, len(cfg.Tables))
	for i, t := range cfg.Tables {
		sources[i] = shelf.Source{Path: t.Path, Name: t.Name, Settings: shelf.Settings{
			Threshold: float64(t.Threshold), MaxPause: time.Duration(t.MaxPause), RPO: time.Duration(t.RPO), Schedules: t.Schedules,
		}}
		for _, text := range t.Windows {
			w, err := shelf.ParseWindow(text)
			if err != nil {
				return nil, usage("", "%s: tables %s: %w", cfg.Origin("tables"), t.Path, err)
			}
			sources[i].Settings.Windows = append(sources[i].Settings.Windows, w)
		}
	}
	return sources, nil
}

// resume settles what a process that died left behind. What cannot be settled is told, and does not keep the other tables from being
// worked on.
func (f *fleet) resume(ctx context.Context) {
	settled, err := functions.ResumeAll(ctx, f.shelf.Tables())
	for _, r := range settled {
		f.log.Warn("interrupted work was found", "table", r.Table, "action", r.Action, "detail", r.Detail)
	}
	if err != nil {
		f.log.Error("interrupted work was not settled", "error", err)
	}
}

// stateFolder makes the state folder.
func (f *fleet) stateFolder() (string, error) {
	if err := os.MkdirAll(f.cfg.State, 0o700); err != nil {
		return "", fmt.Errorf("make the state folder: %w", err)
	}
	return f.cfg.State, nil
}
