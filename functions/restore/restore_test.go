package restore

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/faulty"
	"tablekeeper/storage/disktest"
	"tablekeeper/storage/needtest"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

func function(f *functionstest.Fleet) *Function {
	return New(Config{Shelf: f.Shelf, Catalogue: f.Catalogue, Bucket: functionstest.BucketName, Now: f.Now, Location: time.UTC})
}

var inPlace = Event{Table: "app", InPlace: true}

func run(t *testing.T, f *functionstest.Fleet, event Event, status functions.Status, reason string) (Entry, error) {
	t.Helper()
	entry, err := function(f).Run(t.Context(), event, "app", functions.Progress{})
	if entry.Status != status || entry.Reason != reason || (err != nil) != (status == functions.Failed) {
		t.Fatalf("%s %s, want %s %s: %+v, %v", entry.Status, entry.Reason, status, reason, entry, err)
	}
	return entry, err
}

// shell runs the sqlite3 program.
func shell(t *testing.T, path, query string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), needtest.Program(t, "sqlite3"), path, query).CombinedOutput()
	if err != nil {
		t.Fatalf("sqlite3 %s: %v: %s", path, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestALostTableComesBack(t *testing.T) {
	for name, lose := range map[string]func(f *functionstest.Fleet) error{
		"the file": func(f *functionstest.Fleet) error { return os.Remove(f.Path("app")) },
		"all of it": func(f *functionstest.Fleet) error {
			return errors.Join(os.Remove(f.Path("app")), os.RemoveAll(f.Dir+"/.tablekeeper"))
		},
		"with a WAL left": func(f *functionstest.Fleet) error {
			return errors.Join(os.Remove(f.Path("app")), os.WriteFile(f.Path("app")+"-wal", []byte("stale"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := functionstest.New(t)
			f.Make("app", 300)
			f.Make("mail", 3)
			want := f.Rows(f.Path("app"))
			key := f.Backup("app")
			f.Must(lose(f))
			f.Refresh()
			entry, _ := run(t, f, inPlace, functions.Restored, "")
			if entry.BackupUsed != key.String() || entry.Method != NewFile || entry.RecordCount != 300 || entry.Destination != f.Path("app") {
				t.Errorf("%+v", entry)
			}
			if f.Rows(f.Path("app")) != want || shell(t, f.Path("app"), "PRAGMA integrity_check; SELECT count(*) FROM items") != "ok\n300" {
				t.Error("the content is another")
			}
			if f.Refresh(); names(f) != "app mail" {
				t.Errorf("on the shelf: %s", names(f))
			}
		})
	}
}

func names(f *functionstest.Fleet) string {
	var all []string
	for _, t := range f.Shelf.Tables() {
		if !t.Missing {
			all = append(all, t.Name)
		}
	}
	return strings.Join(all, " ")
}

func TestInPlaceKeepsWhatWasThere(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 20)
	want := f.Rows(f.Path("app"))
	f.Backup("app")
	f.Fill("app", 5)
	newer := f.Rows(f.Path("app"))
	f.Must(f.Shelf.SetState("app", shelf.Suspect, "somebody said so"))
	entry, _ := run(t, f, inPlace, functions.Restored, "")
	if entry.Method != Swap || entry.Quarantine == "" || entry.LostSince.IsZero() {
		t.Errorf("%+v", entry)
	}
	if f.Rows(f.Path("app")) != want || f.Rows(filepath.Join(entry.Quarantine, "app.db")) != newer {
		t.Error("the old content is not kept, or the new one is not in place")
	}
	if got, err := f.Shelf.Get("app"); err != nil || got.State != shelf.Healthy {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestTheCallersLockIsUsed(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 20)
	f.Backup("app")
	held, err := table.Lock(t.Context(), f.Path("app"), table.Owner{Function: "test"})
	f.Must(err)
	defer func() { f.Must(held.Release()) }()
	run(t, f, inPlace, functions.Failed, "locked")
	fn := function(f)
	fn.Held = func(string) *table.Held { return held }
	if entry, err := fn.Run(t.Context(), inPlace, "app", functions.Progress{}); err != nil || entry.Method != Swap {
		t.Errorf("%+v, %v", entry, err)
	}
}

func TestABadBackupIsPassedOver(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 300)
	want := f.Rows(f.Path("app"))
	good := f.Backup("app")
	f.Fill("app", 1)
	truncated := f.Backup("app")
	f.Fill("app", 1)
	flipped := f.Backup("app")
	f.Flip(flipped)
	f.Must(os.Truncate(f.Object(truncated.String()), 1000))
	f.Must(os.Remove(f.Path("app")))
	f.Refresh()
	entry, _ := run(t, f, inPlace, functions.Restored, "")
	if entry.BackupUsed != good.String() || len(entry.PassedOver) != 2 || entry.PassedOver[0].Backup != flipped.String() || entry.PassedOver[0].Reason != "backup_damaged" || entry.PassedOver[1].Backup != truncated.String() {
		t.Errorf("%+v", entry)
	}
	if f.Rows(f.Path("app")) != want {
		t.Error("the content is another")
	}
	if record, err := shelf.ReadRecord(f.Path("app")); err != nil || record.Distrust == "" {
		t.Errorf("the bad backup is still relied on: %+v, %v", record, err)
	}
	f.Flip(good)
	_, err := run(t, f, inPlace, functions.Failed, "no_good_backup")
	if f.Rows(f.Path("app")) != want || !strings.Contains(err.Error(), "none of the 3") {
		t.Errorf("%v", err)
	}
}

func TestAnUnreachableBucketIsNoBadBackup(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 300)
	f.Backup("app")
	f.Fill("app", 1)
	newer := f.Backup("app")
	want := f.Rows(f.Path("app"))
	f.Bucket.Decide(func(c faulty.Call) faulty.Fault {
		if c.Op == "get" && c.Key == newer.String() {
			return faulty.Fault{Kind: faulty.Temporary}
		}
		return faulty.Fault{}
	})
	entry, err := run(t, f, inPlace, functions.Failed, "bucket_unreachable")
	if len(entry.PassedOver) != 0 || !errors.Is(err, bucket.ErrUnreachable) || f.Rows(f.Path("app")) != want {
		t.Errorf("%+v, %v", entry, err)
	}
}

// What was damaged before the table began anew stays in quarantine, and its days count from the restore.
func TestARestoreEndsADegradedState(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 10)
	f.Backup("app")
	f.Must(shelf.WriteRecovery(f.Path("app"), shelf.Recovery{Degraded: true}))
	f.Must(f.Shelf.SetState("app", shelf.Degraded, "emptied"))
	if needed, _, err := shelf.Needed(f.Path("app")); err != nil || !needed {
		t.Fatalf("%v, %v", needed, err)
	}
	before := f.Now()
	if _, err := run(t, f, inPlace, functions.Restored, ""); err != nil {
		t.Fatal(err)
	}
	if needed, since, err := shelf.Needed(f.Path("app")); err != nil || needed || since.Before(before) {
		t.Errorf("%v, %v, %v", needed, since, err)
	}
}

func TestWhichBackup(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 1)
	first := f.Backup("app")
	f.Jump(24 * time.Hour)
	f.Fill("app", 1)
	second := f.Backup("app")
	f.Must(f.Shelf.SetState("app", shelf.Degraded, "emptied"))
	f.Exec("app", "DELETE FROM items")
	degraded := f.Backup("app")
	f.Must(f.Catalogue.MarkProved(t.Context(), degraded, f.Now()))
	cases := map[string]struct {
		event  Event
		want   string
		reason string
	}{
		"latest, not the empty one":  {Event{}, second.String(), ""},
		"a key":                      {Event{Backup: first.String()}, first.String(), ""},
		"the empty one, by its key":  {Event{Backup: degraded.String()}, degraded.String(), ""},
		"a time":                     {Event{At: first.Created.Add(time.Hour).Format(time.RFC3339)}, first.String(), ""},
		"a time without a zone":      {Event{At: "2026-11-22 23:00"}, first.String(), ""},
		"too early a time":           {Event{At: "2026-11-21 00:00:00"}, "", "no_backup"},
		"a key that is not there":    {Event{Backup: strings.Replace(first.String(), "2026", "2025", 1)}, "", "no_backup"},
		"a time after all, that too": {Event{At: "2030-01-01T00:00"}, second.String(), ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			c.event.Table, c.event.DryRun = "app", true
			entry, err := function(f).Run(t.Context(), c.event, "app", functions.Progress{})
			if entry.BackupUsed != c.want || c.reason != "" && entry.Reason != c.reason {
				t.Errorf("%+v, %v", entry, err)
			}
		})
	}
}

