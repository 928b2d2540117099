package schedule

import (
	"fmt"
	"strings"
	"time"
)

// Window is a part of the week in which a job may begin, such as "sat,sun 22:00-06:00" or "01:00-05:00". One that ends
// before it begins goes past midnight and belongs to the day on which it begins. The zero Window is always open.
type Window struct {
	from, to int    // minutes of the day; to is beyond 24 h if the window goes past midnight
	days     uint64 // bit 1 is Sunday; 0 is the zero Window
	loc      *time.Location
}

// ParseWindow reads "[days ]HH:MM-HH:MM"; days are names, lists and ranges as in cron (mon-fri,sun).
func ParseWindow(text, timezone string) (Window, error) {
	loc, err := zone(timezone)
	if err != nil {
		return Window{}, &ParseError{Expression: text, Problem: "unknown time zone " + timezone}
	}
	bad := func(problem string) (Window, error) {
		return Window{}, &ParseError{Expression: text, Problem: problem, Try: "for example mon-fri 22:00-06:00"}
	}
	days, clock, given := strings.Cut(strings.TrimSpace(text), " ")
	if !given {
		days, clock = "*", days
	}
	w := Window{loc: loc}
	if w.days, err = weekdayField.bits(days); err != nil {
		return bad(err.Error())
	}
	from, to, ok := strings.Cut(strings.TrimSpace(clock), "-")
	if w.from, err = minuteOfDay(from); err != nil || !ok {
		return bad("a window has a beginning and an end")
	}
	if w.to, err = minuteOfDay(to); err != nil {
		return bad("a window has a beginning and an end")
	}
	if w.to <= w.from {
		w.to += 24 * 60
	}
	return w, nil
}

func minuteOfDay(s string) (int, error) {
	if s == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("time of day %q: %w", s, err)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// Open reports whether a job may begin at t.
func (w Window) Open(t time.Time) bool { return w.Next(t).Equal(t) }

// Next is t if the window is open then, else the time at which it opens next.
func (w Window) Next(t time.Time) time.Time {
	if w.days == 0 {
		return t
	}
	local := t.In(w.loc)
	for ahead := -1; ahead <= 8; ahead++ {
		year, month, day := local.Date()
		day += ahead
		if w.days&(1<<(int(weekdayOf(year, month, day))+1)) == 0 {
			continue
		}
		opens := time.Date(year, month, day, 0, w.from, 0, 0, w.loc)
		closes := time.Date(year, month, day, 0, w.to, 0, 0, w.loc)
		if !opens.Before(closes) {
			continue // the hour that summer time takes away
		}
		if t.Before(opens) {
			return opens
		}
		if t.Before(closes) {
			return t
		}
	}
	return t // a window that a change of clocks has swallowed must not stop the job for ever
}
