package screen

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
)

// Bytes shows a size: 1.2 GiB.
func Bytes(n int64) string {
	if n < 0 {
		return "-" + humanize.IBytes(uint64(-n))
	}
	return humanize.IBytes(uint64(n))
}

// Percent shows a share: 12 %.
func Percent(ratio float64) string {
	switch p := ratio * 100; {
	case p > 0 && p < 1:
		return "<1 %"
	case p > 99 && p < 100:
		return ">99 %"
	default:
		return fmt.Sprintf("%.0f %%", p)
	}
}

// Ago shows how long before now t was: 5 min ago; "never" for the zero time, "now" within a second, which is as precise as some stores
// keep times.
func Ago(t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case t.IsZero():
		return "never"
	case d.Abs() < time.Second:
		return "now"
	case d > 0:
		return Span(d) + " ago"
	}
	return "in " + Span(-d)
}

// Span shows a length of time in its largest unit: 350 ms, 12 s, 5 min, 7 h, 3 d.
func Span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d d", int(d.Hours()/24))
	}
}

// Count shows a number with its noun: 1 table, 1,000 tables.
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return Number(int64(n)) + " " + noun + "s"
}

// Number is a number as people write it: 12,345.
func Number(n int64) string { return humanize.Comma(n) }
