package settings

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

const full = `# everything
version: 1
tables:
  - /srv/plain
  - path: data/*.db
    name: orders
    threshold: 25%
    max_pause: 500ms
    rpo: 2d
    windows: ["02:00-05:00 Europe/Berlin"]
    schedules: {backup: rate(1 hour)}
bucket: s3://b/p?region=${REGION}
second_bucket: file:///second
state: /var/lib/tk
encryption:
  recipients: [age1abc]
  identity_file: id.txt
credentials: {access_key_id_file: a, secret_access_key_file: s}
parameters:
  CompactThreshold: 0.2
  Enabled: true
  BackupSchedule: rate(6 hours)
log: {format: json, level: debug}
`

func TestParse(t *testing.T) {
	got, err := Parse("t.yaml", []byte(full), env("REGION", "eu: 1"))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Version: 1,
		Tables: []Source{{Path: "/srv/plain"}, {
			Path: "data/*.db", Name: "orders", Threshold: 0.25, MaxPause: Duration(500 * time.Millisecond),
			RPO: Duration(48 * time.Hour), Windows: []string{"02:00-05:00 Europe/Berlin"},
			Schedules: map[string]string{"backup": "rate(1 hour)"},
		}},
		Bucket: "s3://b/p?region=eu: 1", SecondBucket: "file:///second", State: "/var/lib/tk",
		Encryption:  Encryption{Recipients: []string{"age1abc"}, IdentityFile: "id.txt"},
		Credentials: Credentials{AccessKeyIDFile: "a", SecretAccessKeyFile: "s"},
		Parameters:  map[string]Scalar{"CompactThreshold": "0.2", "Enabled": "true", "BackupSchedule": "rate(6 hours)"},
		Log:         Log{Format: "json", Level: "debug"},
	}
	origin := got.Origins["log.level"]
	got.Origins = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if origin != "t.yaml:23" {
		t.Errorf("origin of log.level is %q", origin)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want, hint string }{
		"unknown key":         {"version: 1\nbuckit: x\n", `t.yaml:2: unknown key "buckit"`, "did you mean `bucket`?"},
		"unknown nested key":  {"log:\n  fromat: json\n", `t.yaml:2: unknown key "fromat"`, "did you mean `format`?"},
		"unknown in a list":   {"tables:\n  - path: x\n    treshold: 1\n", `t.yaml:3: unknown key "treshold"`, "`threshold`"},
		"nothing is near":     {"log: {zzzzzzzz: 1}\n", `unknown key "zzzzzzzz"`, "known here: format, level"},
		"unset variable":      {"version: 1\nbucket: file:///${NOPE}/x\n", "t.yaml:2: variable NOPE is not set", "set it"},
		"broken reference":    {"bucket: ${NOPE\n", `t.yaml:1: "${NOPE" is not a reference`, "$${"},
		"default in shell":    {"bucket: ${A:-b}\n", `is not a reference`, "${NAME}"},
		"bad ratio":           {"tables: [{path: x, threshold: 12}]\n", "is not a share between 0 and 1", ""},
		"bad duration":        {"tables: [{path: x, rpo: soon}]\n", "is not a length of time", ""},
		"negative duration":   {"tables: [{path: x, rpo: -1s}]\n", "is not a length of time", ""},
		"tables is a mapping": {"tables: {a: b}\n", "t.yaml:1:", ""},
		"not a mapping":       {"- a\n- b\n", "t.yaml:1: this is not a mapping", "tablekeeper init"},
		"just text":           {"hello\n", "t.yaml:1: this is not a mapping", ""},
		"duplicate key":       {"bucket: a\nbucket: b\n", "t.yaml:2:", ""},
		"broken yaml":         {"bucket: [a\n", "t.yaml:1:", ""},
		"tab":                 {"log:\n\tformat: json\n", "t.yaml:2:", ""},
		"two documents":       {"bucket: a\n---\nbucket: b\n", "more than one YAML document", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("t.yaml", []byte(c.text), env())
			var inv *InvalidError
			if !errors.As(err, &inv) || !errors.Is(err, ErrInvalid) {
				t.Fatalf("error is %v", err)
			}
			if !strings.Contains(inv.Text, c.want) || !strings.Contains(inv.Try, c.hint) || inv.Try == "" {
				t.Errorf("text %q hint %q; want %q, %q", inv.Text, inv.Try, c.want, c.hint)
			}
		})
	}
}

func TestParseShowsTheLineWithoutTheSecret(t *testing.T) {
	_, err := Parse("t.yaml", []byte("bucket: ${SECRET}\nlog: ${SECRET}\n"), env("SECRET", "hunter2"))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error is %v", err)
	}
}

func TestParseExpands(t *testing.T) {
	for text, want := range map[string]string{
		"bucket: $${X}":               "${X}",
		"bucket: $5":                  "$5",
		"bucket: '${A}-${A}'":         "1-1",
		"bucket: |-\n  ${A}":          "1",
		"bucket: \"${B}\"":            "a: b\nstate: /etc",
		"bucket: &x ${A}\nstate: *x ": "1",
	} {
		cfg, err := Parse("t.yaml", []byte(text), env("A", "1", "B", "a: b\nstate: /etc"))
		if err != nil || cfg.Bucket != want {
			t.Errorf("%q is %q, %v; want %q", text, cfg.Bucket, err, want)
		}
	}
}

func TestParseEmpty(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "null\n"} {
		if _, err := Parse("t.yaml", []byte(text), env()); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(full)
	f.Add("tables: [{path: ${A}}]")
	f.Add("a: &a [*a]")
	f.Add("tables:\n- path: [\n")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := Parse("t.yaml", []byte(text), env("REGION", "r", "A", "${A}")); err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

func TestNearest(t *testing.T) {
	names := []string{"orders", "users", "sessions"}
	for word, want := range map[string]string{"order": "orders", "usrs": "users", "session": "sessions", "zebra": ""} {
		if got := Nearest(word, names); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
