package template

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/token"
)

// Parameter is one parameter of the template, with the value it has here.
type Parameter struct {
	Name        string
	Type        string // String, Number, ...
	Description string
	Default     string
	HasDefault  bool
	Allowed     []string // nil: everything that fits the rest
	Pattern     string   // a regular expression for the whole value; "" is none
	Min, Max    string   // of a Number; "" is none
	Value       string
	Overridden  bool

	at *token.Token
}

// Set reports whether the parameter has a value: given, or by default.
func (p Parameter) Set() bool { return p.Overridden || p.HasDefault }

func (s *source) readParameters(section node, overrides map[string]string) ([]Parameter, error) {
	var parameters []Parameter
	for _, name := range section.keys {
		p, err := s.readParameter(name, section.m[name])
		if err != nil {
			return nil, err
		}
		p.Value = p.Default
		if v, ok := overrides[name]; ok {
			p.Value, p.Overridden = v, true
		}
		if p.Set() {
			if err := p.check(s); err != nil {
				return nil, err
			}
		}
		parameters = append(parameters, p)
	}
	for _, name := range sortedKeys(overrides) {
		if !slices.Contains(section.keys, name) {
			return nil, &Error{File: s.file, Problem: "the template has no parameter " + strconv.Quote(name),
				Try: didYouMean("", name, section.keys)}
		}
	}
	return parameters, nil
}

func (s *source) readParameter(name string, n node) (Parameter, error) {
	if n.kind != kindMap {
		return Parameter{}, s.errorAt(n.at, "parameter "+name+" needs a Type", "")
	}
	p := Parameter{Name: name, at: n.at, Type: n.m["Type"].text, Description: n.m["Description"].text, Pattern: n.m["AllowedPattern"].text,
		Min: n.m["MinValue"].text, Max: n.m["MaxValue"].text}
	if p.Type == "" {
		return Parameter{}, s.errorAt(n.at, "parameter "+name+" needs a Type", "")
	}
	if d, ok := n.m["Default"]; ok {
		p.Default, p.HasDefault = d.text, true
	}
	for _, a := range n.m["AllowedValues"].list {
		p.Allowed = append(p.Allowed, a.text)
	}
	return p, nil
}

// check holds the value against what the template allows.
func (p Parameter) check(s *source) error {
	problem, try := "", ""
	switch {
	case p.Allowed != nil && !slices.Contains(p.Allowed, p.Value):
		problem, try = "is not one of "+strings.Join(p.Allowed, ", "), didYouMean("", p.Value, p.Allowed)
	case p.Type == "Number":
		problem = p.checkNumber()
	case p.Pattern != "":
		problem = p.checkPattern()
	}
	if problem == "" {
		return nil
	}
	return s.errorAt(p.at, fmt.Sprintf("parameter %s: %q %s", p.Name, p.Value, problem), try)
}

func (p Parameter) checkNumber() string {
	n, err := strconv.ParseFloat(p.Value, 64)
	if err != nil || n != n {
		return "is not a number"
	}
	if lowest, err := strconv.ParseFloat(p.Min, 64); err == nil && n < lowest {
		return "is below " + p.Min
	}
	if highest, err := strconv.ParseFloat(p.Max, 64); err == nil && n > highest {
		return "is above " + p.Max
	}
	return ""
}

func (p Parameter) checkPattern() string {
	re, err := regexp.Compile(`\A(?:` + p.Pattern + `)\z`)
	if err != nil {
		return "" // CloudFormation's dialect is Java's; what Go cannot read, AWS will check
	}
	if !re.MatchString(p.Value) {
		return "does not match " + p.Pattern
	}
	return ""
}

// Parameter finds a parameter by name.
func (t *Template) Parameter(name string) (Parameter, bool) {
	i := slices.IndexFunc(t.Parameters, func(p Parameter) bool { return p.Name == name })
	if i < 0 {
		return Parameter{}, false
	}
	return t.Parameters[i], true
}

// Text is the value of a parameter; an error if the template has none of that name, or no value for it.
func (t *Template) Text(name string) (string, error) {
	p, ok := t.Parameter(name)
	if !ok {
		return "", &Error{File: t.File, Problem: "the template has no parameter " + name, Try: "add it, or start from the built-in template"}
	}
	if !p.Set() {
		return "", &Error{File: t.File, Problem: "parameter " + name + " has no value", Try: "set it under parameters: in tablekeeper.yaml"}
	}
	return p.Value, nil
}

// Number is the value of a numeric parameter.
func (t *Template) Number(name string) (float64, error) {
	text, err := t.Text(name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, &Error{File: t.File, Problem: fmt.Sprintf("parameter %s: %q is not a number", name, text)}
	}
	return n, nil
}

// Duration is the value of a parameter such as 1s or 12h; 0 if it is empty.
func (t *Template) Duration(name string) (time.Duration, error) {
	text, err := t.Text(name)
	if err != nil || text == "" {
		return 0, err
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, &Error{File: t.File, Problem: fmt.Sprintf("parameter %s: %q is not a duration", name, text), Try: "for example 250ms, 1s or 12h"}
	}
	return d, nil
}

// Days is the value of a parameter that counts days of 24 hours.
func (t *Template) Days(name string) (time.Duration, error) {
	n, err := t.Number(name)
	if err != nil {
		return 0, err
	}
	if n < 0 || n > 36500 {
		return 0, &Error{File: t.File, Problem: fmt.Sprintf("parameter %s: %g days is out of range", name, n)}
	}
	return time.Duration(n * 24 * float64(time.Hour)), nil
}

// Rate is the value of a parameter in MB a second, in bytes a second; 0: no limit.
func (t *Template) Rate(name string) (int64, error) {
	const mb, most = 1e6, 1e6
	n, err := t.Number(name)
	if err != nil {
		return 0, err
	}
	if n < 0 || n > most || n > 0 && n*mb < 1 {
		return 0, &Error{File: t.File, Problem: fmt.Sprintf("parameter %s: %g MB a second is out of range", name, n), Try: "0 for no limit"}
	}
	return int64(n * mb), nil
}

// RPO is the age at which a table's newest backup is overdue: BackupRPO, or twice the longest interval between the
// enabled schedules of backup. 0 means never: there is no schedule to compute it from.
func (t *Template) RPO(now time.Time) (time.Duration, error) {
	if _, ok := t.Parameter("BackupRPO"); ok {
		if d, err := t.Duration("BackupRPO"); err != nil || d > 0 {
			return d, err
		}
	}
	backup, _ := t.Function("backup")
	var shortest time.Duration
	for _, s := range backup.Schedules {
		if d := s.Expression.Interval(now); s.Enabled && d > 0 && (shortest == 0 || d < shortest) {
			shortest = d
		}
	}
	return 2 * shortest, nil
}