func TestEventsThatCannotBe(t *testing.T) {
	f := functionstest.New(t)
	for _, event := range []Event{
		{}, {Table: "../x", InPlace: true}, {Table: "app"}, {Table: "app", InPlace: true, Output: "x"}, {Table: "app", InPlace: true, At: "yesterday"},
		{Table: "app", InPlace: true, Backup: "newest"}, {Table: "app", InPlace: true, Backup: "mail/20261122T100000.000Z-00000000.db.zst"},
		{Table: "app", InPlace: true, Backup: "app/20261122T100000.000Z-00000000.db.zst", At: "2026-11-22 10:00"},
	} {
		names, err := function(f).Tables(t.Context(), event)
		var e *functions.EventError
		if !errors.As(err, &e) || e.Hint() == "" {
			t.Errorf("%+v: %v, %v", event, names, err)
		}
	}
}

func TestPlan(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 20)
	key := f.Backup("app")
	f.Fill("app", 5)
	f.Exec("app", "CREATE TABLE later (x); INSERT INTO later VALUES (1)")
	before := f.Rows(f.Path("app"))
	event := inPlace
	event.DryRun = true
	entry, _ := run(t, f, event, functions.Skipped, "dry_run")
	plan := entry.Plan
	if plan == nil || plan.Backup != key.String() || plan.RecordCount != 20 || plan.AgeMS <= 0 || plan.Size == 0 || plan.FileSize == 0 || plan.Destination != f.Path("app") {
		t.Fatalf("%+v", plan)
	}
	want := []Change{{"items", 25, 20}, {"later", 1, 0}}
	if r := plan.Replaces; r == nil || r.RecordCount != 26 || len(r.Changes) != 2 || r.Changes[0] != want[0] || r.Changes[1] != want[1] {
		t.Errorf("%+v", plan.Replaces)
	}
	if f.Rows(f.Path("app")) != before {
		t.Error("a plan changed the table")
	}
	f.Damage(f.Path("app"), 0, "no database")
	if entry, _ := run(t, f, event, functions.Skipped, "dry_run"); entry.Plan.Replaces.Problem == "" {
		t.Errorf("%+v", entry.Plan.Replaces)
	}
	f.Must(os.Remove(f.Path("app")))
	f.Refresh()
	if entry, _ := run(t, f, event, functions.Skipped, "dry_run"); entry.Plan.Replaces != nil {
		t.Errorf("%+v", entry.Plan.Replaces)
	}
}

