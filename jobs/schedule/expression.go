// Package schedule says when things run: it reads rate(), cron() and at() as EventBridge Scheduler means them, and
// drives jobs at those times with gocron, catching up once on what was missed.
//
// What a job does, and the record of it, is left to package jobs; where the expressions come from, to jobs/template.
package schedule

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // small containers and Windows have no time zones of their own
)

// Expression is a parsed schedule expression in its time zone. The zero Expression never fires.
type Expression struct {
	text   string
	loc    *time.Location
	every  time.Duration // rate
	anchor time.Time     // rate: slots are whole multiples of every away from it
	at     time.Time     // at
	cron   *cron
}

// ParseError says what is wrong with an expression and, often, what was meant.
type ParseError struct {
	Expression string
	Problem    string
	Try        string // the hint; "" if there is none
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("schedule expression %q: %s", e.Expression, e.Problem)
}

// Hint is what to do about it.
func (e *ParseError) Hint() string { return e.Try }

// Permanent: the same expression is wrong tomorrow too.
func (e *ParseError) Permanent() bool { return true }

// Parse reads `rate(5 minutes)`, `cron(0 3 * * ? *)` or `at(2027-01-31T03:00:00)` in a time zone (IANA name; "" is UTC).
// The grammar and its limits are those of docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html.
func Parse(text, timezone string) (Expression, error) {
	loc, err := zone(timezone)
	if err != nil {
		return Expression{}, &ParseError{Expression: text, Problem: "unknown time zone " + strconv.Quote(timezone),
			Try: "use an IANA name such as Europe/Berlin, or UTC"}
	}
	trimmed := strings.TrimSpace(text)
	kind, body, ok := strings.Cut(trimmed, "(")
	if !ok || !strings.HasSuffix(body, ")") {
		return Expression{}, &ParseError{Expression: text, Problem: "is not rate(...), cron(...) or at(...)", Try: guess(trimmed)}
	}
	body = strings.TrimSuffix(body, ")")
	x := Expression{text: trimmed, loc: loc}
	switch kind {
	case "rate":
		x.every, err = parseRate(body)
	case "at":
		x.at, err = parseAt(body, loc)
	case "cron":
		x.cron, err = parseCron(body)
	default:
		err = problem{"is not rate(...), cron(...) or at(...)", guess(trimmed)}
	}
	if p := (problem{}); errors.As(err, &p) {
		return Expression{}, &ParseError{Expression: text, Problem: p.what, Try: p.hint}
	}
	return x, nil
}

// problem is a parse error before it knows the whole expression.
type problem struct{ what, hint string }

func (p problem) Error() string { return p.what }

func zone(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	if name == "Local" {
		return nil, fmt.Errorf("time zone Local is not portable")
	}
	return time.LoadLocation(name)
}

func guess(text string) string {
	if n := len(strings.Fields(text)); n == 5 {
		return "EventBridge's cron has six fields, the last is the year: cron(" + questionMark(text) + " *)"
	} else if n == 2 {
		return "did you mean rate(" + text + ")?"
	}
	return "for example rate(6 hours) or cron(0 3 * * ? *)"
}

// questionMark turns the five fields of Unix cron into EventBridge's: one of the two day fields must be "?".
func questionMark(text string) string {
	f := strings.Fields(text)
	if f[4] == "*" {
		f[4] = "?"
	} else if f[2] == "*" {
		f[2] = "?"
	}
	return strings.Join(f, " ")
}

