package restore

import (
	"os"
	"strings"
	"testing"
	"time"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/archive"
)

func TestWhatADrillHasProvedIsNotCheckedAgain(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 300)
	key := f.Backup("app")
	want := f.Rows(f.Path("app"))
	restored := func(event Event, checked string) {
		t.Helper()
		event.Table, event.Output, event.Force = "app", f.Dir+"/out/app.db", true
		f.Must(os.MkdirAll(f.Dir+"/out", 0o755))
		entry, _ := run(t, f, event, functions.Restored, "")
		if entry.Checked != checked || entry.RecordCount != 300 || entry.FileSize == 0 {
			t.Errorf("%+v, want it checked %s", entry, checked)
		}
		if f.Rows(event.Output) != want {
			t.Error("another table came back")
		}
		f.Sound(event.Output)
	}
	restored(Event{}, "full")
	at := f.Now()
	f.Must(f.Catalogue.MarkProved(t.Context(), key, at))
	restored(Event{}, "proved "+at.UTC().Format(time.RFC3339))
	restored(Event{FullCheck: true}, "full")
	f.Must(f.Catalogue.MarkFailed(t.Context(), key, f.Now()))
	restored(Event{}, "full")
}

// Bytes that are not those that were proved are noticed without SQLite.
func TestAProvedBackupThatRotsIsPassedOver(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 300)
	older := f.Backup("app")
	f.Fill("app", 1)
	newer := f.Backup("app")
	for _, key := range []archive.Key{older, newer} {
		f.Must(f.Catalogue.MarkProved(t.Context(), key, f.Now()))
	}
	f.Flip(newer)
	entry, _ := run(t, f, inPlace, functions.Restored, "")
	if entry.BackupUsed != older.String() || len(entry.PassedOver) != 1 || !strings.HasPrefix(entry.Checked, "proved ") {
		t.Errorf("%+v", entry)
	}
}