func TestEachFailingCallOfTheBucketHarmsNothing(t *testing.T) {
	kinds := []faulty.Kind{faulty.Fail, faulty.Temporary, faulty.Cut, faulty.Short, faulty.Flip, faulty.Zeros}
	if functionstest.Race {
		kinds = kinds[:2]
	}
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			f := functionstest.New(t)
			f.Make("app", 50)
			backedUp := f.Rows(f.Path("app"))
			f.Backup("app")
			for n := 0; ; n++ {
				f.Fill("app", 1)
				now := f.Rows(f.Path("app"))
				hits := f.Bucket.Hits()
				f.Bucket.At(len(f.Bucket.Calls())+n, faulty.Fault{Kind: kind, Byte: 20})
				entry, err := function(f).Run(t.Context(), inPlace, "app", functions.Progress{})
				f.Bucket.Decide(func(faulty.Call) faulty.Fault { return faulty.Fault{} })
				want := now
				if err == nil {
					want = backedUp
				}
				if (err == nil) != (entry.Status == functions.Restored) || f.Rows(f.Path("app")) != want {
					t.Errorf("call %d: %+v, %v", n, entry, err)
				}
				if left := f.Litter(); len(left) > 0 {
					t.Errorf("call %d leaves %v", n, left)
				}
				if f.Bucket.Hits() == hits {
					t.Logf("clean after %d calls", n)
					return
				}
			}
		})
	}
}

func TestAFullDisk(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 5000)
	f.Backup("app")
	small := disktest.Mount(t, "-t", "tmpfs", "-o", "size=1m", "tmpfs")
	entry, err := run(t, f, Event{Table: "app", Output: small + "/out.db"}, functions.Failed, "no_space")
	if len(entry.PassedOver) != 0 || !errors.Is(err, table.ErrNoSpace) {
		t.Errorf("%+v, %v", entry, err)
	}
	if entries, err := os.ReadDir(small); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestCancelled(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 50)
	f.Backup("app")
	f.Fill("app", 1)
	want := f.Rows(f.Path("app"))
	for _, phase := range []string{"fetch", "check", "swap"} {
		ctx, cancel := context.WithCancel(t.Context())
		p := functions.Progress{Phase: func(name string) func(int64) {
			if name == phase {
				cancel()
			}
			return func(int64) {}
		}}
		entry, err := function(f).Run(ctx, inPlace, "app", p)
		if !errors.Is(err, context.Canceled) || entry.Reason != "cancelled" || len(entry.PassedOver) != 0 || f.Rows(f.Path("app")) != want {
			t.Errorf("%s: %+v, %v", phase, entry, err)
		}
		cancel()
	}
}

// What others keep beside the table at any moment of a restore stays: a recovery that nobody has been told of, for one.
func TestARestoreKeepsWhatIsUntold(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 10)
	f.Backup("app")
	var names []string
	fn := function(f)
	fn.Now = func() time.Time {
		names = append(names, strconv.Itoa(len(names)))
		f.Must(shelf.UpdateRecovery(f.Path("app"), func(r *shelf.Recovery) error {
			r.Untold = append(r.Untold, shelf.Untold{Name: names[len(names)-1], Report: json.RawMessage("{}")})
			return nil
		}))
		return f.Now()
	}
	if entry, err := fn.Run(t.Context(), inPlace, "app", functions.Progress{}); err != nil || len(entry.Notes) > 0 {
		t.Fatalf("%+v, %v", entry, err)
	}
	var kept []string
	for _, u := range shelf.ReadRecovery(f.Path("app")).Untold {
		kept = append(kept, u.Name)
	}
	if !slices.Equal(kept, names) {
		t.Errorf("kept %q of %q", kept, names)
	}
}
