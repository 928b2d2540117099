package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tablekeeper/jobs"
	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket/faulty"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
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

// The store takes no more of a backup, and the table that is being backed up is found to be damaged: its users do not wait for the store.
func TestARecoveryDoesNotWaitForABackup(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("data", 0o700); err != nil {
		t.Fatal(err)
	}
	h := serviceHere(t, time.Now)
	defer func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	slow := faulty.Wrap(h.first.Bucket)
	h.first.Bucket, h.first.Catalogue = slow, archive.NewCatalogue(slow, archive.CatalogueOptions{})
	work, err := h.functions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.runner, err = jobs.New(jobs.Config{Template: h.template, History: h.history, Functions: work, Bus: h.bus, Locker: h.locks, Recorded: h.recorded})
	if err != nil {
		t.Fatal(err)
	}
	hub, err := h.openHub(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hub.Config.Set(t.Context(), "colour", "green", "a", 0); err != nil {
		t.Fatal(err)
	}
	back := func(kind jobs.Type) history.Run {
		run, err := h.runner.Invoke(t.Context(), jobs.Invocation{Function: "backup", Event: json.RawMessage(`{"tables":["config"],"force":true}`), Type: kind})
		if err != nil {
			t.Fatal(err)
		}
		return run
	}
	if run := back(jobs.Sync); run.Status != history.Succeeded {
		t.Fatalf("first backup: %s %s", run.Status, run.Error)
	}

	stuck := make(chan struct{})
	var once sync.Once
	slow.Decide(func(c faulty.Call) faulty.Fault {
		if c.Op != "put" || !strings.HasPrefix(c.Key, "config/") {
			return faulty.Fault{}
		}
		once.Do(func() { close(stuck) })
		return faulty.Fault{Kind: faulty.Stall}
	})
	second := back(jobs.Async)
	<-stuck
	handle := h.shelf.Owned("config")
	if settled, err := handle.Checkpoint(t.Context()); err != nil || !settled {
		t.Fatalf("checkpoint: %v, %v", settled, err)
	}
	overwriteLastPage(t, handle.Path())
	if done, err := handle.Scrub(t.Context(), table.ScrubOptions{}); err != nil || len(done.Bad) != 1 {
		t.Fatalf("scrub: %+v, %v", done, err)
	}
	if e, err := hub.Config.Get(t.Context(), "colour"); err != nil || e.Value != "green" {
		t.Errorf("read while the backup is stuck: %+v, %v", e, err)
	}

	slow.Decide(func(faulty.Call) faulty.Fault { return faulty.Fault{} })
	h.runner.Wait()
	run, err := h.history.Get(t.Context(), second.ID)
	if err != nil || run.Status != history.Succeeded || run.Counts.Done != 1 {
		t.Errorf("the backup ended %s %s (%+v), %v", run.Status, run.Error, run.Entries, err)
	}
	if len(run.Log) == 0 || run.Log[0].Message != "stood aside" {
		t.Errorf("the backup's log is %+v", run.Log)
	}
}

// A damaged table of other programs that has no backup: the service finds it, tries to recover it once, and leaves it as it is until it is
// found again.
func TestARecoveryWithoutAWayIsNotRepeated(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("data", 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("data", "orders.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE orders (id INTEGER PRIMARY KEY); INSERT INTO orders VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	overwriteLastPage(t, path)
	h := serviceHere(t, time.Now)
	defer func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	heard := h.bus.Subscribe(events.SubscribeOptions{})
	defer heard.Close()
	found := 0
	for range 2 { // runs of backup
		run, err := h.runner.Invoke(t.Context(), jobs.Invocation{Function: "backup", Event: json.RawMessage(`{"tables":["orders"]}`)})
		if err != nil || run.Status != history.Failed {
			t.Fatalf("backup: %s %s, %v", run.Status, run.Error, err)
		}
		for { // until the recovery has ended: what comes of its error was published before
			event, err := heard.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if event.Type == corruptionDetected {
				found++
			}
			if event.Type == events.Prefix+"recovery_failed" {
				break
			}
		}
	}
	if found != 2 {
		t.Fatalf("found to be damaged %d times by two backups: a recovery begins the next", found)
	}
	h.runner.Wait()
	page, err := h.history.List(t.Context(), history.Filter{Function: "recover"})
	if err != nil || len(page.Runs) != 2 {
		t.Errorf("%d runs of recover, %v", len(page.Runs), err)
	}
}

func overwriteLastPage(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt(make([]byte, 4096), info.Size()-4096)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
