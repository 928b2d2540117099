package alerts

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"tablekeeper/jobs"
	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
)

// The start of a run, its end and its failure are pinged, once each; other functions and cancelled runs are not.
func TestHeartbeat(t *testing.T) {
	pings := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { pings <- r.URL.Path }))
	defer server.Close()
	h, err := newHeartbeat(Heartbeat{URL: server.URL + "/check", AllowPrivate: true})
	if err != nil {
		t.Fatal(err)
	}
	said := func(kind, function, run string, status history.Status) events.Event {
		data, err := json.Marshal(jobs.Outcome{Function: function, RunID: run, Status: status})
		if err != nil {
			t.Fatal(err)
		}
		return events.Event{Type: kind, Data: data, Time: time.Now()}
	}
	good, bad := jobs.EventType("backup", false), jobs.EventType("backup", true)
	for _, e := range []events.Event{
		said(jobs.EventType("compact", true), "compact", "0", history.Failed),
		said(events.RunProgress, "backup", "1", ""), said(events.RunProgress, "backup", "1", ""), said(good, "backup", "1", history.Succeeded),
		said(events.RunProgress, "backup", "2", ""), said(bad, "backup", "2", history.Partial),
		said(bad, "backup", "3", history.Cancelled),
	} {
		h.hear(e, e.Time)
	}
	close(h.stages)
	for stage := range h.stages {
		if err := h.ping(t.Context(), stage); err != nil {
			t.Fatal(err)
		}
	}
	close(pings)
	var got []string
	for path := range pings {
		got = append(got, path)
	}
	want := []string{"/check/start", "/check", "/check/start", "/check/fail"}
	if len(got) != len(want) {
		t.Fatalf("pinged %q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("pinged %q, want %q", got, want)
		}
	}
}

// Two runs at a time are two starts; a receiver that hangs hears of the end when it is back; what was long ago is not pinged.
func TestHeartbeatOfManyRuns(t *testing.T) {
	h, err := newHeartbeat(Heartbeat{URL: "https://example.org"})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	hear := func(kind, run string, at time.Time) {
		data, err := json.Marshal(jobs.Outcome{Function: "backup", RunID: run})
		if err != nil {
			t.Fatal(err)
		}
		h.hear(events.Event{Type: kind, Data: data, Time: at}, now)
	}
	for range 50 {
		hear(events.RunProgress, "1", now)
		hear(events.RunProgress, "2", now)
	}
	if n := len(h.stages); n != 2 {
		t.Errorf("%d starts of 2 runs", n)
	}
	hear(jobs.EventType("backup", true), "0", now.Add(-30*24*time.Hour))
	if n := len(h.stages); n != 2 {
		t.Error("a failure of last month is pinged")
	}
	for range 50 {
		hear(jobs.EventType("backup", false), "1", now)
	}
	hear(jobs.EventType("backup", true), "2", now)
	last := ""
	for range len(h.stages) {
		last = <-h.stages
	}
	if last != failed {
		t.Errorf("the last ping is %q", last)
	}
}
