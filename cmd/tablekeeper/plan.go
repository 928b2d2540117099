package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"tablekeeper/jobs"
	"tablekeeper/jobs/schedule"
	"tablekeeper/storage/shelf"
)

// readPlan makes the jobs: those of the template, and one for each schedule that tables have of their own.
func (f *fleet) readPlan() ([]schedule.Job, error) {
	var planned []schedule.Job
	for _, fn := range f.template.Functions {
		planned = append(planned, jobs.Schedules(fn)...)
	}
	fromTemplate := planned
	own := map[string]bool{}
	for _, source := range f.cfg.Tables {
		for _, function := range slices.Sorted(maps.Keys(source.Schedules)) {
			expression := source.Schedules[function]
			if own[function+expression] {
				continue
			}
			job, err := f.ownJob(function, expression)
			if err != nil {
				return nil, usage(hintIn(err), "%s: tables %s: %w", f.cfg.Origin("tables"), source.Path, err)
			}
			job.Name = freeName(planned, function+"-"+shelf.SuggestName(shelf.BaseName(strings.TrimRight(source.Path, "/*?[]"))))
			own[function], own[function+expression] = true, true
			planned = append(planned, job)
		}
	}
	for i, job := range fromTemplate {
		if own[job.Function] && forAll(job.Event) {
			planned[i].Event = withSchedule(job.Event, "")
		}
	}
	return planned, nil
}

func hintIn(err error) string {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		return hinted.Hint()
	}
	return ""
}

// ownJob is the job of those tables that have this schedule instead of the template's.
func (f *fleet) ownJob(function, expression string) (schedule.Job, error) {
	if fn, ok := f.template.Function(function); !ok || fn.Name != function {
		return schedule.Job{}, fmt.Errorf("schedules: no function is named %q; there are %s", function, strings.Join(f.template.Names(), ", "))
	}
	zone := "UTC"
	if z, err := f.template.Text("ScheduleTimezone"); err == nil {
		zone = z
	}
	x, err := schedule.Parse(expression, zone)
	if err != nil {
		return schedule.Job{}, fmt.Errorf("schedule of %s: %w", function, err)
	}
	return schedule.Job{Function: function, Expression: x, Event: withSchedule(nil, expression)}, nil
}

// freeName is name, or name-2, name-3, ... if a job has it already.
func freeName(planned []schedule.Job, name string) string {
	name = strings.Trim(name, "-")
	for n, try := 2, name; ; n++ {
		if !slices.ContainsFunc(planned, func(j schedule.Job) bool { return j.Name == try }) {
			return try
		}
		try = fmt.Sprintf("%s-%d", name, n)
	}
}

// forAll tells whether an event asks for every table.
func forAll(event json.RawMessage) bool {
	var e struct {
		Tables []string `json:"tables"`
	}
	return json.Unmarshal(event, &e) == nil && slices.Equal(e.Tables, []string{"*"})
}

// scheduleField is a field that this program adds to the event of a job: of the tables that the event names, it is about those with that
// schedule of their own for the function, or, if it is empty, those without one.
const scheduleField = "schedule"

// withSchedule adds the field to an event, which is a JSON object or nothing.
func withSchedule(event json.RawMessage, expression string) json.RawMessage {
	fields := map[string]any{}
	// The template's reader has seen to it that an input is an object.
	_ = json.Unmarshal(event, &fields)
	if len(fields) == 0 {
		fields["tables"] = []string{"*"}
	}
	fields[scheduleField] = expression
	out, _ := json.Marshal(fields) // what was decoded from JSON can be encoded
	return out
}

// takeSchedule takes the field out of an event again.
func takeSchedule(event json.RawMessage) (rest json.RawMessage, expression string, ok bool) {
	fields := map[string]json.RawMessage{}
	if json.Unmarshal(event, &fields) != nil || json.Unmarshal(fields[scheduleField], &expression) != nil {
		return event, "", false
	}
	delete(fields, scheduleField)
	rest, err := json.Marshal(fields)
	if err != nil {
		return event, "", false
	}
	return rest, expression, true
}