var units = map[string]time.Duration{"minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}

func parseRate(body string) (time.Duration, error) {
	f := strings.Fields(body)
	if len(f) != 2 {
		return 0, problem{"a rate is a number and a unit", "for example rate(6 hours)"}
	}
	n, err := strconv.ParseInt(f[0], 10, 64)
	if err != nil || n < 1 || strings.HasPrefix(f[0], "+") {
		return 0, problem{"the number of a rate is a whole number from 1", "for example rate(6 hours)"}
	}
	unit, known := units[strings.TrimSuffix(f[1], "s")]
	if !known {
		return 0, problem{fmt.Sprintf("unknown unit %q", f[1]), "units are minutes, hours and days; one is singular: rate(1 day)"}
	}
	if plural := strings.HasSuffix(f[1], "s"); plural == (n == 1) {
		singular := strings.TrimSuffix(f[1], "s")
		if n != 1 {
			singular += "s"
		}
		return 0, problem{"number and unit do not agree", fmt.Sprintf("write rate(%d %s)", n, singular)}
	}
	if n > int64(math.MaxInt64/unit)/2 {
		return 0, problem{"the rate is too long", ""}
	}
	return time.Duration(n) * unit, nil
}

func parseAt(body string, loc *time.Location) (time.Time, error) {
	const layout = "2006-01-02T15:04:05"
	t, err := time.ParseInLocation(layout, body, loc)
	if err != nil {
		return time.Time{}, problem{"a time looks like at(2027-01-31T03:00:00)", ""}
	}
	if t.Format(layout) != body {
		return time.Time{}, problem{"this time does not exist in " + loc.String() + ": clocks go forward over it", "choose a time an hour later"}
	}
	return t, nil
}

// String is the expression as written.
func (x Expression) String() string { return x.text }

// Location is the time zone in which the expression is read.
func (x Expression) Location() *time.Location { return x.loc }

// Every is the interval of a rate, and 0 for cron and at.
func (x Expression) Every() time.Duration { return x.every }

// Anchored gives a rate its phase: slots are whole intervals away from t, which is when it last fired. It changes
// nothing for cron and at. A rate without an anchor counts from the time that Next is asked about.
func (x Expression) Anchored(t time.Time) Expression {
	x.anchor = t
	return x
}

// Next is the first slot after t, or the zero time if there is none. The result carries no monotonic reading.
//
// Daylight saving is EventBridge's: a cron slot on a wall-clock time that does not exist is passed over, one on a time
// that occurs twice fires the first time only; days in a rate are 24 hours.
func (x Expression) Next(t time.Time) time.Time {
	t = t.Round(0)
	switch {
	case x.every > 0:
		return x.nextRate(t)
	case x.cron != nil:
		return x.cron.next(t, x.loc)
	case x.at.After(t):
		return x.at
	}
	return time.Time{}
}

func (x Expression) nextRate(t time.Time) time.Time {
	anchor := x.anchor.Round(0)
	if anchor.IsZero() || anchor.After(t) {
		// An anchor in the future is a clock that was set back: its phase is kept, its wait is not.
		if anchor.IsZero() {
			return t.Add(x.every).In(x.loc)
		}
		next := anchor.Add(-anchor.Sub(t).Truncate(x.every))
		if !next.After(t) {
			next = next.Add(x.every)
		}
		return next.In(x.loc)
	}
	next := anchor.Add(t.Sub(anchor).Truncate(x.every))
	for !next.After(t) { // Sub saturates after 292 years
		next = next.Add(x.every)
	}
	return next.In(x.loc)
}

// NextN are the next n slots after t; fewer if the expression ends.
func (x Expression) NextN(t time.Time, n int) []time.Time {
	var slots []time.Time
	for len(slots) < n {
		t = x.Next(t)
		if t.IsZero() {
			break
		}
		slots = append(slots, t)
	}
	return slots
}

// Interval is the longest gap between the slots of the time to come: of a rate its length, of cron the longest of the
// next 400 gaps, so that weekends and month ends count. 0 if there are not two slots. Overdue is computed from it.
func (x Expression) Interval(t time.Time) time.Duration {
	if x.every > 0 {
		return x.every
	}
	var longest time.Duration
	slots := x.NextN(t, 401)
	for i := 1; i < len(slots); i++ {
		longest = max(longest, slots[i].Sub(slots[i-1]))
	}
	return longest
}
