package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/cmd/tablekeeper/settings"
	"tablekeeper/storage/table"
)

func newCheck(p *program) *cobra.Command {
	var configOnly bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check configuration, tables and bucket before you rely on them",
		Long: `check reads the configuration and says where each value came from, looks at every table and at what in the folders is none,
and tries on each bucket what backups need: put, get, range, list, tags, conditional put, multipart upload, delete, and the clocks.`,
		Example: `  tablekeeper check
  tablekeeper check --config-only --quiet      for scripts and service managers`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := &checker{program: p, Checks: []finding{}}
			if err := c.all(cmd.Context(), configOnly); err != nil {
				return err
			}
			return c.show()
		},
	}
	cmd.Flags().BoolVar(&configOnly, "config-only", false, "only the configuration: touch neither tables nor bucket")
	return cmd
}

// finding is one thing that was checked. Level is ok, warning or failed.
type finding struct {
	Area   string `json:"area"`
	Name   string `json:"name"`
	Level  string `json:"level"`
	Detail string `json:"detail,omitempty"`
	Hint   string `json:"hint,omitempty"`
	TookMS int64  `json:"took_ms"`
}

// checker collects what was found.
type checker struct {
	*program `json:"-"`
	OK       bool      `json:"ok"`
	Checks   []finding `json:"checks"`
	worst    int
}

// add notes how something went; the first failure's exit status is the command's.
func (c *checker) add(area, name, detail string, err error, code int) {
	f := finding{Area: area, Name: name, Level: "ok", Detail: detail}
	if err != nil {
		known, hint := explain(err)
		if code == 0 {
			code = known
		}
		f.Level, f.Detail, f.Hint = "failed", err.Error(), hint
		if c.worst == 0 {
			c.worst = code
		}
	}
	c.Checks = append(c.Checks, f)
}

func (c *checker) warn(area, name, detail, hint string) {
	c.Checks = append(c.Checks, finding{Area: area, Name: name, Level: "warning", Detail: detail, Hint: hint})
}

// all checks everything. A configuration that cannot be read at all is the command's error.
func (c *checker) all(ctx context.Context, configOnly bool) error {
	cfg, err := c.configure()
	if err != nil {
		return err
	}
	c.configuration(cfg)
	if configOnly || len(cfg.Tables) == 0 {
		f := &fleet{cfg: cfg, log: c.logger(cfg, false)}
		if f.template, err = readTemplate(cfg); err == nil {
			_, err = f.readPlan()
		}
		_, keysErr := readKeys(cfg)
		_, sourcesErr := shelfSources(cfg)
		if err := errors.Join(err, keysErr, sourcesErr); err != nil || configOnly {
			return err
		}
		return usage("--tables FOLDER, or tablekeeper init", "no tables are configured")
	}
	f, err := c.fleetOf(ctx, cfg, c.logger(cfg, false))
	if err != nil {
		return err
	}
	if _, err := f.readPlan(); err != nil {
		return err
	}
	c.tables(ctx, f)
	c.state(ctx, f)
	c.buckets(ctx, f)
	return nil
}

func (c *checker) configuration(cfg settings.Config) {
	file := cfg.Path
	if file == "" {
		file = "no file; looked for " + strings.Join(settings.SearchPath(settings.LoadOptions{Getenv: os.LookupEnv}), ", ")
	}
	c.add("configuration", "file", file, nil, 0)
	var paths []string
	for _, t := range cfg.Tables {
		paths = append(paths, t.Path)
	}
	for _, v := range []struct{ key, value string }{
		{"tables", strings.Join(paths, ", ")}, {"bucket", addressOf(cfg.Bucket)}, {"second_bucket", addressOf(cfg.SecondBucket)},
		{"state", cfg.State}, {"template", cfg.Template},
	} {
		if v.value != "" {
			c.add("configuration", v.key, v.value+"  ("+cfg.Origin(v.key)+")", nil, 0)
		}
	}
	c.variables()
}

