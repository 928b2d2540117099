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
		h.hear(e)
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
