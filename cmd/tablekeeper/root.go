package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/cmd/tablekeeper/settings"
)

// program is one run of the command: its streams, its flags, and what was made of them.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	now            func() time.Time

	flags       settings.Flags
	away        elsewhere
	json, quiet bool
	started     bool // the arguments were in order, so what fails from here on is no usage error
	screen      *screen.Screen
}

func newProgram(stdin io.Reader, stdout, stderr io.Writer) *program {
	return &program{
		stdin: stdin, stdout: stdout, stderr: stderr, now: time.Now,
		screen: screen.New(stdin, stdout, stderr, screen.Options{}),
	}
}

func newRoot(p *program) *cobra.Command {
	root := &cobra.Command{
		Use:   "tablekeeper",
		Short: "Keep SQLite files healthy: compact, back up, prove, restore",
		Long: `tablekeeper keeps a fleet of SQLite files healthy. It compacts them without stopping their users, backs
them up to a directory or to S3-compatible storage, proves that each backup restores, and restores them.

A table is one SQLite file. Its name is the file's base name without the ending. Tables come from folders,
globs and paths: --tables, TABLEKEEPER_TABLES, or tables: in tablekeeper.yaml.`,
		Example: `  tablekeeper demo                                         see it all in half a minute
  tablekeeper --tables ./data --bucket ./backups backup --all
  tablekeeper --tables ./data --bucket ./backups restore orders --in-place
  tablekeeper init && tablekeeper serve                    as a service`,
		Args:              knownCommand,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return errors.Join(p.begin(), p.checkElsewhere(cmd)) },
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	root.SuggestionsMinimumDistance = 2
	p.commonFlags(root)
	root.AddGroup(
		&cobra.Group{ID: "start", Title: "Start:"},
		&cobra.Group{ID: "work", Title: "Work on tables:"},
		&cobra.Group{ID: "look", Title: "Look:"},
	)
	addCommands(root, "start", newDemo(p), newInit(p), newDiscover(p), newServe(p), newCheck(p), newProvision(p))
	addCommands(root, "work", newCompact(p), newConvert(p), newBackup(p), newVerify(p), newRestore(p), newRecover(p), newSalvage(p), newInvoke(p))
	addCommands(root, "look", newStatus(p), newBackups(p), newJobs(p), newRuns(p), newNotify(p), newToken(p), newVersion(p))
	root.AddCommand(newDemoWriter(p))
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Args = knownTopic
	}
	return root
}

// knownCommand refuses what is no command, with the one that was probably meant.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usage(fmt.Sprintf("%s %s", cmd.CommandPath(), near[0]), "unknown command %q", args[0])
	}
	return usage(cmd.CommandPath()+" --help", "unknown command %q", args[0])
}

// one wants one argument, whose name in the usage is what.
func one(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return usage(cmd.CommandPath()+" --help", "which %s?", what)
		case 1:
			return nil
		}
		return usage(cmd.CommandPath()+" --help", "one %s at a time, not %d", what, len(args))
	}
}

// knownTopic refuses help on what is no command.
func knownTopic(cmd *cobra.Command, args []string) error {
	about, rest, err := cmd.Root().Find(args)
	if err != nil || len(rest) == 0 {
		return err
	}
	return knownCommand(about, rest)
}

func addCommands(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, c := range commands {
		c.GroupID = group
		root.AddCommand(c)
	}
}

