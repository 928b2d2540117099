package shelf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// database is enough of one for a scan, which reads 16 bytes.
var database = []byte(header + strings.Repeat("\x00", 84))

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// refreshed opens a shelf on the sources and scans once.
func refreshed(t *testing.T, sources ...Source) (*Shelf, []Problem) {
	t.Helper()
	s, err := Open(sources, Options{Now: func() time.Time { return time.Unix(1e9, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	problems, err := s.Refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s, problems
}

func names(tables []Table) string {
	var all []string
	for _, t := range tables {
		all = append(all, t.Name)
	}
	return strings.Join(all, " ")
}

// reasons are "base: reason" of each problem.
func reasons(problems []Problem) string {
	var all []string
	for _, p := range problems {
		all = append(all, filepath.Base(p.Path)+": "+string(p.Reason))
	}
	return strings.Join(all, ", ")
}

func TestSources(t *testing.T) {
	dir := t.TempDir()
	for _, file := range []string{"a.db", "b.sqlite3", "sub/c.db", "x/data/one.sqlite3", "y/data/two.sqlite3", "y/data/.hidden.sqlite3", "y/data/.tablekeeper/q.sqlite3", "y/other/no.sqlite3"} {
		write(t, filepath.Join(dir, file), database)
	}
	cases := []struct {
		name    string
		sources []Source
		tables  string
		reasons string
	}{
		{"folder is not searched", []Source{{Path: "."}}, "a b", "sub: directory, x: directory, y: directory"},
		{"glob", []Source{{Path: "*/data/*.sqlite3"}}, "one two", ""},
		{"glob with a class", []Source{{Path: "[x]/data/???.sqlite3"}}, "one", ""},
		{"deep glob", []Source{{Path: "**/*.sqlite3"}}, "b no one two", ""},
		{"names from a glob", []Source{{Path: "*/data/*.sqlite3", Name: "{1}-{2}"}}, "x-one y-two", ""},
		{"no match", []Source{{Path: "*.nothing"}}, "", "*.nothing: no_match"},
		{"single", []Source{{Path: "a.db"}}, "a", ""},
		{"single with a name", []Source{{Path: "a.db", Name: "main"}}, "main", ""},
		{"the more specific source wins", []Source{{Path: "a.db", Name: "main"}, {Path: "*.db"}, {Path: "."}}, "b main", "sub: directory, x: directory, y: directory"},
		{"missing folder", []Source{{Path: "nowhere"}}, "", "nowhere: missing"},
		{"missing file", []Source{{Path: "nowhere.db"}}, "", "nowhere.db: missing"},
		{"named folder", []Source{{Path: "sub", Name: "sub"}}, "c", "sub: bad_name"},
		{"same twice", []Source{{Path: "sub"}, {Path: "sub/../sub"}}, "c", ""},
		{"nothing", nil, "", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for i := range c.sources {
				c.sources[i].Path = dir + "/" + c.sources[i].Path
			}
			s, problems := refreshed(t, c.sources...)
			if got := names(s.Tables()); got != c.tables {
				t.Errorf("tables %q, want %q", got, c.tables)
			}
			if got := reasons(problems); got != c.reasons {
				t.Errorf("problems %q, want %q", got, c.reasons)
			}
		})
	}
}

func TestSourcesThatCannotBe(t *testing.T) {
	for _, source := range []Source{{}, {Path: "a\x00b"}, {Path: "/x/[a.db"}, {Path: "/x/a.db", Name: "../etc"}, {Path: "/x/a.db", Name: "A B"}} {
		if _, err := Open([]Source{source}, Options{}); err == nil {
			t.Errorf("%+v was accepted", source)
		}
	}
	_, err := Open([]Source{{Path: "/x/a.db", Name: "Größe 1"}}, Options{})
	if err == nil || !strings.Contains(err.Error(), `"gr-e-1" would do`) {
		t.Errorf("no suggestion in %v", err)
	}
}

func TestNames(t *testing.T) {
	cases := []struct {
		base    string
		suggest string
		valid   bool
	}{
		{"app", "app", true}, {"0-a_b", "0-a_b", true}, {strings.Repeat("a", 64), strings.Repeat("a", 64), true},
		{"App", "app", false}, {"app.prod", "app-prod", false}, {"..", "", false}, {"", "", false}, {"_x", "x", false},
		{"a b", "a-b", false}, {"a\nb", "a-b", false}, {"таблица", "", false}, {"a\x00", "a", false}, {"-rf", "rf", false},
		{strings.Repeat("a", 65), strings.Repeat("a", 64), false}, {"a/b", "a-b", false}, {"日本db", "db", false},
	}
	for _, c := range cases {
		if got := ValidName(c.base); got != c.valid {
			t.Errorf("ValidName(%q) = %v", c.base, got)
		}
		if got := SuggestName(c.base); got != c.suggest || got != "" && !ValidName(got) {
			t.Errorf("SuggestName(%q) = %q, want %q", c.base, got, c.suggest)
		}
	}
}

func FuzzSuggestName(f *testing.F) {
	for _, seed := range []string{"", "App.db", "\x00", "a/../b", "ß", "---"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := SuggestName(s); got != "" && !ValidName(got) {
			t.Errorf("SuggestName(%q) = %q is not valid", s, got)
		}
		if ValidName(s) && strings.Trim(s, "-_") == s && !strings.Contains(s, "--") && SuggestName(s) != s {
			t.Errorf("%q is valid but became %q", s, SuggestName(s))
		}
	})
}

func TestTwoFilesOfOneName(t *testing.T) {
	t.Run("newcomers", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir+"/x.db", database)
		write(t, dir+"/x.sqlite", database)
		s, problems := refreshed(t, Source{Path: dir})
		if len(s.Tables()) != 0 || reasons(problems) != "x.db: duplicate_name, x.sqlite: duplicate_name" {
			t.Fatalf("%v, %v", s.Tables(), problems)
		}
		if !slices.Equal(problems[0].Others, []string{dir + "/x.sqlite"}) {
			t.Errorf("the other is not named: %+v", problems[0])
		}
		_, err := s.Get("x")
		if err == nil || !strings.Contains(err.Error(), "several files") {
			t.Errorf("Get tells nothing of it: %v", err)
		}
	})
	t.Run("one was backed up", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir+"/x.db", database)
		write(t, dir+"/x.sqlite", database)
		if err := WriteRecord(dir+"/x.db", Record{Table: "x"}); err != nil {
			t.Fatal(err)
		}
		s, problems := refreshed(t, Source{Path: dir})
		if got, err := s.Get("x"); err != nil || got.Path != dir+"/x.db" {
			t.Errorf("%+v, %v", got, err)
		}
		if reasons(problems) != "x.sqlite: duplicate_name" {
			t.Errorf("%v", problems)
		}
	})
	t.Run("hard link", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir+"/x.db", database)
		if err := os.Link(dir+"/x.db", dir+"/y.db"); err != nil {
			t.Fatal(err)
		}
		s, problems := refreshed(t, Source{Path: dir})
		if len(s.Tables()) != 0 || reasons(problems) != "x.db: hard_link, y.db: hard_link" {
			t.Errorf("%v, %v", s.Tables(), problems)
		}
	})
	t.Run("a linked folder is no second file", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir+"/real/x.db", database)
		if err := os.Symlink("real", dir+"/alias"); err != nil {
			t.Fatal(err)
		}
		s, problems := refreshed(t, Source{Path: dir + "/real"}, Source{Path: dir + "/alias"})
		if names(s.Tables()) != "x" || len(problems) != 0 {
			t.Errorf("%v, %v", s.Tables(), problems)
		}
	})
}

