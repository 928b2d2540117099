package compact

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

func function(f *functionstest.Fleet) *Function { return New(Config{Shelf: f.Shelf, Now: f.Now}) }

func run(t *testing.T, f *functionstest.Fleet, event Event, status functions.Status, reason string) Entry {
	t.Helper()
	entry, err := function(f).Run(t.Context(), event, "app", functions.Progress{})
	if entry.Status != status || entry.Reason != reason || (err != nil) != (status == functions.Failed) {
		t.Fatalf("%s %s, want %s %s: %+v, %v", entry.Status, entry.Reason, status, reason, entry, err)
	}
	return entry
}

// halfFree makes a table of which half the pages are free.
func halfFree(t *testing.T) *functionstest.Fleet {
	f := functionstest.New(t)
	f.Make("app", 1000)
	f.Exec("app", "DELETE FROM items WHERE id % 2 = 0 OR id < 600")
	return f
}

func TestCompacted(t *testing.T) {
	f := halfFree(t)
	before := f.Rows(f.Path("app"))
	dry := run(t, f, Event{DryRun: true}, functions.Skipped, "dry_run")
	entry := run(t, f, Event{}, functions.Compacted, "")
	if entry.FreelistRatio <= 0.1 || entry.FreelistRatio != dry.FreelistRatio || entry.BytesAfter >= entry.BytesBefore || entry.PagesAfter >= entry.PagesBefore || entry.Strategy == "" || entry.MaxPauseMS != functionstest.Patient.MaxPause.Milliseconds() {
		t.Errorf("%+v", entry)
	}
	if len(entry.Notes) != 1 || !strings.Contains(entry.Notes[0], "no backup yet") {
		t.Errorf("%q", entry.Notes)
	}
	if f.Rows(f.Path("app")) != before {
		t.Error("the content changed")
	}
	f.Backup("app")
	if entry := run(t, f, Event{}, functions.Skipped, "below_threshold"); len(entry.Notes) != 0 {
		t.Errorf("%+v", entry)
	}
	run(t, f, Event{Force: true}, functions.Compacted, "")
}

func TestThresholds(t *testing.T) {
	f := halfFree(t)
	nearlyAll, none := 0.95, 0.0
	run(t, f, Event{Threshold: &nearlyAll}, functions.Skipped, "below_threshold")
	entry := run(t, f, Event{Threshold: &none}, functions.Compacted, "")
	if entry.Threshold != 0 {
		t.Errorf("%+v", entry)
	}
	wrong := 1.5
	for _, event := range []Event{{Threshold: &wrong}, {MaxPauseMS: -1}, {Tables: []string{"ap"}}} {
		_, err := function(f).Tables(t.Context(), event)
		var permanent interface{ Permanent() bool }
		if !errors.As(err, &permanent) || !permanent.Permanent() {
			t.Errorf("%+v: %v", event, err)
		}
	}
}

func TestWindows(t *testing.T) {
	f := halfFree(t)
	window, err := shelf.ParseWindow("02:00-04:00 UTC")
	f.Must(err)
	settings := functionstest.Patient
	settings.Windows = []shelf.Window{window}
	f.Shelf, err = shelf.Open([]shelf.Source{{Path: f.Dir, Settings: settings}}, shelf.Options{})
	f.Must(err)
	f.Refresh()
	entry := run(t, f, Event{}, functions.Skipped, "outside_window")
	if !strings.Contains(entry.Detail, "2026-11-23T02:00:00Z") {
		t.Errorf("%+v", entry)
	}
	if dry := run(t, f, Event{DryRun: true}, functions.Skipped, "dry_run"); !strings.Contains(strings.Join(dry.Notes, "\n"), "opens at 2026-11-23T02:00:00Z") {
		t.Errorf("%+v", dry)
	}
	f.Jump(17 * time.Hour)
	if dry := run(t, f, Event{DryRun: true}, functions.Skipped, "dry_run"); strings.Contains(strings.Join(dry.Notes, "\n"), "window") {
		t.Errorf("%+v", dry)
	}
	run(t, f, Event{}, functions.Compacted, "")
	f.Jump(17 * time.Hour)
	run(t, f, Event{Force: true}, functions.Compacted, "")
}

