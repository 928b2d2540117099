package alerts

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"tablekeeper/jobs"
	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
)

var start = time.Date(2026, 5, 1, 6, 0, 0, 0, time.UTC)

// ended is the event at the end of a run; each result is "table status reason".
func ended(t *testing.T, at time.Time, function string, results ...[3]string) events.Event {
	t.Helper()
	o := jobs.Outcome{Function: function, RunID: "run-" + at.Format("150405")}
	for _, r := range results {
		report := fmt.Sprintf(`{"table":%q,"status":%q,"reason":%q,"detail":"because of %s"}`, r[0], r[1], r[2], r[2])
		o.Results = append(o.Results, history.Entry{Table: r[0], Status: r[1], Reason: r[2], Report: json.RawMessage(report)})
	}
	data, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return events.Event{Type: events.Prefix + function, Time: at, Data: data}
}

func one(t *testing.T, notices []Notice) Notice {
	t.Helper()
	if len(notices) != 1 {
		t.Fatalf("%d notices, want 1: %+v", len(notices), notices)
	}
	return notices[0]
}

func none(t *testing.T, notices []Notice) {
	t.Helper()
	if len(notices) != 0 {
		t.Fatalf("told: %+v", notices)
	}
}

func TestToldOnceRepeatedAndResolved(t *testing.T) {
	b := newBook(Timing{})
	b.apply(ended(t, start, "backup", [3]string{"a", "failed", "corrupt"}))
	none(t, b.due(start.Add(9*time.Second)))
	n := one(t, b.due(start.Add(10*time.Second)))
	if n.State != Firing || n.Severity != Critical || n.Title != "backup fails: corrupt (a)" || n.Detail != "because of corrupt" {
		t.Errorf("%+v", n)
	}
	b.apply(ended(t, start.Add(time.Hour), "backup", [3]string{"a", "failed", "corrupt"}))
	none(t, b.due(start.Add(2*time.Hour)))
	if n := one(t, b.due(start.Add(5*time.Hour))); n.State != Repeated {
		t.Errorf("%+v", n)
	}
	b.apply(ended(t, start.Add(6*time.Hour), "backup", [3]string{"a", "backed_up", ""}))
	if n := one(t, b.due(start.Add(7*time.Hour))); n.State != Resolved {
		t.Errorf("%+v", n)
	}
	none(t, b.due(start.Add(100*time.Hour)))
	if !b.next().IsZero() {
		t.Error("something is still due")
	}
}

func TestADeadBucketIsOneAlert(t *testing.T) {
	b := newBook(Timing{})
	var results [][3]string
	for i := range 1000 {
		results = append(results, [3]string{fmt.Sprintf("t%03d", i), "failed", "bucket_unreachable"})
	}
	b.apply(ended(t, start, "backup", results...))
	b.apply(ended(t, start.Add(time.Second), "verify", results...))
	n := one(t, b.due(start.Add(time.Minute)))
	if n.Count != 2000 || len(n.Tables) != maxNamed || n.Title != "the bucket is unreachable (t000 and 1999 more)" {
		t.Errorf("%d members, %d named, %s", n.Count, len(n.Tables), n.Title)
	}
	for i := range results {
		results[i] = [3]string{results[i][0], "skipped", "unchanged"}
	}
	b.apply(ended(t, start.Add(time.Hour), "backup", results...))
	none(t, b.due(start.Add(2*time.Hour)))
	b.apply(ended(t, start.Add(2*time.Hour), "verify", results...))
	if n := one(t, b.due(start.Add(3*time.Hour))); n.State != Resolved {
		t.Errorf("%+v", n)
	}
}

func TestWhatPassesBeforeItIsToldIsNotTold(t *testing.T) {
	b := newBook(Timing{})
	b.apply(ended(t, start, "compact", [3]string{"a", "failed", "busy"}))
	b.apply(ended(t, start.Add(2*time.Second), "compact", [3]string{"a", "compacted", ""}))
	none(t, b.due(start.Add(time.Hour)))
}