func TestSelect(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"app-1", "app-2", "mail"} {
		write(t, dir+"/"+name+".db", database)
	}
	s, _ := refreshed(t, Source{Path: dir})
	cases := []struct {
		patterns []string
		want     string
		err      string
	}{
		{nil, "app-1 app-2 mail", ""},
		{[]string{"*"}, "app-1 app-2 mail", ""},
		{[]string{"mail", "app-*", "mail"}, "app-1 app-2 mail", ""},
		{[]string{"app-?"}, "app-1 app-2", ""},
		{[]string{"mial"}, "", `no table "mial"; did you mean "mail"?`},
		{[]string{"zzzzzzzz"}, "", `no table "zzzzzzzz"`},
		{[]string{"z*"}, "", `no table matches "z*"`},
		{[]string{"[a"}, "", `pattern "[a": syntax error in pattern`},
		{[]string{"../mail"}, "", `no table "../mail"`},
	}
	for _, c := range cases {
		got, err := s.Select(c.patterns)
		if names(got) != c.want {
			t.Errorf("%q: %q, want %q", c.patterns, names(got), c.want)
		}
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: error %v, want %q", c.patterns, err, c.err)
		}
	}
	if _, err := s.Select([]string{"mial"}); !errors.Is(err, ErrUnknown) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not ErrUnknown", err)
	}
	empty, _ := refreshed(t)
	if got, err := empty.Select([]string{"*"}); err != nil || len(got) != 0 {
		t.Errorf("an empty shelf: %v, %v", got, err)
	}
}

