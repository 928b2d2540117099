package history

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestListFiltersAndPages(t *testing.T) {
	s := open(t, temp(t), Options{})
	var ids []string
	for i := range 7 {
		function, tables := "backup", []string{"a", "b"}
		if i%2 == 1 {
			function, tables = "compact", []string{"b"}
		}
		r := newRun(function, epoch.Add(time.Duration(i)*time.Hour), tables...)
		status := Succeeded
		if i == 4 {
			status = Failed
		}
		ids = append(ids, done(t, s, r, status, entries("backed_up", tables...)).ID)
	}
	all := func(f Filter) (got []int) {
		for {
			page, err := s.List(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page.Runs {
				for i, id := range ids {
					if id == r.ID {
						got = append(got, i)
					}
				}
			}
			if f.Cursor = page.Next; f.Cursor == "" {
				return got
			}
		}
	}
	for name, c := range map[string]struct {
		f    Filter
		want []int
	}{
		"everything, two at a time": {Filter{Limit: 2}, []int{6, 5, 4, 3, 2, 1, 0}},
		"exactly one page":          {Filter{Limit: 7}, []int{6, 5, 4, 3, 2, 1, 0}},
		"function":                  {Filter{Function: "compact"}, []int{5, 3, 1}},
		"table":                     {Filter{Table: "a", Limit: 1}, []int{6, 4, 2, 0}},
		"status":                    {Filter{Statuses: []string{"failed", "lost"}}, []int{4}},
		"since and until":           {Filter{Since: epoch.Add(2 * time.Hour), Until: epoch.Add(4 * time.Hour)}, []int{3, 2}},
		"hostile":                   {Filter{Function: "'; DROP TABLE runs; --"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, all(c.f)); d != "" {
				t.Error(d)
			}
		})
	}
	if _, err := s.List(t.Context(), Filter{Cursor: "x"}); !errors.Is(err, ErrCursor) {
		t.Errorf("a bad cursor: %v", err)
	}
	var names []string
	f := Filter{Function: "backup", Limit: 3}
	for {
		page, err := s.Entries(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range page.Records {
			names = append(names, fmt.Sprint(rec.Started.Sub(epoch).Truncate(time.Hour).Hours(), rec.Entry.Table))
		}
		if f.Cursor = page.Next; f.Cursor == "" {
			break
		}
	}
	if d := cmp.Diff([]string{"6a", "6b", "4a", "4b", "2a", "2b", "0a", "0b"}, names); d != "" {
		t.Error(d)
	}
	last, err := s.Last(t.Context(), "backup", "a")
	if err != nil || last.RunID != ids[6] {
		t.Errorf("last backup of a: %+v, %v", last, err)
	}
	if _, err := s.Last(t.Context(), "verify", "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("last verify of a: %v", err)
	}
	latest, err := s.Latest(t.Context(), "compact")
	if err != nil || len(latest) != 1 || latest["b"].RunID != ids[5] {
		t.Errorf("latest compactions: %+v, %v", latest, err)
	}
}

func TestFindByAbbreviation(t *testing.T) {
	s := open(t, temp(t), Options{})
	a, b := newRun("compact", epoch), newRun("compact", epoch)
	a.ID, b.ID = "01980000-aaaa-7000-8000-00000000000a", "01980000-bbbb-7000-8000-00000000000b"
	begin(t, s, a)
	begin(t, s, b)
	for prefix, want := range map[string]string{a.ID: a.ID, "01980000-a": a.ID, "01980000-B": b.ID, "0000000b": b.ID} {
		if got, err := s.Find(t.Context(), prefix); err != nil || got != want {
			t.Errorf("%s: %s, %v", prefix, got, err)
		}
	}
	var ambiguous *AmbiguousError
	if _, err := s.Find(t.Context(), "01980000"); !errors.As(err, &ambiguous) || len(ambiguous.IDs) != 2 {
		t.Errorf("ambiguous: %v", err)
	}
	for _, none := range []string{"", "019", "ffff", "%___", "zzzz", "' OR 1"} {
		if _, err := s.Get(t.Context(), none); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", none, err)
		}
	}
}