func TestAnotherReasonMovesTheTable(t *testing.T) {
	b := newBook(Timing{})
	b.apply(ended(t, start, "backup", [3]string{"a", "failed", "no_space"}))
	one(t, b.due(start.Add(time.Minute)))
	b.apply(ended(t, start.Add(time.Hour), "backup", [3]string{"a", "failed", "corrupt"}))
	notices := b.due(start.Add(2 * time.Hour))
	if len(notices) != 2 || notices[0].Key != "backup/corrupt" || notices[1].State != Resolved {
		t.Errorf("%+v", notices)
	}
}

func TestGrowthIsToldAgain(t *testing.T) {
	b := newBook(Timing{})
	b.apply(ended(t, start, "backup", [3]string{"a", "failed", "no_space"}))
	one(t, b.due(start.Add(10*time.Second)))
	b.apply(ended(t, start.Add(20*time.Second), "backup", [3]string{"b", "failed", "no_space"}))
	none(t, b.due(start.Add(time.Minute)))
	if n := one(t, b.due(start.Add(6*time.Minute))); n.State != Firing || n.Count != 2 {
		t.Errorf("%+v", n)
	}
}

// A table that joins as another leaves is news, too.
func TestATableInTheStead(t *testing.T) {
	b := newBook(Timing{})
	b.apply(ended(t, start, "backup", [3]string{"a", "failed", "no_space"}, [3]string{"b", "failed", "no_space"}))
	one(t, b.due(start.Add(10*time.Second)))
	b.apply(ended(t, start.Add(time.Minute), "backup", [3]string{"c", "failed", "no_space"}, [3]string{"a", "backed_up", ""}))
	if n := one(t, b.due(start.Add(6*time.Minute))); n.State != Firing || n.Title != "backup fails: no space (b and 1 more)" {
		t.Errorf("%+v", n)
	}
	none(t, b.due(start.Add(3*time.Hour)))
}

func TestCorruptionUntilRecovered(t *testing.T) {
	b := newBook(Timing{})
	b.apply(events.Event{Type: corruptionDetected, Subject: "a", Time: start, Data: json.RawMessage(`{"detail":"page 7"}`)})
	if n := one(t, b.due(start.Add(time.Minute))); n.Severity != Critical || n.Detail != "page 7" {
		t.Errorf("%+v", n)
	}
	b.apply(ended(t, start.Add(2*time.Minute), "recover", [3]string{"a", "restored", ""}))
	notices := b.due(start.Add(3 * time.Minute))
	if len(notices) != 2 || notices[0].State != Happened || notices[1].State != Resolved {
		t.Errorf("%+v", notices)
	}
}

func TestDegradedUntilAccepted(t *testing.T) {
	b := newBook(Timing{})
	b.apply(events.Event{Type: tableDegraded, Subject: "a", Time: start})
	b.apply(ended(t, start.Add(time.Second), "recover", [3]string{"a", "degraded", ""}))
	notices := b.due(start.Add(time.Minute))
	if len(notices) != 2 || notices[1].Key != degraded || notices[1].Hint == "" {
		t.Errorf("%+v", notices)
	}
	b.apply(events.Event{Type: tableAccepted, Subject: "a", Time: start.Add(time.Hour)})
	if n := one(t, b.due(start.Add(2*time.Hour))); n.State != Resolved {
		t.Errorf("%+v", n)
	}
}

func TestARunThatCouldNotBegin(t *testing.T) {
	b := newBook(Timing{})
	data, err := json.Marshal(jobs.Outcome{Function: "backup", Error: "the folder is gone", Hint: "mount it"})
	if err != nil {
		t.Fatal(err)
	}
	b.apply(events.Event{Type: events.Prefix + "backup_failed", Time: start, Data: data})
	if n := one(t, b.due(start.Add(time.Minute))); n.Hint != "mount it" || n.Detail != "the folder is gone" {
		t.Errorf("%+v", n)
	}
	b.apply(ended(t, start.Add(time.Hour), "backup", [3]string{"a", "backed_up", ""}))
	if n := one(t, b.due(start.Add(2*time.Hour))); n.State != Resolved {
		t.Errorf("%+v", n)
	}
}