func TestSettingsOfASourceOverrideTheDefaults(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.db", database)
	write(t, dir+"/b.db", database)
	window, err := ParseWindow("02:00-04:00 UTC")
	if err != nil {
		t.Fatal(err)
	}
	sources := []Source{{Path: dir}, {Path: dir + "/b.db", Settings: Settings{Threshold: 0.5, Windows: []Window{window}, Schedules: map[string]string{"compact": "rate(1 day)"}}}}
	s, err := Open(sources, Options{Defaults: Settings{MaxPause: 2 * time.Second, Schedules: map[string]string{"backup": "rate(1 hour)", "compact": "rate(2 hours)"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, b := s.Tables()[0].Settings, s.Tables()[1].Settings
	if a.Threshold != 0.10 || a.MaxPause != 2*time.Second || a.RPO != 12*time.Hour || a.Windows != nil || a.Schedules["compact"] != "rate(2 hours)" {
		t.Errorf("defaults: %+v", a)
	}
	if b.Threshold != 0.5 || len(b.Windows) != 1 || b.Schedules["compact"] != "rate(1 day)" || b.Schedules["backup"] != "rate(1 hour)" {
		t.Errorf("own settings: %+v", b)
	}
}

func TestALostTableIsMissed(t *testing.T) {
	for _, source := range []string{"", "/a.db", "/*.db"} {
		t.Run("source "+source, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir+"/b.db", database)
			if err := WriteRecord(dir+"/a.db", Record{Table: "a", Key: "k"}); err != nil {
				t.Fatal(err)
			}
			s, problems := refreshed(t, Source{Path: dir + source})
			got, err := s.Get("a")
			if err != nil || !got.Missing || got.Path != dir+"/a.db" {
				t.Fatalf("%+v, %v", got, err)
			}
			if reasons(problems) != "a.db: missing" {
				t.Errorf("%v", problems)
			}
			if err := ForgetRecord(got.Path); err != nil {
				t.Fatal(err)
			}
			if s, _ := refreshed(t, Source{Path: dir + source}); strings.Contains(names(s.Tables()), "a") {
				t.Error("it was forgotten and is still missed")
			}
		})
	}
}

func TestADamagedTableStaysOnTheShelf(t *testing.T) {
	for name, content := range map[string][]byte{"empty": nil, "text": []byte("hello hello hello hello")} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir+"/a.db", content)
			if s, _ := refreshed(t, Source{Path: dir}); len(s.Tables()) != 0 {
				t.Fatalf("never backed up, yet a table: %v", s.Tables())
			}
			if err := WriteRecord(dir+"/a.db", Record{Table: "a"}); err != nil {
				t.Fatal(err)
			}
			s, problems := refreshed(t, Source{Path: dir})
			if got, err := s.Get("a"); err != nil || got.Missing {
				t.Errorf("%+v, %v", got, err)
			}
			if len(problems) != 1 {
				t.Errorf("%v", problems)
			}
		})
	}
}

func TestPlace(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.db", database)
	s, _ := refreshed(t, Source{Path: dir}, Source{Path: dir + "/deep/main.sqlite", Name: "other"}, Source{Path: dir + "/*.nothing"})
	for name, want := range map[string]string{"a": dir + "/a.db", "gone": dir + "/gone.db"} {
		if got, err := s.Place(name); err != nil || got.Path != want || got.Missing != (name == "gone") {
			t.Errorf("Place(%q) = %+v, %v", name, got, err)
		}
	}
	if got, err := s.Place("../x"); !errors.Is(err, ErrUnknown) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := s.Place("other"); err == nil {
		t.Errorf("two places, yet %+v", got)
	}
	two, _ := refreshed(t, Source{Path: dir}, Source{Path: t.TempDir()})
	if got, err := two.Place("gone"); !errors.Is(err, ErrUnknown) {
		t.Errorf("two folders, yet %+v, %v", got, err)
	}
}

func TestTenThousandFiles(t *testing.T) {
	dir := t.TempDir()
	for i := range 10_000 {
		write(t, fmt.Sprintf("%s/t%d.db", dir, i), database)
	}
	s, problems := refreshed(t, Source{Path: dir})
	if len(s.Tables()) != 10_000 || len(problems) != 0 {
		t.Errorf("%d tables, %d problems", len(s.Tables()), len(problems))
	}
	if _, err := s.Refresh(t.Context()); err != nil || len(s.Tables()) != 10_000 {
		t.Errorf("again: %d tables, %v", len(s.Tables()), err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Refresh(cancelled); !errors.Is(err, context.Canceled) || len(s.Tables()) != 10_000 {
		t.Errorf("cancelled: %d tables, %v", len(s.Tables()), err)
	}
}