func (p *program) commonFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVarP(&p.flags.Config, "config", "c", "", "configuration `FILE` (default ./tablekeeper.yaml, then ~/.config/tablekeeper/, /etc/tablekeeper/)")
	f.StringArrayVarP(&p.flags.Tables, "tables", "t", nil, "`DIR`, glob or path of tables; may be given again")
	f.StringVarP(&p.flags.Bucket, "bucket", "b", "", "`URL` of the backups: a folder, file:///path, s3://bucket/prefix?endpoint=URL or aws://bucket/prefix")
	f.StringVar(&p.flags.SecondBucket, "second-bucket", "", "`URL` of a second bucket, to restore from when the first has no good backup")
	f.StringVar(&p.flags.State, "state", "", "`DIR` of the history (default .tablekeeper in the first folder of tables)")
	f.StringVar(&p.flags.Template, "template", "", "SAM template `FILE` to use instead of the built-in one")
	f.StringVar(&p.flags.Listen, "listen", "", "`HOST:PORT` of the dashboard and the API of serve (default 127.0.0.1:8420), or off")
	f.StringVar(&p.flags.LogFormat, "log-format", "", "`FORMAT` of the log: text or json")
	f.StringVar(&p.flags.LogLevel, "log-level", "", "`LEVEL` of the log: debug, info, warn or error")
	f.BoolVar(&p.json, "json", false, "results as JSON; JSON Lines where a command works on many tables")
	f.BoolVarP(&p.quiet, "quiet", "q", false, "say only what went wrong")
	p.away.flags(root)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd.CommandPath()+" --help", "%v", err) })
}

// begin runs once the arguments are in order.
func (p *program) begin() error {
	p.started = true
	for name, to := range map[string]*bool{"TABLEKEEPER_JSON": &p.json, "TABLEKEEPER_QUIET": &p.quiet} {
		if v := strings.ToLower(os.Getenv(name)); v == "1" || v == "true" || v == "yes" {
			*to = true
		}
	}
	p.screen = screen.New(p.stdin, p.stdout, p.stderr, screen.Options{JSON: p.json, Quiet: p.quiet})
	return nil
}

func (p *program) configure() (settings.Config, error) {
	return settings.Load(settings.LoadOptions{Flags: p.flags})
}

// logger is for the service and for commands that do the work themselves. One-shot commands show results, so their log begins at warnings.
func (p *program) logger(cfg settings.Config, service bool) *slog.Logger {
	level := slog.LevelInfo
	// The words were checked when the configuration was loaded.
	_ = level.UnmarshalText([]byte(cfg.Log.Level))
	if !service && cfg.Origin("log.level") == "default" {
		level = slog.LevelWarn
	}
	if p.quiet {
		level = max(level, slog.LevelError)
	}
	if cfg.Log.Format == "json" || p.json {
		return slog.New(slog.NewJSONHandler(p.screen.Log(), &slog.HandlerOptions{Level: level}))
	}
	return slog.New(tint.NewTextHandler(p.screen.Log(), &tint.Options{
		Level: level, NoColor: !p.screen.ColorLog(), TimeFormat: time.DateTime,
	}))
}

// finish tells of the error, once, and turns it into the exit status.
func (p *program) finish(ctx context.Context, cmd *cobra.Command, err error) int {
	if err == nil {
		return exitDone
	}
	var silent *outcome
	if errors.As(err, &silent) {
		return silent.code
	}
	code, hint := explain(err)
	if !p.started && code == exitFailed {
		code, hint = exitUsage, cmd.CommandPath()+" --help"
	}
	if ctx.Err() != nil && (code != exitCancelled || hint == "") {
		code, hint = exitCancelled, "run it again: what was done is kept"
	}
	p.complain(err, code, hint)
	return code
}

// complaint is an error as --json shows it, on standard error.
type complaint struct {
	Error      string `json:"error"`
	Hint       string `json:"hint,omitempty"`
	ExitStatus int    `json:"exit_status"`
}

func (p *program) complain(err error, code int, hint string) {
	if p.json {
		_ = screen.New(nil, p.stderr, p.stderr, screen.Options{JSON: true}).Record(complaint{err.Error(), hint, code})
		return
	}
	p.screen.Warn("%s %s", screen.Cell{Text: "tablekeeper:", Tone: screen.Bad}, err)
	if hint != "" {
		p.screen.Warn("Try: %s", hint)
	}
}
