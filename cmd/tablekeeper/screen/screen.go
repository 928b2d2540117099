// Package screen shows results to people and to programs: tables, lines, a progress line, JSON and JSON Lines.
//
// Results go to standard output, everything else to standard error. Colour and progress appear only on a terminal, and
// a status is always a symbol and a word, too. Text that came from outside (file names, SQLite's messages) is cleaned of control
// characters before it reaches a terminal. What is shown, and in which words, is left to the commands.
package screen

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/mattn/go-isatty"
)

// Screen is where a command shows what it found. It is safe for concurrent use.
type Screen struct {
	// JSON asks for JSON documents and JSON Lines instead of words. Quiet leaves out notes, progress and what went well.
	JSON, Quiet bool
	// Interactive says that a person can answer questions: input and error output are terminals.
	Interactive bool

	mu       sync.Mutex
	out, err io.Writer
	colorOut bool
	colorErr bool
	live     bool // standard error is a terminal, so a line may be rewritten
	dirty    bool // a progress line stands there
}

// Options are the circumstances a Screen adapts to. Zero fields mean: neither JSON nor quiet, the process's environment.
type Options struct {
	JSON, Quiet bool
	Getenv      func(string) (string, bool)
}

// New returns a Screen for the three streams of a process; in may be nil. NO_COLOR (set and not empty) and TERM=dumb switch colour off.
func New(in io.Reader, out, err io.Writer, opts Options) *Screen {
	if opts.Getenv == nil {
		opts.Getenv = os.LookupEnv
	}
	noColor, _ := opts.Getenv("NO_COLOR")
	term, _ := opts.Getenv("TERM")
	plain := noColor != "" || term == "dumb"
	return &Screen{
		JSON: opts.JSON, Quiet: opts.Quiet, out: out, err: err,
		Interactive: isTerminal(in) && isTerminal(err),
		colorOut:    !plain && isTerminal(out),
		colorErr:    !plain && isTerminal(err),
		live:        isTerminal(err) && term != "dumb" && !opts.Quiet && !opts.JSON,
	}
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && (isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd()))
}

// Line writes one line of result for people. String, error and Stringer arguments are cleaned. With JSON it writes nothing.
func (s *Screen) Line(format string, args ...any) {
	if s.JSON {
		return
	}
	s.write(s.out, sprintf(s.colorOut, format, args))
}

// Note writes one line to standard error, for people only: neither with Quiet nor with JSON.
func (s *Screen) Note(format string, args ...any) {
	if s.JSON || s.Quiet {
		return
	}
	s.Warn(format, args...)
}

// Warn writes one line to standard error, always.
func (s *Screen) Warn(format string, args ...any) {
	s.write(s.err, sprintf(s.colorErr, format, args))
}

// Document writes v as one indented JSON document.
func (s *Screen) Document(v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	s.write(s.out, string(data))
	return nil
}

// Record writes v as one line of JSON.
func (s *Screen) Record(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	s.write(s.out, string(data))
	return nil
}

func (s *Screen) write(w io.Writer, line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eraseLocked()
	// A reader that went away (a closed pipe) is not our failure, and there is nobody left to tell.
	_, _ = io.WriteString(w, line+"\n")
}

// Writer is standard output itself, for text that others render; Log is standard error for log lines, kept clear of the progress line.
func (s *Screen) Writer() io.Writer { return s.out }

// Log returns a writer of whole lines to standard error.
func (s *Screen) Log() io.Writer { return logWriter{s} }

type logWriter struct{ s *Screen }

func (l logWriter) Write(p []byte) (int, error) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.s.eraseLocked()
	return l.s.err.Write(p)
}

// ColorLog says whether log lines may be coloured.
func (s *Screen) ColorLog() bool { return s.colorErr }
