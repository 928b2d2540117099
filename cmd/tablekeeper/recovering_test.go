package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tablekeeper/jobs/history"
	"tablekeeper/storage/shelf"
)

// A recovery that lost rows was over, and the process died before it was recorded. The next service tells of it, once.
func TestALossThatWasNotRecordedIsToldAtTheStart(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Mkdir("data", 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "data", "orders.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE orders (id INTEGER PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	report := json.RawMessage(`{"table":"orders","status":"restored","rung":"restore","lost":"what was written since","recoveries":["first"]}`)
	err = shelf.UpdateRecovery(path, func(r *shelf.Recovery) error {
		r.Untold = []shelf.Untold{{Name: "first", Report: report}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second start has nothing left to tell
		if told := startAndTell(t); len(told) != 1 || told[0] != "restored: what was written since" {
			t.Errorf("the history has %q", told)
		}
		if left := shelf.ReadRecovery(path).Untold; len(left) != 0 {
			t.Errorf("still untold: %+v", left)
		}
	}
}

// startAndTell does what a service does at its start, and returns what the history has of recoveries then.
func startAndTell(t *testing.T) (told []string) {
	t.Helper()
	h := serviceHere(t, time.Now)
	h.tellUntold(t.Context())
	h.runner.Wait()
	page, err := h.history.List(t.Context(), history.Filter{Function: "recover"})
	if err != nil {
		t.Fatal(err)
	}
	for _, head := range page.Runs {
		run, err := h.history.Get(t.Context(), head.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range run.Entries {
			var report struct{ Status, Lost string }
			if err := json.Unmarshal(e.Report, &report); err != nil {
				t.Fatal(err)
			}
			told = append(told, report.Status+": "+report.Lost)
		}
	}
	if err := h.Close(context.Background()); err != nil {
		t.Error(err)
	}
	return told
}
