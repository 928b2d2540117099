package schedule

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func mustParse(t testing.TB, text, zone string) Expression {
	t.Helper()
	x, err := Parse(text, zone)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func instant(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestNext(t *testing.T) {
	for _, c := range []struct {
		expression, zone, from string
		want                   string // space-separated wall clocks of the next slots; "-" is the end
	}{
		{"cron(0 3 * * ? *)", "", "2026-11-22T03:00:00Z", "2026-11-23T03:00Z 2026-11-24T03:00Z"},
		{"cron(0/15 * * * ? *)", "", "2026-11-22T23:50:01Z", "2026-11-23T00:00Z 2026-11-23T00:15Z"},
		{"cron(1/10 8 ? * MON-FRI *)", "", "2026-11-20T08:45:00Z", "2026-11-20T08:51Z 2026-11-23T08:01Z"},
		{"cron(5,10 8-10/2 1 JAN,jul ? *)", "", "2026-01-01T08:07:00Z", "2026-01-01T08:10Z 2026-01-01T10:05Z 2026-01-01T10:10Z 2026-07-01T08:05Z"},
		// The last day, and the last day of the week, which is Saturday.
		{"cron(0 0 L * ? *)", "", "2028-01-31T00:00:00Z", "2028-02-29T00:00Z 2028-03-31T00:00Z"},
		{"cron(0 0 ? * L *)", "", "2026-11-22T00:00:00Z", "2026-11-28T00:00Z"},
		{"cron(0 0 ? * 6L *)", "", "2026-11-01T00:00:00Z", "2026-11-27T00:00Z 2026-12-25T00:00Z"},
		{"cron(0 0 ? * FRIL *)", "", "2026-11-01T00:00:00Z", "2026-11-27T00:00Z"},
		// The nearest weekday, never in another month: 2026-08-01 is a Saturday, 2026-11-15 and 2027-01-31 are Sundays.
		{"cron(0 0 1W 8 ? *)", "", "2026-01-01T00:00:00Z", "2026-08-03T00:00Z"},
		{"cron(0 0 15W 11 ? *)", "", "2026-01-01T00:00:00Z", "2026-11-16T00:00Z"},
		{"cron(0 0 31W 1 ? 2027)", "", "2026-01-01T00:00:00Z", "2027-01-29T00:00Z -"},
		{"cron(0 0 31W 2-3 ? *)", "", "2026-01-01T00:00:00Z", "2026-03-31T00:00Z"},
		{"cron(0 0 LW 10 ? 2026)", "", "2026-01-01T00:00:00Z", "2026-10-30T00:00Z -"},
		// The second Tuesday; a fifth Monday that only some months have.
		{"cron(0 0 ? * 3#2 *)", "", "2026-11-01T00:00:00Z", "2026-11-10T00:00Z 2026-12-08T00:00Z"},
		{"cron(0 0 ? * MON#5 *)", "", "2026-11-01T00:00:00Z", "2026-11-30T00:00Z 2027-03-29T00:00Z"},
		{"cron(0 0 29 2 ? 2026-2031)", "", "2026-01-01T00:00:00Z", "2028-02-29T00:00Z -"},
		{"cron(0 0 30 2 ? *)", "", "2026-01-01T00:00:00Z", "-"},
		{"cron(0 0 1 1 ? 2199)", "", "2199-01-01T00:00:00Z", "-"},
		{"cron(0 0 1 1 ? 1970/100)", "", "1960-01-01T00:00:00Z", "1970-01-01T00:00Z 2070-01-01T00:00Z 2170-01-01T00:00Z -"},
		// New York: 02:30 does not exist on 2026-03-08 and is passed over; 01:30 occurs twice on 2026-11-01 and counts once.
		{"cron(30 2 * * ? *)", "America/New_York", "2026-03-07T12:00:00-05:00", "2026-03-09T02:30-04:00"},
		{"cron(30 1 * * ? *)", "America/New_York", "2026-10-31T12:00:00-04:00", "2026-11-01T01:30-04:00 2026-11-02T01:30-05:00"},
		{"cron(0 * * * ? *)", "America/New_York", "2026-11-01T00:30:00-04:00", "2026-11-01T01:00-04:00 2026-11-01T02:00-05:00"},
		{"cron(0 * * * ? *)", "Europe/Berlin", "2026-03-29T01:00:00+01:00", "2026-03-29T03:00+02:00"},
		// Half an hour of summer time, and a day that never was.
		{"cron(45 1 * * ? *)", "Australia/Lord_Howe", "2026-04-04T12:00:00Z", "2026-04-05T01:45+11:00 2026-04-06T01:45+10:30"},
		{"cron(0 12 * * ? *)", "Pacific/Apia", "2011-12-29T13:00:00-10:00", "2011-12-31T12:00+14:00"},
		{"rate(90 minutes)", "", "2026-11-22T00:10:00Z", "2026-11-22T01:40Z 2026-11-22T03:10Z"},
		{"rate(1 day)", "America/New_York", "2026-03-07T12:00:00-05:00", "2026-03-08T13:00-04:00"},
		{"at(2026-11-22T12:00:30)", "Asia/Tokyo", "2026-11-22T00:00:00Z", "2026-11-22T12:00+09:00 -"},
		{"at(2026-11-22T12:00:00)", "", "2026-11-22T12:00:00Z", "-"},
	} {
		t.Run(c.expression+" "+c.zone, func(t *testing.T) {
			want := strings.Fields(c.want)
			var got []string
			x := mustParse(t, c.expression, c.zone)
			for _, slot := range x.NextN(instant(t, c.from), len(want)) {
				got = append(got, slot.Format("2006-01-02T15:04Z07:00"))
			}
			if len(got) < len(want) {
				got = append(got, "-")
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for expression, hint := range map[string]string{
		"":                         "for example",
		"6 hours":                  "did you mean rate(6 hours)?",
		"0 3 * * *":                "cron(0 3 * * ? *)",
		"cron(0 3 * * *)":          "cron(0 3 * * ? *)",
		"rate(1 hours)":            "write rate(1 hour)",
		"rate(2 hour)":             "write rate(2 hours)",
		"rate(0 hours)":            "",
		"rate(-1 hours)":           "",
		"rate(+2 hours)":           "",
		"rate(1.5 hours)":          "",
		"rate(6 weeks)":            "units are",
		"rate(9999999999999 days)": "",
		"rate(hours)":              "",
		"every(6 hours)":           "",
		"rate(6 hours":             "",
		"at(2026-02-30T00:00:00)":  "",
		"at(2026-01-01)":           "",
		"cron(60 * * * ? *)":       "",
		"cron(* 24 * * ? *)":       "",
		"cron(* * 0 * ? *)":        "",
		"cron(* * 32 * ? *)":       "",
		"cron(* * * 13 ? *)":       "",
		"cron(* * ? * 0 *)":        "",
		"cron(* * ? * 8 *)":        "",
		"cron(* * * * ? 1969)":     "",
		"cron(* * * * ? 2200)":     "",
		"cron(* * * * * *)":        "write ? in one of them",
		"cron(* * ? * ? *)":        "write * in one of them",
		"cron(? * * * ? *)":        "",
		"cron(* * 1 * MON *)":      "write ? in one of them",
		"cron(*/0 * * * ? *)":      "",
		"cron(10-5 * * * ? *)":     "comma",
		"cron(* * ? * 3#6 *)":      "",
		"cron(* * ? * 3#1,6#3 *)":  "",
		"cron(* * ? * MON/2 *)":    "",
		"cron(* * 1,3W * ? *)":     "",
		"cron(* * L-3 * ? *)":      "",
		"cron(, * * * ? *)":        "",
		"cron(1- * * * ? *)":       "",
		"cron(+1 * * * ? *)":       "",
		"cron(* * * * ? * *)":      "",
	} {
		t.Run(expression, func(t *testing.T) {
			_, err := Parse(expression, "")
			var e *ParseError
			if !errors.As(err, &e) || !strings.Contains(e.Hint(), hint) {
				t.Errorf("error %v, hint %q", err, e.Hint())
			}
		})
	}
	for _, zone := range []string{"Europe/Berln", "Local", "../etc/passwd"} {
		if _, err := Parse("rate(1 day)", zone); err == nil {
			t.Errorf("time zone %q is accepted", zone)
		}
	}
	if _, err := Parse("at(2026-03-29T02:30:00)", "Europe/Berlin"); err == nil {
		t.Error("a time that does not exist is accepted")
	}
}

var zones = []string{"", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia", "Asia/Kathmandu", "America/Sao_Paulo"}

// TestNextAgreesWithTheCalendar compares with the definition: the first minute after t that the fields name and that no
// earlier instant has shown.
func TestNextAgreesWithTheCalendar(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		minute, hour := rapid.IntRange(0, 59).Draw(t, "minute"), rapid.IntRange(0, 23).Draw(t, "hour")
		hours := rapid.SampledFrom([]string{"*", fmt.Sprint(hour), fmt.Sprintf("%d/5", hour)}).Draw(t, "hours")
		days := rapid.SampledFrom([]string{"* * ?", "? * MON,WED,SUN", "1-28/9 * ?", "L * ?", "? * 1#1"}).Draw(t, "days")
		zone := rapid.SampledFrom(zones).Draw(t, "zone")
		x, err := Parse(fmt.Sprintf("cron(%d %s %s *)", minute, hours, days), zone)
		if err != nil {
			t.Fatal(err)
		}
		from := time.Unix(rapid.Int64Range(1_230_000_000, 1_900_000_000).Draw(t, "from"), 0)
		next := x.Next(from)
		if !next.After(from) {
			t.Fatalf("next of %v is %v", from, next)
		}
		end := from.Add(3 * 24 * time.Hour)
		for at := from.Truncate(time.Minute).Add(time.Minute); at.Before(next) && at.Before(end); at = at.Add(time.Minute) {
			if named(x, at) {
				t.Fatalf("%v: slot %v was passed over for %v", x, at.In(x.loc), next)
			}
		}
		if !named(x, next) {
			t.Fatalf("%v: %v is no slot", x, next)
		}
	})
}

func named(x Expression, at time.Time) bool {
	local := at.In(x.loc)
	c := x.cron
	if c.minutes&(1<<local.Minute()) == 0 || c.hours&(1<<local.Hour()) == 0 || c.days.in(local.Year(), local.Month())&(1<<local.Day()) == 0 {
		return false
	}
	for back := time.Minute; back <= 25*time.Hour; back += time.Minute {
		if earlier := at.Add(-back).In(x.loc); earlier.Format("2006-01-02T15:04") == local.Format("2006-01-02T15:04") {
			return false
		}
		if back == 3*time.Hour && x.loc.String() != "Pacific/Apia" {
			break
		}
	}
	return true
}

func TestRateKeepsItsPhase(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		every := time.Duration(rapid.IntRange(2, 10_000).Draw(t, "minutes")) * time.Minute
		x, err := Parse(fmt.Sprintf("rate(%d minutes)", every/time.Minute), "")
		if err != nil {
			t.Fatal(err)
		}
		anchor := time.Unix(rapid.Int64Range(0, 4_000_000_000).Draw(t, "anchor"), 0)
		from := time.Unix(rapid.Int64Range(0, 4_000_000_000).Draw(t, "from"), 0)
		next := x.Anchored(anchor).Next(from)
		if !next.After(from) || next.Sub(from) > every || next.Sub(anchor)%every != 0 {
			t.Fatalf("anchor %v, from %v, every %v: next %v", anchor, from, every, next)
		}
	})
}

func TestInterval(t *testing.T) {
	now := instant(t, "2026-11-22T00:00:00Z")
	for expression, want := range map[string]time.Duration{
		"rate(6 hours)":              6 * time.Hour,
		"cron(0 3 * * ? *)":          24 * time.Hour,
		"cron(0 3 ? * MON-FRI *)":    72 * time.Hour,
		"cron(0 3 1 * ? *)":          31 * 24 * time.Hour,
		"at(2027-01-01T00:00:00)":    0,
		"cron(0 3 1 1 ? 2027)":       0,
		"cron(0 9,17 ? * MON-FRI *)": 64 * time.Hour,
	} {
		if got := mustParse(t, expression, "").Interval(now); got != want {
			t.Errorf("%s: %v, want %v", expression, got, want)
		}
	}
}

func TestWindow(t *testing.T) {
	for _, c := range []struct{ window, zone, at, want string }{
		{"22:00-06:00", "", "2026-11-22T12:00:00Z", "2026-11-22T22:00:00Z"},
		{"22:00-06:00", "", "2026-11-22T23:00:00Z", "2026-11-22T23:00:00Z"},
		{"22:00-06:00", "", "2026-11-22T05:59:59Z", "2026-11-22T05:59:59Z"},
		{"22:00-06:00", "", "2026-11-22T06:00:00Z", "2026-11-22T22:00:00Z"},
		{"sat 22:00-06:00", "", "2026-11-22T05:00:00Z", "2026-11-22T05:00:00Z"}, // Sunday morning belongs to Saturday's
		{"sat 22:00-06:00", "", "2026-11-22T07:00:00Z", "2026-11-28T22:00:00Z"},
		{"mon-fri 01:00-05:00", "Europe/Berlin", "2026-11-22T12:00:00Z", "2026-11-23T00:00:00Z"},
		{"00:00-24:00", "", "2026-11-22T12:00:00Z", "2026-11-22T12:00:00Z"},
		{"02:00-03:00", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T00:00:00Z"},
	} {
		w, err := ParseWindow(c.window, c.zone)
		if err != nil {
			t.Fatal(err)
		}
		if got := w.Next(instant(t, c.at)); !got.Equal(instant(t, c.want)) {
			t.Errorf("%s at %s: %v, want %s", c.window, c.at, got.UTC(), c.want)
		}
	}
	for _, bad := range []string{"", "22:00", "22:00-", "25:00-26:00", "someday 01:00-02:00", "22:00-06:00 mon"} {
		if _, err := ParseWindow(bad, ""); err == nil {
			t.Errorf("window %q is accepted", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"rate(6 hours)", "cron(0/15 8-10 ? JAN,MAR MON#2 2026/2)", "cron(0 0 15W * ? *)", "at(2027-01-31T03:00:00)", "cron(0 0 L * ? *)"} {
		f.Add(seed, "Europe/Berlin")
	}
	f.Fuzz(func(t *testing.T, text, zone string) {
		x, err := Parse(text, zone)
		if err != nil {
			var e *ParseError
			if !errors.As(err, &e) {
				t.Fatalf("error is %T", err)
			}
			return
		}
		now := time.Unix(1_795_000_000, 0)
		if next := x.Next(now); !next.IsZero() && !next.After(now) {
			t.Fatalf("next of %v is %v", now, next)
		}
		again, err := Parse(x.String(), zone)
		if err != nil || !again.Next(now).Equal(x.Next(now)) {
			t.Fatalf("%q does not read back: %v", x.String(), err)
		}
	})
}
