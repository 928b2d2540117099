package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
	"tablekeeper/jobs/schedule"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/shelf/health"
)

// The first backup of a table is proved when it is there, without waiting for the schedule; later ones wait for it, and whoever pauses the
// drills is not overruled.
func TestAFirstBackupIsProvedAtOnce(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("data", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"orders", "users"} {
		change(t, name, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
	}
	h := serviceHere(t, time.Now)
	defer func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	backUp := func(event string) {
		t.Helper()
		run, err := h.runner.Invoke(t.Context(), jobs.Invocation{Function: "backup", Event: json.RawMessage(event)})
		if err != nil || run.Counts.Failed != 0 {
			t.Fatalf("backup: %s %s, %v", run.Status, run.Error, err)
		}
		h.runner.Wait()
	}
	drills := func() int {
		t.Helper()
		page, err := h.history.List(t.Context(), history.Filter{Function: "verify"})
		if err != nil {
			t.Fatal(err)
		}
		return len(page.Runs)
	}
	recorded := func(name string) shelf.Record {
		t.Helper()
		record, err := shelf.ReadRecord(filepath.Join("data", name+".db"))
		if err != nil {
			t.Fatal(err)
		}
		return record
	}

	backUp(`{"tables":["orders"]}`)
	if n := drills(); n != 0 {
		t.Errorf("%d drills, though none is scheduled", n)
	}
	h.planned = []schedule.Job{{Name: "verify", Function: "verify"}}
	if err := h.history.SetJobPaused(t.Context(), "verify", true); err != nil {
		t.Fatal(err)
	}
	backUp(`{"tables":["orders"],"force":true}`)
	if n := drills(); n != 0 {
		t.Errorf("%d drills, though they are paused", n)
	}
	if err := h.history.SetJobPaused(t.Context(), "verify", false); err != nil {
		t.Fatal(err)
	}
	backUp(`{}`) // of orders there is one
	for _, name := range []string{"orders", "users"} {
		if r := recorded(name); r.Proved.IsZero() {
			t.Errorf("%s is not proved: %+v", name, r)
		}
	}
	before, proved := drills(), recorded("orders").Proved
	change(t, "orders", "INSERT INTO t VALUES (1)")
	backUp(`{}`)
	if n := drills(); n != before {
		t.Errorf("%d drills more", n-before)
	}
	if r := recorded("orders"); !r.Proved.IsZero() || !r.LastProved.Equal(proved) {
		t.Errorf("after a new backup: %+v, want a backup before it proved at %v", r, proved)
	}
	orders, err := h.shelf.Get("orders")
	if err != nil {
		t.Fatal(err)
	}
	if r := health.Look(t.Context(), orders, time.Now()); r.Health != health.Unproved || !r.LastProved.Equal(proved) {
		t.Errorf("%+v", r)
	}
}

// change has another program change a table in the folder data.
func change(t *testing.T, name, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join("data", name+".db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
