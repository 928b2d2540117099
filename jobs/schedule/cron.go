package schedule

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

const firstYear, lastYear = 1970, 2199

// cron is EventBridge's cron: minutes hours day-of-month month day-of-week year.
type cron struct {
	minutes, hours, months uint64 // bit n is value n
	days                   dayRule
	years                  [lastYear - firstYear + 1]bool
}

// dayRule is what one of the two day fields says about a month; the other one is "?".
type dayRule struct {
	monthDays   uint64 // bits 1-31
	weekDays    uint64 // bits 1-7, 1 is Sunday
	last        bool   // L, or LW with nearest
	nearest     int    // 3W: the weekday nearest to the 3rd; -1 with last
	weekday     int    // 6L: the last Friday; 3#2 with nth
	nth         int
	lastWeekday bool
}

// field describes one field of a cron expression.
type field struct {
	name     string
	min, max int
	names    []string // names[i] is min+i
	step     bool     // a/b is allowed
}

var (
	minuteField  = field{name: "minutes", min: 0, max: 59, step: true}
	hourField    = field{name: "hours", min: 0, max: 23, step: true}
	dayField     = field{name: "day-of-month", min: 1, max: 31, step: true}
	monthField   = field{name: "month", min: 1, max: 12, step: true, names: []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}}
	weekdayField = field{name: "day-of-week", min: 1, max: 7, names: []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}}
	yearField    = field{name: "year", min: firstYear, max: lastYear, step: true}
)

func parseCron(body string) (*cron, error) {
	f := strings.Fields(body)
	if len(f) == 5 {
		return nil, problem{"has five fields, EventBridge's cron has six", "the last is the year: cron(" + questionMark(body) + " *)"}
	}
	if len(f) != 6 {
		return nil, problem{fmt.Sprintf("has %d fields, EventBridge's cron has six: minutes hours day-of-month month day-of-week year", len(f)), ""}
	}
	c := &cron{}
	for i, part := range []struct {
		field
		to *uint64
	}{{minuteField, &c.minutes}, {hourField, &c.hours}, {monthField, &c.months}} {
		set, err := part.bits(f[[]int{0, 1, 3}[i]])
		if err != nil {
			return nil, err
		}
		*part.to = set
	}
	if err := c.days.parse(f[2], f[4]); err != nil {
		return nil, err
	}
	return c, yearField.each(f[5], func(y int) { c.years[y-firstYear] = true })
}

func (d *dayRule) parse(dom, dow string) error {
	switch {
	case dom == "?" && dow == "?":
		return problem{"day-of-month and day-of-week are both ?", "write * in one of them"}
	case dom != "?" && dow != "?":
		return problem{"day-of-month and day-of-week are both given", "write ? in one of them"}
	case dow == "?":
		return d.parseMonthDays(dom)
	}
	return d.parseWeekDays(dow)
}

func (d *dayRule) parseMonthDays(s string) (err error) {
	switch {
	case s == "L":
		d.last = true
	case s == "LW":
		d.last, d.nearest = true, -1
	case strings.HasSuffix(s, "W"):
		d.nearest, err = dayField.value(strings.TrimSuffix(s, "W"))
	default:
		d.monthDays, err = dayField.bits(s)
	}
	return err
}

func (d *dayRule) parseWeekDays(s string) (err error) {
	day, n, hash := strings.Cut(s, "#")
	switch {
	case s == "L":
		d.weekDays = 1 << 7
	case hash:
		if d.weekday, err = weekdayField.value(day); err != nil {
			return err
		}
		d.nth, err = strconv.Atoi(n)
		if err != nil || d.nth < 1 || d.nth > 5 || len(n) != 1 {
			return problem{fmt.Sprintf("day-of-week %q: after # comes 1 to 5, and nothing else beside it", s), "3#2 is the second Tuesday"}
		}
	case strings.HasSuffix(s, "L"):
		d.lastWeekday = true
		d.weekday, err = weekdayField.value(strings.TrimSuffix(s, "L"))
	default:
		d.weekDays, err = weekdayField.bits(s)
	}
	return err
}

func (f field) bits(s string) (set uint64, err error) {
	err = f.each(s, func(v int) { set |= 1 << v })
	return set, err
}

// each calls add for every value that s names: lists of values, ranges and steps.
func (f field) each(s string, add func(int)) error {
	for part := range strings.SplitSeq(s, ",") {
		lo, hi, step, err := f.span(part)
		if err != nil {
			return err
		}
		for v := lo; v <= hi; v += step {
			add(v)
		}
	}
	return nil
}

func (f field) span(part string) (lo, hi, step int, err error) {
	base, stepText, stepped := strings.Cut(part, "/")
	step = 1
	if stepped {
		if step, err = f.stepOf(stepText); err != nil {
			return 0, 0, 0, err
		}
	}
	from, to, isRange := strings.Cut(base, "-")
	switch {
	case base == "*":
		return f.min, f.max, step, nil
	case isRange:
		if lo, err = f.value(from); err != nil {
			return 0, 0, 0, err
		}
		if hi, err = f.value(to); err != nil {
			return 0, 0, 0, err
		}
		if hi < lo {
			return 0, 0, 0, problem{fmt.Sprintf("%s range %q runs backwards", f.name, base), "write two ranges with a comma between them"}
		}
		return lo, hi, step, nil
	}
	if lo, err = f.value(base); err != nil {
		return 0, 0, 0, err
	}
	if stepped {
		return lo, f.max, step, nil
	}
	return lo, lo, 1, nil
}

