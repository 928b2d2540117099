package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tablekeeper/cmd/tablekeeper/settings"
)

func planned(t *testing.T, sources ...settings.Source) ([][3]string, error) {
	t.Helper()
	cfg := settings.Config{Tables: sources}
	tmpl, err := readTemplate(cfg)
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := (&fleet{cfg: cfg, template: tmpl}).readPlan()
	var all [][3]string
	for _, j := range jobs {
		all = append(all, [3]string{j.Name, j.Expression.String(), string(j.Event)})
	}
	return all, err
}

func TestPlanOfTheTemplate(t *testing.T) {
	got, err := planned(t, settings.Source{Path: "/data"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([3]string{"backup", "rate(6 hours)", `{"tables":["*"]}`}, got[1]); diff != "" {
		t.Error(diff)
	}
}

func TestPlanOfTables(t *testing.T) {
	hourly := map[string]string{"backup": "rate(1 hour)"}
	got, err := planned(t,
		settings.Source{Path: "/srv/shop/orders.db", Schedules: hourly},
		settings.Source{Path: "/srv/*/data/*", Schedules: hourly},
		settings.Source{Path: "/srv/crm", Schedules: map[string]string{"backup": "cron(0 3 * * ? *)"}},
		settings.Source{Path: "/other/crm", Schedules: map[string]string{"backup": "cron(0 4 * * ? *)"}})
	if err != nil {
		t.Fatal(err)
	}
	own := map[string][2]string{}
	for _, j := range got {
		own[j[0]] = [2]string{j[1], j[2]}
	}
	for name, want := range map[string][2]string{
		"backup":        {"rate(6 hours)", `{"schedule":"","tables":["*"]}`},
		"backup-orders": {"rate(1 hour)", `{"schedule":"rate(1 hour)","tables":["*"]}`},
		"backup-crm":    {"cron(0 3 * * ? *)", `{"schedule":"cron(0 3 * * ? *)","tables":["*"]}`},
		"backup-crm-2":  {"cron(0 4 * * ? *)", `{"schedule":"cron(0 4 * * ? *)","tables":["*"]}`},
		"compact":       {"rate(6 hours)", `{"tables":["*"]}`},
	} {
		if diff := cmp.Diff(want, own[name]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	for function, expression := range map[string]string{"backup": "every hour", "bakup": "rate(1 hour)", "verify": "rate(0 days)"} {
		_, err := planned(t, settings.Source{Path: "/data", Schedules: map[string]string{function: expression}})
		if code, _ := explain(err); code != exitUsage || !strings.Contains(err.Error(), function) {
			t.Errorf("%s %s: %v", function, expression, err)
		}
	}
}

func TestScheduleFieldOfAnEvent(t *testing.T) {
	event := json.RawMessage(`{"force":true,"tables":["*"]}`)
	rest, expression, ok := takeSchedule(withSchedule(event, "rate(1 hour)"))
	if !ok || expression != "rate(1 hour)" || string(rest) != string(event) {
		t.Errorf("%s %q %t", rest, expression, ok)
	}
	for _, event := range []string{`{"tables":["*"]}`, `{"schedule":5}`, `[]`, ``, `{`} {
		if rest, _, ok := takeSchedule(json.RawMessage(event)); ok || string(rest) != event {
			t.Errorf("%s: %s %t", event, rest, ok)
		}
	}
}
