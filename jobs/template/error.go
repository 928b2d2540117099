package template

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/token"
)

// Error says where in a template something is wrong, with the lines around it.
type Error struct {
	File    string
	Line    int // from 1; 0 if it is not about a line
	Column  int
	Problem string
	Excerpt string
	Try     string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Problem
	}
	return fmt.Sprintf("%s:%d:%d: %s\n%s", e.File, e.Line, e.Column, e.Problem, e.Excerpt)
}

// Hint is what to do about it, or "".
func (e *Error) Hint() string { return e.Try }

// Permanent: the template must change first.
func (e *Error) Permanent() bool { return true }

// source is the text of a template, for excerpts.
type source struct {
	file  string
	lines []string
}

func newSource(file string, text []byte) *source {
	return &source{file: file, lines: strings.Split(string(text), "\n")}
}

func (s *source) errorAt(tk *token.Token, problem, try string) *Error {
	e := &Error{File: s.file, Problem: problem, Try: try}
	if tk != nil && tk.Position != nil {
		e.Line, e.Column = tk.Position.Line, tk.Position.Column
		e.Excerpt = s.excerpt(e.Line, e.Column)
	}
	return e
}

func (s *source) excerpt(line, column int) string {
	var b strings.Builder
	for n := max(1, line-1); n <= min(len(s.lines), line+1); n++ {
		mark := "  "
		if n == line {
			mark = "> "
		}
		fmt.Fprintf(&b, "%s%4d | %s\n", mark, n, strings.TrimRight(s.lines[n-1], "\r"))
		if n == line {
			fmt.Fprintf(&b, "       | %s^\n", strings.Repeat(" ", max(0, column-1)))
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

func (s *source) syntax(err error) error {
	if y, ok := errors.AsType[yaml.Error](err); ok {
		return s.errorAt(y.GetToken(), y.GetMessage(), "")
	}
	return &Error{File: s.file, Problem: err.Error()}
}