func (f field) stepOf(s string) (int, error) {
	if !f.step {
		return 0, problem{f.name + " takes no /", ""}
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || int(n) > f.max {
		return 0, problem{fmt.Sprintf("%s step %q is not a number from 1 to %d", f.name, s, f.max), ""}
	}
	return int(n), nil
}

func (f field) value(s string) (int, error) {
	for i, name := range f.names {
		if strings.EqualFold(s, name) {
			return f.min + i, nil
		}
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || int(n) < f.min || int(n) > f.max {
		return 0, problem{fmt.Sprintf("%s %q is not from %d to %d", f.name, s, f.min, f.max), ""}
	}
	return int(n), nil
}

// next walks the calendar of loc day by day, then hours and minutes of the day.
func (c *cron) next(after time.Time, loc *time.Location) time.Time {
	local := after.In(loc)
	year, month, day := local.Date()
	if year < firstYear {
		year, month, day = firstYear, time.January, 1
	}
	for ; year <= lastYear; year, month, day = year+1, time.January, 1 {
		if !c.years[year-firstYear] {
			continue
		}
		for ; month <= time.December; month, day = month+1, 1 {
			if c.months&(1<<month) == 0 {
				continue
			}
			if t := c.nextInMonth(year, month, day, after, loc); !t.IsZero() {
				return t
			}
		}
	}
	return time.Time{}
}

func (c *cron) nextInMonth(year int, month time.Month, from int, after time.Time, loc *time.Location) time.Time {
	days := c.days.in(year, month) &^ (1<<from - 1)
	local := after.In(loc)
	for ; days != 0; days &= days - 1 {
		day := bits.TrailingZeros64(days)
		hours := c.hours
		if local.Year() == year && local.Month() == month && local.Day() == day {
			hours &^= 1<<local.Hour() - 1 // a wall clock shown before this hour's was first shown before it
		}
		for ; hours != 0; hours &= hours - 1 {
			hour := bits.TrailingZeros64(hours)
			for minutes := c.minutes; minutes != 0; minutes &= minutes - 1 {
				t, exists := wallClock(year, month, day, hour, bits.TrailingZeros64(minutes), loc)
				if exists && t.After(after) {
					return t
				}
			}
		}
	}
	return time.Time{}
}

// wallClock is the first instant at which clocks in loc show this minute; not every minute exists.
func wallClock(year int, month time.Month, day, hour, minute int, loc *time.Location) (time.Time, bool) {
	t := time.Date(year, month, day, hour, minute, 0, 0, loc)
	if t.Hour() != hour || t.Minute() != minute || t.Day() != day {
		return time.Time{}, false
	}
	// time.Date does not promise which of two equal wall clocks it gives. A change of offset within the day before t
	// means that this wall clock may have been shown already.
	_, offset := t.Zone()
	for _, earlier := range []time.Duration{30 * time.Minute, time.Hour, 2 * time.Hour, 24 * time.Hour} {
		_, before := t.Add(-earlier).Zone()
		first := t.Add(time.Duration(offset-before) * time.Second)
		if before > offset && first.Hour() == hour && first.Minute() == minute && first.Day() == day {
			return first, true
		}
	}
	return t, true
}

// in is the set of days that the rule means in a month, bit n is day n.
func (d dayRule) in(year int, month time.Month) uint64 {
	last := time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
	switch {
	case d.monthDays != 0:
		return d.monthDays & (1<<(last+1) - 1)
	case d.nearest != 0 || d.last:
		return 1 << d.edgeDay(year, month, last)
	case d.nth != 0:
		return d.nthDay(year, month, last)
	}
	var set uint64
	for day := 1; day <= last; day++ {
		weekday := int(weekdayOf(year, month, day)) + 1
		if d.weekDays&(1<<weekday) != 0 || d.lastWeekday && weekday == d.weekday && day+7 > last {
			set |= 1 << day
		}
	}
	return set
}

// edgeDay is the day of L, LW or 3W; 0 (a day that no month has) for 31W in a month of 30 days.
func (d dayRule) edgeDay(year int, month time.Month, last int) int {
	day := d.nearest
	if d.last {
		day = last
	}
	if day > last {
		return 0
	}
	if d.nearest == 0 {
		return day
	}
	switch weekdayOf(year, month, day) {
	case time.Saturday:
		if day == 1 {
			return 3
		}
		return day - 1
	case time.Sunday:
		if day == last {
			return day - 2
		}
		return day + 1
	default:
		return day
	}
}

func (d dayRule) nthDay(year int, month time.Month, last int) uint64 {
	first := (d.weekday-1-int(weekdayOf(year, month, 1))+7)%7 + 1
	if day := first + 7*(d.nth-1); day <= last {
		return 1 << day
	}
	return 0
}

func weekdayOf(year int, month time.Month, day int) time.Weekday {
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Weekday()
}
