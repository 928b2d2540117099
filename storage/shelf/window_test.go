package shelf

import (
	"strings"
	"testing"
	"time"
)

func window(t *testing.T, s string) Window {
	t.Helper()
	w, err := ParseWindow(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWindowContains(t *testing.T) {
	cases := []struct {
		window, at string
		want       bool
	}{
		{"02:00-04:00 UTC", "2026-11-22T02:00:00Z", true},
		{"02:00-04:00 UTC", "2026-11-22T03:59:59Z", true},
		{"02:00-04:00 UTC", "2026-11-22T04:00:00Z", false},
		{"02:00-04:00 UTC", "2026-11-22T01:59:59Z", false},
		{"02:00-04:00 Europe/Berlin", "2026-11-22T01:30:00Z", true},
		{"02:00-04:00 Europe/Berlin", "2026-11-22T03:30:00Z", false},
		{"22:00-06:00 UTC", "2026-11-22T23:00:00Z", true},
		{"22:00-06:00 UTC", "2026-11-22T05:59:00Z", true},
		{"22:00-06:00 UTC", "2026-11-22T06:00:00Z", false},
		{"22:00-06:00 UTC", "2026-11-22T12:00:00Z", false},
		{"00:00-24:00 UTC", "2026-11-22T23:59:59Z", true},
		{"22:00-24:00 UTC", "2026-11-22T23:59:59Z", true},
		{"22:00-24:00 UTC", "2026-11-23T00:00:00Z", false},
		// 2026-11-22 is a Sunday.
		{"sat,sun 22:00-06:00 UTC", "2026-11-22T23:00:00Z", true},
		{"sat,sun 22:00-06:00 UTC", "2026-11-23T05:00:00Z", true},
		{"sat,sun 22:00-06:00 UTC", "2026-11-23T23:00:00Z", false},
		{"sat,sun 22:00-06:00 UTC", "2026-11-21T05:00:00Z", false},
		{"fri-mon 12:00-13:00 UTC", "2026-11-22T12:30:00Z", true},
		{"tue-thu 12:00-13:00 UTC", "2026-11-22T12:30:00Z", false},
		// Summer time begins on 2026-03-29 at 02:00 in Berlin: 02:00 to 03:00 is missing, the window is moved to 03:00.
		{"02:00-02:30 Europe/Berlin", "2026-03-29T01:15:00Z", true},
		{"02:00-02:30 Europe/Berlin", "2026-03-29T00:45:00Z", false},
		{"02:00-02:30 Europe/Berlin", "2026-03-29T01:45:00Z", false},
		// It ends on 2026-10-25 at 03:00: 02:00 to 03:00 comes twice.
		{"02:00-02:30 Europe/Berlin", "2026-10-25T00:15:00Z", true},
		{"02:00-02:30 Europe/Berlin", "2026-10-25T01:15:00Z", true},
		{"02:00-02:30 Europe/Berlin", "2026-10-25T02:15:00Z", false},
		{"22:00-06:00 Europe/Berlin", "2026-10-25T04:30:00Z", true},
		{"22:00-06:00 Europe/Berlin", "2026-10-25T05:00:00Z", false},
	}
	for _, c := range cases {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := window(t, c.window).Contains(at); got != c.want {
			t.Errorf("%s at %s: %v", c.window, c.at, got)
		}
	}
	if (Window{}).Contains(time.Unix(0, 0)) || !(Window{}).Next(time.Unix(0, 0)).IsZero() {
		t.Error("the zero window opens")
	}
}

func TestWindowNext(t *testing.T) {
	cases := []struct{ window, after, want string }{
		{"02:00-04:00 UTC", "2026-11-22T01:00:00Z", "2026-11-22T02:00:00Z"},
		{"02:00-04:00 UTC", "2026-11-22T02:00:00Z", "2026-11-23T02:00:00Z"},
		{"sat 22:00-06:00 UTC", "2026-11-22T02:00:00Z", "2026-11-28T22:00:00Z"},
		{"sun 02:00-04:00 UTC", "2026-11-22T02:00:00Z", "2026-11-29T02:00:00Z"},
		{"02:00-04:00 Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"},
	}
	for _, c := range cases {
		after, err := time.Parse(time.RFC3339, c.after)
		if err != nil {
			t.Fatal(err)
		}
		if got := window(t, c.window).Next(after).UTC().Format(time.RFC3339); got != c.want {
			t.Errorf("%s after %s: %s, want %s", c.window, c.after, got, c.want)
		}
	}
}

func TestWindowsThatCannotBe(t *testing.T) {
	for _, s := range []string{"", "02:00", "02:00-", "-", "2:00-4:00", "02:00-04:00 Mars/Olympus", "25:00-26:00", "02:00-02:00", "24:00-02:00", "someday 02:00-04:00", "mon-02:00", "02:00-04:00 UTC UTC", "02:60-04:00"} {
		if w, err := ParseWindow(s); err == nil || !strings.Contains(err.Error(), "write it like") {
			t.Errorf("%q: %v, %v", s, w, err)
		}
	}
}

func FuzzParseWindow(f *testing.F) {
	for _, seed := range []string{"02:00-04:00", "sat,sun 22:00-06:00 UTC", "mon- 00:00-24:00", "\x00", "24:00-24:00"} {
		f.Add(seed)
	}
	at := time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		w, err := ParseWindow(s)
		if err != nil {
			return
		}
		if next := w.Next(at); !next.After(at) || !w.Contains(next) {
			t.Errorf("%q: next after %v is %v", s, at, next)
		}
	})
}
