package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/parser"

	"tablekeeper/jobs/schedule"
)

// MaxSize bounds a template, as CloudFormation does (1 MiB).
const MaxSize = 1 << 20

// Read reads a template. file is its name for messages; overrides are values for its parameters. Errors are *Error, with
// the place and the lines around it.
func Read(file string, text []byte, overrides map[string]string) (*Template, error) {
	s := newSource(file, text)
	root, err := s.parse(text)
	if err != nil {
		return nil, err
	}
	t := &Template{File: file}
	if t.Parameters, err = s.readParameters(root.m["Parameters"], overrides); err != nil {
		return nil, err
	}
	r := &resolver{source: s, parameters: map[string]Parameter{}, resources: root.m["Resources"],
		conditions: root.m["Conditions"], mappings: root.m["Mappings"], busy: map[string]bool{}}
	for _, p := range t.Parameters {
		r.parameters[p.Name] = p
	}
	if err := t.readFunctions(r, root); err != nil {
		return nil, err
	}
	return t, nil
}

func (s *source) parse(text []byte) (node, error) {
	if len(text) > MaxSize {
		return node{}, &Error{File: s.file, Problem: fmt.Sprintf("is larger than %d bytes", MaxSize)}
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return node{}, s.syntax(err)
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return node{}, &Error{File: s.file, Problem: "is not one YAML document"}
	}
	root, err := s.tree(file.Docs[0].Body, 0)
	if err != nil {
		return node{}, err
	}
	if root.kind != kindMap || root.m["Resources"].kind != kindMap {
		return node{}, &Error{File: s.file, Problem: "has no Resources: it is not a CloudFormation template"}
	}
	return root, nil
}

func (t *Template) readFunctions(r *resolver, root node) error {
	globals, err := r.resolve(root.m["Globals"].m["Function"])
	if err != nil {
		return err
	}
	for _, id := range r.resources.keys {
		resource := r.resources.m[id]
		if resource.m["Type"].text != "AWS::Serverless::Function" {
			continue
		}
		if c, ok := resource.m["Condition"]; ok {
			if v, err := r.condition(c); err != nil {
				return err
			} else if v.text == "false" {
				continue
			}
		}
		properties, err := r.resolve(resource.m["Properties"])
		if err != nil {
			return err
		}
		f, err := t.readFunction(r, id, properties, globals)
		if err != nil {
			return err
		}
		if other, taken := t.Function(f.Name); taken {
			return r.errorAt(resource.at, id+" and "+other.LogicalID+" have the same short name "+f.Name, "")
		}
		t.Functions = append(t.Functions, f)
	}
	if len(t.Functions) == 0 {
		return &Error{File: t.File, Problem: "declares no AWS::Serverless::Function"}
	}
	return nil
}

func (t *Template) readFunction(r *resolver, id string, properties, globals value) (Function, error) {
	f := Function{LogicalID: id, Name: shortName(id), Description: properties.get("Description").text}
	either := func(key string) value {
		if v := properties.get(key); !v.missing() {
			return v
		}
		return globals.get(key)
	}
	var problems [4]error
	var timeout, memory, age int
	timeout, problems[0] = r.whole(either("Timeout"), id+".Timeout", int(DefaultTimeout/time.Second), 1, int(MaxTimeout/time.Second))
	memory, problems[1] = r.whole(either("MemorySize"), id+".MemorySize", DefaultMemoryMB, 128, 10240)
	invoke := either("EventInvokeConfig")
	f.MaxRetries, problems[2] = r.whole(invoke.get("MaximumRetryAttempts"), id+".MaximumRetryAttempts", DefaultMaxRetries, 0, MaxRetries)
	age, problems[3] = r.whole(invoke.get("MaximumEventAgeInSeconds"), id+".MaximumEventAgeInSeconds", int(DefaultMaxEventAge/time.Second), 60, 21600)
	if err := firstError(problems[:]); err != nil {
		return f, err
	}
	f.Timeout, f.MemoryMB, f.MaxEventAge = time.Duration(timeout)*time.Second, memory, time.Duration(age)*time.Second
	f.OnFailure = invoke.get("DestinationConfig", "OnFailure", "Destination").text
	f.environment(globals.get("Environment", "Variables"))
	f.environment(properties.get("Environment", "Variables"))
	return f, t.readSchedules(r, &f, properties.get("Events"))
}

