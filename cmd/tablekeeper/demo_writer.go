package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"
)

// writer is the other process of the demo: a program that has a table open and writes to it, knowing nothing of tablekeeper.
type writer struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
	done  bool
}

// told is what the writer says at its end.
type told struct {
	Commits   int64 `json:"commits"`
	LongestMS int64 `json:"longest_ms"`
}

// startWriter starts this very program again, as a writer, and waits for its first commit.
func startWriter(ctx context.Context, path string, stderr io.Writer) (*writer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	w := &writer{cmd: exec.CommandContext(ctx, self, "demo-writer", path)}
	w.cmd.Stderr = stderr
	w.stdin, err = w.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.out = bufio.NewReader(out)
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the writer: %w", err)
	}
	if _, err := w.out.ReadString('\n'); err != nil {
		w.kill()
		return nil, fmt.Errorf("the writer did not begin: %w", err)
	}
	return w, nil
}

// stop ends the writer by closing its input, and hears what it did.
func (w *writer) stop() (t told, err error) {
	w.done = true
	if err := w.stdin.Close(); err != nil {
		return t, fmt.Errorf("stop the writer: %w", err)
	}
	line, err := w.out.ReadString('\n')
	if waitErr := w.cmd.Wait(); waitErr != nil {
		return t, fmt.Errorf("the writer: %w", waitErr)
	}
	if err == nil {
		err = json.Unmarshal([]byte(line), &t)
	}
	if err != nil {
		return t, fmt.Errorf("hear the writer out: %w", err)
	}
	return t, nil
}

// kill ends it if stop has not.
func (w *writer) kill() {
	if !w.done {
		w.done = true
		_ = w.cmd.Process.Kill() // it may have ended by itself
		_ = w.cmd.Wait()
	}
}

// newDemoWriter is the command that the other process runs.
func newDemoWriter(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "demo-writer FILE", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return p.writeUntilTold(cmd.Context(), args[0]) },
	}
}

// pace is the time between two commits of the writer.
const pace = 2 * time.Millisecond

// writeUntilTold commits row after row until standard input ends.
func (p *program) writeUntilTold(ctx context.Context, path string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, p.stdin) // its end is all that matters
		cancel()
	}()
	db, err := openSQL(path)
	if err != nil {
		return err
	}
	defer db.Close()
	var t told
	for tick := time.NewTicker(pace); ctx.Err() == nil; {
		start := time.Now()
		// Not ctx: a commit that was begun is finished, so that the count is exact.
		if _, err := db.ExecContext(context.WithoutCancel(ctx), "INSERT INTO live(at) VALUES (?)", start.UTC().Format(time.RFC3339Nano)); err != nil {
			return fmt.Errorf("write to %s: %w", path, err)
		}
		t.LongestMS = max(t.LongestMS, time.Since(start).Milliseconds())
		if t.Commits++; t.Commits == 1 {
			fmt.Fprintln(p.stdout, "writing")
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return json.NewEncoder(p.stdout).Encode(t)
}
