package screen

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Tone is how good or bad a piece of text is; on a terminal it becomes a colour.
type Tone int

// The tones. Plain has no colour.
const (
	Plain Tone = iota
	Good
	Dim
	Careful
	Bad
	Strong
)

// Cell is a piece of text with a tone.
type Cell struct {
	Text string
	Tone Tone
}

// Text is a cell without a tone, formatted from args.
func Text(format string, args ...any) Cell { return Cell{Text: fmt.Sprintf(format, args...)} }

var escapes = map[Tone]string{Good: "32", Dim: "2", Careful: "33", Bad: "31", Strong: "1"}

func (c Cell) render(color bool) string {
	text := Clean(c.Text)
	if code, ok := escapes[c.Tone]; ok && color {
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	return text
}

// Status shows a status word with its symbol and tone: ✓ done, – nothing to do, ! needs a look, ✗ failed.
func Status(word string) Cell {
	symbol, tone := "·", Plain
	switch word {
	case "compacted", "backed_up", "verified", "restored", "repaired", "swept", "succeeded", "complete", "healthy", "ok", "proved":
		symbol, tone = "✓", Good
	case "skipped", "paused", "unchanged", "superseded", "dry_run", "canceled", "cancelled":
		symbol, tone = "–", Dim
	case "degraded", "suspect", "recovering", "overdue", "unproved", "partial", "lost", "none":
		symbol, tone = "!", Careful
	case "failed", "corrupt", "timed_out", "error":
		symbol, tone = "✗", Bad
	case "running", "queued", "pending":
		symbol, tone = "…", Plain
	}
	return Cell{Text: symbol + " " + strings.ReplaceAll(word, "_", " "), Tone: tone}
}

// Clean makes text from outside safe to show: control and other unprintable characters become escapes, so that a file
// name cannot move the cursor or hide a line. Line breaks and tabs stay.
func Clean(s string) string {
	if strings.IndexFunc(s, unsafe) < 0 {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		if r == unicode.ReplacementChar && !strings.HasPrefix(s[i:], "\uFFFD") {
			fmt.Fprintf(&b, `\x%02x`, s[i])
		} else if unsafe(r) {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unsafe(r rune) bool {
	return r != '\n' && r != '\t' && (r == unicode.ReplacementChar || !unicode.IsPrint(r))
}

// sprintf formats args after cleaning those that may carry text from outside.
func sprintf(color bool, format string, args []any) string {
	safe := make([]any, len(args))
	for i, arg := range args {
		switch v := arg.(type) {
		case Cell:
			safe[i] = v.render(color)
		case string:
			safe[i] = Clean(v)
		case error:
			safe[i] = Clean(v.Error())
		case fmt.Stringer:
			safe[i] = Clean(v.String())
		default:
			safe[i] = arg
		}
	}
	return fmt.Sprintf(format, safe...)
}
