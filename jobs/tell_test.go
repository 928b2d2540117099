package jobs

import (
	"fmt"
	"testing"

	"tablekeeper/jobs/history"
)

func TestFailuresComeFirstInALongEvent(t *testing.T) {
	var list []history.Entry
	for i := range maxResults + 10 {
		status := "compacted"
		if i == maxResults+5 {
			status = "failed"
		}
		list = append(list, history.Entry{Table: fmt.Sprint(i), Status: status})
	}
	got, truncated := results(list)
	if !truncated || len(got) != maxResults || got[0].Status != "failed" || got[1].Table != "0" {
		t.Errorf("first is %+v", got[0])
	}
}

func TestEventTypes(t *testing.T) {
	for function, want := range map[string]string{"compact": "tablekeeper.compaction_failed", "recover": "tablekeeper.recovery_failed", "backup": "tablekeeper.backup_failed"} {
		if got := EventType(function, true); got != want {
			t.Errorf("%s: %s", function, got)
		}
	}
}
