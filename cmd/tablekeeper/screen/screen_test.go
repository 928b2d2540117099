package screen

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain, ünï ✓":   "plain, ünï ✓",
		"a\x1b[2Jb":      `a\x1b[2Jb`,
		"bad\xffbyte":    `bad\xffbyte`,
		"two\nlines\t":   "two\nlines\t",
		"\u202eevil":     `\u202eevil`,
		"nul\x00":        `nul\x00`,
		"back\rforth\b":  `back\rforth\b`,
		"a\uFFFDb\x07!":  `a�b\a!`,
		"quote ' and \"": "quote ' and \"",
	} {
		if got := Clean(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

func TestNothingElseOnStandardOutput(t *testing.T) {
	var out, log bytes.Buffer
	s := New(nil, &out, &log, Options{})
	s.Note("a note on %s", "x")
	s.Warn("beware: %v", errors.New("e\x1b[1m"))
	s.Line("result %s", Status("backed_up"))
	if out.String() != "result ✓ backed up\n" {
		t.Errorf("out is %q", out.String())
	}
	if log.String() != "a note on x\nbeware: e\\x1b[1m\n" {
		t.Errorf("log is %q", log.String())
	}
}

func TestJSONKeepsWordsAway(t *testing.T) {
	var out, log bytes.Buffer
	s := New(nil, &out, &log, Options{JSON: true})
	s.Line("words")
	s.Note("words")
	s.Table([]string{"a"}, [][]Cell{{Text("1")}})
	if err := s.Record(map[string]int{"a": 1}); err != nil {
		t.Fatal(err)
	}
	if err := s.Document(map[string]int{"b": 2}); err != nil {
		t.Fatal(err)
	}
	if out.String() != "{\"a\":1}\n{\n  \"b\": 2\n}\n" || log.Len() > 0 {
		t.Errorf("out %q log %q", out.String(), log.String())
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	s := New(nil, &out, &out, Options{})
	s.Table([]string{"table", "size>", "status"}, [][]Cell{
		{Text("orders"), Text("%s", Bytes(1<<20)), Status("failed")},
		{Text("a\nb"), Text("%s", Bytes(5)), Status("skipped")},
	})
	want := "TABLE      SIZE  STATUS\norders  1.0 MiB  ✗ failed\na b         5 B  – skipped\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestColourIsNeverAlone(t *testing.T) {
	for _, word := range []string{"compacted", "skipped", "degraded", "failed", "running", "unheard_of"} {
		c := Status(word)
		if plain := c.render(false); !strings.HasSuffix(plain, strings.ReplaceAll(word, "_", " ")) || strings.Contains(plain, "\x1b") {
			t.Errorf("%s is %q", word, plain)
		}
		if c.Tone != Plain && !strings.Contains(c.render(true), "\x1b[") {
			t.Errorf("%s has no colour", word)
		}
	}
}

func TestProgress(t *testing.T) {
	now := time.Unix(0, 0)
	clock := func() time.Time { return now }
	var log bytes.Buffer
	s := New(nil, &log, &log, Options{})
	if p := s.Progress(clock); p != nil {
		t.Fatal("progress off a terminal")
	}
	var none *Progress
	none.Show("x", 1, 2)
	none.Done()

	s.live = true
	p := s.Progress(clock)
	now = now.Add(10 * time.Second)
	p.Show("backup", 1, 4)
	p.Show("too soon", 2, 4)
	s.Note("between")
	p.Done()
	want := "backup  ██████░░░░░░░░░░░░░░░░░░  25 %  30 s left\r\x1b[Kbetween\n"
	if log.String() != want {
		t.Errorf("got %q want %q", log.String(), want)
	}
}

func TestWords(t *testing.T) {
	now := time.Unix(1e9, 0)
	for got, want := range map[string]string{
		Percent(0): "0 %", Percent(0.001): "<1 %", Percent(0.5): "50 %", Percent(0.9999): ">99 %", Percent(1): "100 %",
		Ago(time.Time{}, now): "never", Ago(now.Add(-time.Hour), now): "60 min ago", Ago(now.Add(72*time.Hour), now): "in 3 d",
		Span(0): "0 ms", Span(1500 * time.Millisecond): "1.5 s", Span(90 * time.Second): "90 s", Span(30 * time.Hour): "30 h",
		Count(1, "table"): "1 table", Count(1000, "table"): "1,000 tables", Count(0, "backup"): "0 backups", Bytes(-2048): "-2.0 KiB",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
