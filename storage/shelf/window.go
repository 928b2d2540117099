package shelf

import (
	"fmt"
	"strings"
	"time"
)

// Window is a daily stretch of wall-clock time in a time zone, such as "02:00-04:00 Europe/Berlin", on all days or on
// some ("sat,sun 22:00-06:00 UTC"). One that ends before it begins goes over midnight and belongs to the day on which it
// begins. The zero Window is never open.
type Window struct {
	days       [7]bool // by time.Weekday
	start, end int     // minutes since midnight; end may be 24:00
	zone       *time.Location
	text       string
}

var weekdays = [7]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// ParseWindow reads "[DAYS ]HH:MM-HH:MM[ ZONE]": DAYS are names of three letters with commas and ranges ("mon-fri,sun"),
// ZONE is a name of the IANA database. Without a zone it is that of the machine.
func ParseWindow(s string) (Window, error) {
	w := Window{zone: time.Local, text: s}
	fields := strings.Fields(s)
	days := "mon-sun"
	if len(fields) > 0 && !strings.Contains(fields[0], ":") {
		days, fields = fields[0], fields[1:]
	}
	if len(fields) != 1 && len(fields) != 2 {
		return Window{}, windowError(s, "it is not a time span with an optional zone")
	}
	if err := w.setDays(days); err != nil {
		return Window{}, windowError(s, err.Error())
	}
	if err := w.setSpan(fields[0]); err != nil {
		return Window{}, windowError(s, err.Error())
	}
	if len(fields) == 2 {
		zone, err := time.LoadLocation(fields[1])
		if err != nil {
			return Window{}, windowError(s, err.Error())
		}
		w.zone = zone
	}
	return w, nil
}

func windowError(s, why string) error {
	return fmt.Errorf("window %q: %s; write it like \"02:00-04:00 Europe/Berlin\" or \"sat,sun 22:00-06:00 UTC\"", s, why)
}

func (w *Window) setDays(s string) error {
	for part := range strings.SplitSeq(strings.ToLower(s), ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, last := dayOf(from), dayOf(to)
		if first < 0 || last < 0 {
			return fmt.Errorf("%q is no day of the week", part)
		}
		for day := first; ; day = (day + 1) % 7 {
			w.days[day] = true
			if day == last {
				break
			}
		}
	}
	return nil
}

func dayOf(name string) int {
	for i, day := range weekdays {
		if name == day {
			return i
		}
	}
	return -1
}

func (w *Window) setSpan(s string) error {
	from, to, ok := strings.Cut(s, "-")
	if !ok {
		return fmt.Errorf("%q has no end", s)
	}
	var err error
	if w.start, err = minuteOf(from); err != nil {
		return err
	}
	if w.end, err = minuteOf(to); err != nil {
		return err
	}
	if w.start == 24*60 {
		return fmt.Errorf("24:00 is an end only; the day begins at 00:00")
	}
	if w.start == w.end {
		return fmt.Errorf("it is empty; the whole day is 00:00-24:00")
	}
	return nil
}

// minuteOf reads HH:MM, 00:00 to 24:00.
func minuteOf(s string) (int, error) {
	if s == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != len("15:04") {
		return 0, fmt.Errorf("%q is no time of day", s)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// Contains tells whether t is in the window. On the day that summer time begins, a window in the hour that is missing is
// moved by an hour rather than lost; when it ends, a window in the hour that comes twice is open twice.
func (w Window) Contains(t time.Time) bool {
	if w.zone == nil {
		return false
	}
	local := t.In(w.zone)
	if w.onClock(local) {
		return true
	}
	for back := range 2 {
		if start, end, ok := w.on(local, -back); ok && !t.Before(start) && t.Before(end) {
			return true
		}
	}
	return false
}

// onClock compares the hands of the clock alone.
func (w Window) onClock(local time.Time) bool {
	minute := local.Hour()*60 + local.Minute()
	today := w.days[local.Weekday()]
	if w.start < w.end {
		return today && minute >= w.start && minute < w.end
	}
	yesterday := w.days[(local.Weekday()+6)%7]
	return today && minute >= w.start || yesterday && minute < w.end
}

// on gives the two instants of the window that begins the given number of days after local's day.
func (w Window) on(local time.Time, days int) (start, end time.Time, ok bool) {
	y, m, d := local.Date()
	d += days
	start = time.Date(y, m, d, 0, w.start, 0, 0, w.zone)
	if w.end < w.start {
		d++
	}
	end = time.Date(y, m, d, 0, w.end, 0, 0, w.zone)
	noon := time.Date(y, m, local.Day()+days, 12, 0, 0, 0, w.zone)
	return start, end, w.days[noon.Weekday()]
}

// Next is the first beginning of the window after t, the zero time if it never opens.
func (w Window) Next(t time.Time) time.Time {
	if w.zone == nil {
		return time.Time{}
	}
	for days := range 9 {
		if start, _, ok := w.on(t.In(w.zone), days); ok && start.After(t) {
			return start
		}
	}
	return time.Time{}
}

// String is the text that the window was read from.
func (w Window) String() string { return w.text }
