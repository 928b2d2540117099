// Command tablekeeper keeps a fleet of SQLite files healthy: it compacts them, backs them up, proves that the backups
// restore, and restores them; by schedule (serve) or at once. See docs/cli.md and docs/configuration.md.
//
// This package is the wiring: flags, configuration, output and exit statuses. What is done to a table is in functions/, when and how often in jobs/.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// gcPercent trades a percent of CPU for a third of the memory: most of what a backup allocates lives for one page.
const gcPercent = 50

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		// A second signal ends the process at once: whoever asks twice does not want to wait.
		<-ctx.Done()
		stop()
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the program without its process: it returns the exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := newProgram(stdin, stdout, stderr)
	root := newRoot(p)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	return p.finish(ctx, cmd, err)
}