// firstError keeps Read's promise that its errors are *Error: one place at a time.
func firstError(errs []error) error {
	i := slices.IndexFunc(errs, func(err error) bool { return err != nil })
	if i < 0 {
		return nil
	}
	return errs[i]
}

func shortName(id string) string {
	if name := strings.TrimSuffix(id, "Function"); name != "" {
		return strings.ToLower(name)
	}
	return strings.ToLower(id)
}

// whole is an integer that the local runner needs.
func (r *resolver) whole(v value, what string, byDefault, lowest, highest int) (int, error) {
	if v.missing() {
		return byDefault, nil
	}
	if v.kind == kindOpaque {
		return 0, r.errorAt(v.at, what+" is known to AWS alone ("+v.text+")", "give it a value or a parameter with a default")
	}
	n, err := strconv.ParseFloat(v.text, 64)
	if err != nil || v.kind != kindScalar || n != math.Trunc(n) || n < float64(lowest) || n > float64(highest) {
		return 0, r.errorAt(v.at, fmt.Sprintf("%s: %q is not a whole number from %d to %d", what, v.text, lowest, highest), "")
	}
	return int(n), nil
}

func (f *Function) environment(variables value) {
	for _, name := range variables.keys {
		v := variables.m[name]
		if f.Environment == nil {
			f.Environment = map[string]string{}
		}
		delete(f.Environment, name)
		f.Opaque = slices.DeleteFunc(f.Opaque, func(o string) bool { return o == name })
		if v.kind == kindScalar {
			f.Environment[name] = v.text
		} else {
			f.Opaque = append(f.Opaque, name)
		}
	}
}

func (t *Template) readSchedules(r *resolver, f *Function, events value) error {
	for _, id := range events.keys {
		event := events.m[id]
		switch kind := event.get("Type").text; kind {
		case "ScheduleV2", "Schedule":
			s, err := t.readSchedule(r, f.LogicalID+"."+id, event.get("Properties"))
			if err != nil {
				return err
			}
			s.ID = id
			f.Schedules = append(f.Schedules, s)
		default:
			t.Notes = append(t.Notes, fmt.Sprintf("%s.%s: an event of type %s fires on AWS alone", f.LogicalID, id, kind))
		}
	}
	return nil
}

func (t *Template) readSchedule(r *resolver, what string, p value) (Schedule, error) {
	expression := p.get("ScheduleExpression")
	if expression.missing() {
		expression = p.get("Schedule") // what the older event type calls it
	}
	timezone, state := p.get("ScheduleExpressionTimezone"), p.get("State")
	for _, v := range []value{expression, timezone, state, p.get("Input")} {
		if v.kind == kindOpaque {
			return Schedule{}, r.errorAt(v.at, what+" needs "+v.text+", which AWS alone knows", "give it a value or a parameter with a default")
		}
	}
	x, err := schedule.Parse(expression.text, timezone.text)
	if err != nil {
		e := r.errorAt(expression.at, what+": "+err.Error(), "")
		if p, ok := errors.AsType[*schedule.ParseError](err); ok {
			e.Try = p.Hint()
		}
		return Schedule{}, e
	}
	s := Schedule{Expression: x, Enabled: state.text != "DISABLED", Input: json.RawMessage(`{}`)}
	if p.get("Enabled").text == "false" {
		s.Enabled = false
	}
	if mode := p.get("FlexibleTimeWindow", "Mode").text; mode == "FLEXIBLE" {
		t.Notes = append(t.Notes, what+": the flexible time window is AWS's; here it fires on time")
	}
	if in := p.get("Input"); !in.missing() {
		s.Input = json.RawMessage(strings.TrimSpace(in.text))
		if !json.Valid(s.Input) || !bytes.HasPrefix(s.Input, []byte("{")) {
			return Schedule{}, r.errorAt(in.at, what+": Input is not a JSON object", `for example '{"tables":["*"]}'`)
		}
	}
	return s, nil
}