// variables warns of misspelt ones, which would be passed over silently.
func (c *checker) variables() {
	known := []string{"TABLEKEEPER_CONFIG", "TABLEKEEPER_JSON", "TABLEKEEPER_QUIET"}
	for _, name := range settings.Variables() {
		known = append(known, name)
	}
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "TABLEKEEPER_") || slices.Contains(known, name) {
			continue
		}
		if near := settings.Nearest(name, known); near != "" {
			c.warn("configuration", name, "this variable means nothing", "did you mean "+near+"?")
		}
	}
}

func (c *checker) tables(ctx context.Context, f *fleet) {
	var bytes int64
	tables := f.shelf.Tables()
	for _, t := range tables {
		if t.Missing {
			c.add("tables", t.Name, "", fail(exitUnhealthy, "tablekeeper restore "+t.Name+" --in-place", "%s is gone", t.Path), 0)
			continue
		}
		stats, err := table.Stat(ctx, t.Path)
		if err != nil {
			c.add("tables", t.Name, "", err, exitUnhealthy)
			continue
		}
		bytes += stats.Bytes
	}
	c.add("tables", "found", screen.Count(len(tables), "table")+", "+screen.Bytes(bytes), nil, 0)
	for _, problem := range f.problems {
		if problem.Ignorable() {
			continue
		}
		c.warn("tables", problem.Path, strings.ReplaceAll(string(problem.Reason), "_", " ")+": "+problem.Detail, problem.Hint)
	}
}

func (c *checker) state(ctx context.Context, f *fleet) {
	s, err := findService(ctx, f.cfg.State)
	switch {
	case err != nil:
		c.add("service", "serve", "", err, 0)
	case s == nil:
		c.warn("service", "serve", "not running, so nothing happens by schedule", "tablekeeper serve, or docs/tablekeeper.service")
	default:
		c.add("service", "serve", fmt.Sprintf("running since %s (pid %d)", s.Started.Local().Format(time.DateTime), s.PID), nil, 0)
	}
}

func (c *checker) buckets(ctx context.Context, f *fleet) {
	if f.cfg.Bucket == "" {
		c.add("bucket", "address", "", needBucket(f.cfg), exitUsage)
		return
	}
	c.bucket(ctx, f, "bucket", f.cfg.Bucket)
	if f.cfg.SecondBucket != "" {
		c.bucket(ctx, f, "second bucket", f.cfg.SecondBucket)
	}
}

func (c *checker) bucket(ctx context.Context, f *fleet, area, address string) {
	s, err := openStore(ctx, f, address)
	if err != nil {
		c.add(area, "open", "", err, 0)
		return
	}
	progress := c.screen.Progress(c.now)
	progress.Show("probing "+s.Address, 0, 0)
	probe := newProbe(s.Raw, c.now)
	if !strings.HasPrefix(s.Address, "file:") {
		probe.large = probeParts
	}
	steps := probe.run(ctx)
	progress.Done()
	for _, step := range steps {
		c.add(area, step.Name, screen.Span(step.Took), step.Err, 0)
		c.Checks[len(c.Checks)-1].TookMS = step.Took.Milliseconds()
	}
}

func (c *checker) show() error {
	c.OK = c.worst == 0
	if c.json {
		if err := c.screen.Document(c); err != nil {
			return err
		}
		return exitWith(c.worst)
	}
	warnings := 0
	for _, f := range c.Checks {
		if c.quiet && f.Level == "ok" {
			continue
		}
		if f.Level == "warning" {
			warnings++
		}
		c.screen.Line("%s  %s %s: %s", mark(f.Level), f.Area, strings.ReplaceAll(f.Name, "\n", `\n`), f.Detail)
		if f.Hint != "" {
			c.screen.Line("   Try: %s", f.Hint)
		}
	}
	switch {
	case !c.OK || c.quiet:
	case warnings > 0:
		c.screen.Line("Everything that was tried works. Worth a look: %s above.", screen.Count(warnings, "remark"))
	default:
		c.screen.Line("Everything that was tried works.")
	}
	return exitWith(c.worst)
}

// mark is the symbol of a level; the words beside it say what is the matter.
func mark(level string) screen.Cell {
	switch level {
	case "failed":
		return screen.Cell{Text: "✗ failed", Tone: screen.Bad}
	case "warning":
		return screen.Cell{Text: "! look", Tone: screen.Careful}
	}
	return screen.Cell{Text: "✓ ok", Tone: screen.Good}
}
