package main

import (
	"bytes"
	"strings"
	"testing"

	"tablekeeper/cmd/tablekeeper/screen"
)

// atTerminal is a program that takes what is typed for a person's.
func atTerminal(typed string) (*program, *bytes.Buffer) {
	var asked bytes.Buffer
	p := newProgram(strings.NewReader(typed), &bytes.Buffer{}, &asked)
	p.screen = screen.New(nil, &bytes.Buffer{}, &asked, screen.Options{})
	p.screen.Interactive = true
	return p, &asked
}

func TestConfirm(t *testing.T) {
	for typed, want := range map[string]int{"orders\n": 0, " orders \n": 0, "orders": 0, "yes\n": exitUnsure, "": exitUnsure, "order\n": exitUnsure} {
		p, asked := atTerminal(typed)
		code := 0
		if err := p.confirm("orders"); err != nil {
			code, _ = explain(err)
		}
		if code != want || !strings.Contains(asked.String(), "Type orders to go on") {
			t.Errorf("%q: status %d, want %d; asked %q", typed, code, want, asked)
		}
	}
}

func TestChoose(t *testing.T) {
	found := []discovery{{Name: "orders", Path: "/o"}, {Name: "users", Path: "/u"}, {Name: "1", Path: "/1"}}
	for typed, want := range map[string]string{
		"all\n": "orders users 1", "2\n": "users", "users orders\n": "users orders", "3, 2": "1 users", "1\n": "1",
		"\n": "status 22", "": "status 22", "4\n": "status 10", "nobody\n": "status 10",
	} {
		p, _ := atTerminal(typed)
		chosen, err := p.choose(found, nil, discoverFlags{})
		var names []string
		for _, d := range chosen {
			names = append(names, d.Name)
		}
		got := strings.Join(names, " ")
		if err != nil {
			code, _ := explain(err)
			got = screen.Text("status %d", code).Text
		}
		if got != want {
			t.Errorf("%q: %s, want %s", typed, got, want)
		}
	}
}