func TestADamagedTable(t *testing.T) {
	f := halfFree(t)
	f.Damage(f.Path("app"), 4096, strings.Repeat("garbage ", 512))
	entry, err := function(f).Run(t.Context(), Event{}, "app", functions.Progress{})
	if entry.Status != functions.Failed || entry.Reason != "corrupt" || !errors.Is(err, table.ErrCorrupt) {
		t.Errorf("%+v, %v", entry, err)
	}
	if got, err := f.Shelf.Get("app"); err != nil || got.State != shelf.Suspect {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestRecovering(t *testing.T) {
	f := halfFree(t)
	f.Must(f.Shelf.SetState("app", shelf.Recovering, ""))
	run(t, f, Event{Force: true}, functions.Skipped, "recovering")
	if entry, err := function(f).Run(t.Context(), Event{}, "nobody", functions.Progress{}); entry.Reason != "unknown_table" || !errors.Is(err, shelf.ErrUnknown) {
		t.Errorf("%+v, %v", entry, err)
	}
}

// Without a good backup nothing is begun, unless forced; a table without work is not blamed for it.
func TestNeedsBackup(t *testing.T) {
	f := halfFree(t)
	careful := New(Config{Shelf: f.Shelf, Now: f.Now, NeedBackup: true})
	try := func(event Event, status functions.Status, reason string) {
		t.Helper()
		entry, err := careful.Run(t.Context(), event, "app", functions.Progress{})
		if err != nil || entry.Status != status || entry.Reason != reason {
			t.Fatalf("%s %s, want %s %s: %v", entry.Status, entry.Reason, status, reason, err)
		}
	}
	nearlyAll := 0.95
	try(Event{}, functions.Skipped, "no_backup")
	try(Event{Threshold: &nearlyAll}, functions.Skipped, table.BelowThreshold)
	try(Event{DryRun: true}, functions.Skipped, table.DryRun)
	f.Backup("app")
	try(Event{}, functions.Compacted, "")
	f.Exec("app", "DELETE FROM items")
	record, err := shelf.ReadRecord(f.Path("app"))
	if err != nil {
		t.Fatal(err)
	}
	record.Distrust = "the drill failed"
	if err := shelf.WriteRecord(f.Path("app"), record); err != nil {
		t.Fatal(err)
	}
	try(Event{}, functions.Skipped, "no_backup")
	try(Event{Force: true}, functions.Compacted, "")
}

// The backup that is lacking is made first, of tables that have work to be done.
func TestBacksUpFirst(t *testing.T) {
	f := halfFree(t)
	asked := 0
	var answer func() error
	careful := New(Config{Shelf: f.Shelf, Now: f.Now, NeedBackup: true, BackUp: func(_ context.Context, name string, _ functions.Progress) error {
		asked++
		if name != "app" {
			t.Errorf("asked for a backup of %s", name)
		}
		return answer()
	}})
	try := func(event Event, status functions.Status, reason string, times int) Entry {
		t.Helper()
		entry, err := careful.Run(t.Context(), event, "app", functions.Progress{})
		if entry.Status != status || entry.Reason != reason || (err != nil) != (status == functions.Failed) || asked != times {
			t.Fatalf("%s %s, want %s %s: asked %d times: %v", entry.Status, entry.Reason, status, reason, asked, err)
		}
		return entry
	}
	nearlyAll := 0.95
	try(Event{Threshold: &nearlyAll}, functions.Skipped, table.BelowThreshold, 0)
	try(Event{DryRun: true}, functions.Skipped, table.DryRun, 0)
	answer = func() error { return errors.New("the bucket is away") }
	if e := try(Event{}, functions.Skipped, "no_backup", 1); !strings.Contains(e.Detail, "the bucket is away") {
		t.Errorf("%+v", e)
	}
	answer = func() error { return nil } // as a backup that is degraded, or of another bucket
	try(Event{}, functions.Skipped, "no_backup", 2)
	answer = func() error { return &table.CorruptError{Path: "app"} }
	try(Event{}, functions.Failed, "corrupt", 3)
	answer = func() error { f.Backup("app"); return nil }
	if e := try(Event{}, functions.Compacted, "", 4); len(e.Notes) != 1 || !strings.Contains(e.Notes[0], "made first") || e.Detail != "" {
		t.Errorf("%+v", e)
	}
	try(Event{Force: true}, functions.Compacted, "", 4)
}

// A table that this process owns is compacted through its handle, without a word from its users.
func TestOwnedTable(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 10)
	handle, err := f.Shelf.Own(t.Context(), "app", f.Path("app"), shelf.OwnOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Shelf.CloseOwned(); err != nil {
			t.Error(err)
		}
	})
	err = handle.Write(t.Context(), func(tx *sql.Tx) error {
		for _, statement := range []string{
			"CREATE TABLE big AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 8000) SELECT n, randomblob(900) AS v FROM c",
			"DELETE FROM big WHERE n / 100 % 2",
		} {
			if _, err := tx.ExecContext(t.Context(), statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	entry := run(t, f, Event{}, functions.Compacted, "")
	if entry.Strategy != "online" || entry.GainBytes < entry.BytesBefore/3 || entry.Rounds == 0 || entry.CutUS == 0 {
		t.Errorf("%+v", entry)
	}
}
