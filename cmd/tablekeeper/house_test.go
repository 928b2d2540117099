package main

import (
	"testing"

	"tablekeeper"
	"tablekeeper/jobs/template"
)

func TestScrubRateOfTheTemplate(t *testing.T) {
	for value, want := range map[string]int64{"": 0, "0": 0, "40": 40e6, "0.5": 5e5} {
		overrides := map[string]string{}
		if value != "" {
			overrides["ScrubRate"] = value
		}
		read, err := template.Read("template.yaml", tablekeeper.Template, overrides)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := (&house{fleet: &fleet{template: read}}).scrubRate(); err != nil || got != want {
			t.Errorf("ScrubRate %q: %d bytes a second, %v", value, got, err)
		}
	}
	for _, value := range []string{"-1", "0.0000001", "1e300", "fast"} {
		read, err := template.Read("template.yaml", tablekeeper.Template, map[string]string{"ScrubRate": value})
		if err == nil {
			_, err = (&house{fleet: &fleet{template: read}}).scrubRate()
		}
		if err == nil {
			t.Errorf("ScrubRate %q is taken", value)
		}
	}
}
