package sweep

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/bucket/faulty"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

func function(f *functionstest.Fleet) *Function {
	return New(Config{Shelf: f.Shelf, Bucket: functionstest.BucketName, Catalogue: f.Catalogue, Now: f.Now})
}

func run(t *testing.T, fn *Function, event Event, status functions.Status, reason string) (Entry, error) {
	t.Helper()
	entry, err := fn.Run(t.Context(), event, "", functions.Progress{})
	if entry.Status != status || entry.Reason != reason || (err != nil) != (status == functions.Failed) {
		t.Fatalf("%s %s, want %s %s: %+v, %v", entry.Status, entry.Reason, status, reason, entry, err)
	}
	return entry, err
}

func TestOneUnit(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 1)
	if names, err := function(f).Tables(t.Context(), Event{}); names != nil || err != nil {
		t.Errorf("%v, %v", names, err)
	}
	if _, err := function(f).Tables(t.Context(), Event{Tables: []string{"ap"}}); !errors.Is(err, shelf.ErrUnknown) {
		t.Errorf("%v", err)
	}
}

func TestOverdue(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 1)
	f.Make("mail", 1)
	f.Backup("app")
	f.Backup("mail")
	fn := function(f)
	run(t, fn, Event{}, functions.Skipped, "nothing_to_do")
	f.Jump(11 * time.Hour)
	f.Backup("mail")
	run(t, fn, Event{}, functions.Skipped, "nothing_to_do")
	f.Jump(2 * time.Hour)
	entry, err := run(t, fn, Event{}, functions.Failed, "overdue")
	if len(entry.Overdue) != 1 || entry.Overdue[0].Table != "app" || entry.Overdue[0].RPOMS != (12*time.Hour).Milliseconds() || entry.Overdue[0].Last.IsZero() {
		t.Errorf("%+v", entry.Overdue)
	}
	if since := entry.Overdue[0].Since; !since.Equal(entry.Overdue[0].Last.Add(12 * time.Hour)) {
		t.Errorf("since %v", since)
	}
	var failure *functions.Failure
	if !errors.As(err, &failure) || !failure.Permanent() || !strings.Contains(err.Error(), "app (since 2026-11-22T22:0") {
		t.Errorf("%v", err)
	}
}

func TestWhatIsNotProtectedIsOverdue(t *testing.T) {
	record := func(change func(*shelf.Record)) func(f *functionstest.Fleet) {
		return func(f *functionstest.Fleet) {
			f.Backup("app")
			r, err := shelf.ReadRecord(f.Path("app"))
			f.Must(err)
			change(&r)
			f.Must(shelf.WriteRecord(f.Path("app"), r))
		}
	}
	cases := map[string]func(f *functionstest.Fleet){
		"never backed up": func(*functionstest.Fleet) {},
		"gone": func(f *functionstest.Fleet) {
			f.Backup("app")
			f.Must(os.Remove(f.Path("app")))
			f.Refresh()
			f.Jump(13 * time.Hour)
		},
		"bad":            record(func(r *shelf.Record) { r.Distrust = "a drill failed" }),
		"another bucket": record(func(r *shelf.Record) { r.Bucket = "elsewhere" }),
		"future":         record(func(r *shelf.Record) { r.Confirmed = r.Confirmed.AddDate(1, 0, 0) }),
		"backup record": func(f *functionstest.Fleet) {
			f.Backup("app")
			f.Must(os.WriteFile(f.Dir+"/.tablekeeper/app.db.backup", nil, 0o600))
		},
	}
	for why, spoil := range cases {
		t.Run(why, func(t *testing.T) {
			f := functionstest.New(t)
			f.Make("app", 1)
			spoil(f)
			entry, _ := run(t, function(f), Event{}, functions.Failed, "overdue")
			if len(entry.Overdue) != 1 || !strings.Contains(entry.Overdue[0].Why, why) {
				t.Errorf("%+v", entry.Overdue)
			}
		})
	}
}

// TestAServiceHasTimeToBackUp: what it has just met is not overdue yet, and is when its RPO has passed without a backup.
func TestAServiceHasTimeToBackUp(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 1)
	config := function(f).Config
	config.Since = f.Now()
	fn := New(config)
	run(t, fn, Event{}, functions.Skipped, "nothing_to_do")
	f.Jump(11 * time.Hour)
	f.Make("late", 1)
	run(t, fn, Event{}, functions.Skipped, "nothing_to_do")
	f.Jump(2 * time.Hour)
	if entry, _ := run(t, fn, Event{}, functions.Failed, "overdue"); len(entry.Overdue) != 1 || entry.Overdue[0].Table != "app" {
		t.Errorf("%+v", entry.Overdue)
	}
	f.Backup("app")
	f.Jump(11 * time.Hour)
	if entry, _ := run(t, fn, Event{}, functions.Failed, "overdue"); len(entry.Overdue) != 1 || entry.Overdue[0].Table != "late" {
		t.Errorf("%+v", entry.Overdue)
	}
}

func TestRetention(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 1)
	old := f.Backup("app")
	f.Fill("app", 1)
	newer := f.Backup("app")
	f.Jump(40 * 24 * time.Hour)
	f.Fill("app", 1)
	newest := f.Backup("app")
	fn := function(f)
	run(t, fn, Event{}, functions.Skipped, "nothing_to_do") // nothing was proved
	f.Must(f.Catalogue.MarkProved(t.Context(), newer, f.Now()))
	dry, _ := run(t, fn, Event{DryRun: true}, functions.Swept, "")
	if len(dry.Removed) != 1 || len(f.Backups("app")) != 3 {
		t.Errorf("%+v", dry)
	}
	entry, _ := run(t, fn, Event{}, functions.Swept, "")
	if len(entry.Removed) != 1 || entry.Removed[0].Backup != old.String() || entry.BytesFreed != entry.Removed[0].Size || entry.BytesFreed == 0 {
		t.Errorf("%+v", entry)
	}
	f.Must(f.Catalogue.MarkProved(t.Context(), newest, f.Now()))
	run(t, fn, Event{}, functions.Swept, "")
	if left := f.Backups("app"); len(left) != 1 || left[0] != newest.String() {
		t.Errorf("%v", left)
	}
}

func TestRetentionIsLeftToABucketWithALifecycle(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 1)
	f.Backup("app")
	config := function(f).Config
	config.Catalogue = nil
	calls := len(f.Bucket.Calls())
	run(t, New(config), Event{}, functions.Skipped, "nothing_to_do")
	if got := f.Bucket.Calls()[calls:]; len(got) != 0 {
		t.Errorf("the bucket was asked: %v", got)
	}
}

// replace exchanges a table for a copy of itself.
func replace(f *functionstest.Fleet, name string) table.Swapped {
	f.T.Helper()
	f.Must(table.MakeStateDir(f.Path(name)))
	fresh := table.Temporary(f.Path(name), "test")
	content, err := os.ReadFile(f.Path(name))
	f.Must(err)
	f.Must(os.WriteFile(fresh, content, 0o600))
	swapped, err := table.Swap(f.T.Context(), f.Path(name), fresh, table.SwapOptions{Now: f.Now()})
	f.Must(err)
	return swapped
}

func TestQuarantine(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 1)
	f.Backup("app")
	swapped := replace(f, "app")
	fn := function(f)
	run(t, fn, Event{}, functions.Skipped, "nothing_to_do")
	f.Jump(31 * 24 * time.Hour)
	f.Backup("app")
	dry, _ := run(t, fn, Event{DryRun: true}, functions.Swept, "")
	if _, err := os.Stat(swapped.Quarantine); err != nil || len(dry.Released) != 1 {
		t.Errorf("%+v, %v", dry, err)
	}
	fn.QuarantineKeep = 1
	run(t, fn, Event{DryRun: true}, functions.Skipped, "nothing_to_do")
	run(t, fn, Event{}, functions.Skipped, "nothing_to_do")
	fn.QuarantineKeep = 0
	entry, _ := run(t, fn, Event{}, functions.Swept, "")
	if _, err := os.Stat(swapped.Quarantine); err == nil || len(entry.Released) != 1 || entry.BytesFreed == 0 {
		t.Errorf("%+v, %v", entry, err)
	}
}

// TestQuarantineOfATableThatIsNotWellStays: whatever its age, and whatever is left of its state by a process that died. It goes when the table
// has been well for as long as anything stays.
func TestQuarantineOfATableThatIsNotWellStays(t *testing.T) {
	state := func(s shelf.State) func(*functionstest.Fleet) {
		return func(f *functionstest.Fleet) { f.Must(f.Shelf.SetState("app", s, "a test")) }
	}
	degraded := func(f *functionstest.Fleet) {
		f.Must(shelf.WriteRecovery(f.Path("app"), shelf.Recovery{Degraded: true}))
	}
	unreadable := func(suffix string) func(*functionstest.Fleet) {
		return func(f *functionstest.Fleet) {
			f.Must(os.WriteFile(filepath.Join(f.Dir, ".tablekeeper", "app.db"+suffix), []byte("{"), 0o600))
		}
	}
	for name, prepare := range map[string][]func(*functionstest.Fleet){
		"degraded":                              {degraded, state(shelf.Degraded)},
		"degraded by an older version":          {state(shelf.Degraded)},
		"damaged again":                         {degraded, state(shelf.Suspect)},
		"died before it began to serve":         {degraded, state(shelf.Recovering)},
		"died before it was told to be well":    {degraded},
		"died before it was told to be damaged": {state(shelf.Recovering)},
		"unreadable state":                      {unreadable(".state")},
		"unreadable recovery":                   {unreadable(".recovery")},
	} {
		t.Run(name, func(t *testing.T) {
			f := functionstest.New(t)
			f.Make("app", 1)
			f.Make("mail", 1)
			replace(f, "app")
			replace(f, "app")
			other := replace(f, "mail")
			for _, do := range prepare {
				do(f)
			}
			sweep := func(days int, status functions.Status, reason string) Entry {
				t.Helper()
				f.Jump(time.Duration(days) * 24 * time.Hour)
				f.Backup("app")
				f.Backup("mail")
				entry, _ := run(t, function(f), Event{}, status, reason)
				return entry
			}
			entry := sweep(100, functions.Swept, "")
			if len(entry.Held) != 2 || entry.Held[0].Size == 0 || entry.Held[0].Why == "" || len(entry.Released) != 1 || entry.Released[0].Path != other.Quarantine {
				t.Fatalf("after 100 days: %+v", entry)
			}
			if dry, _ := run(t, function(f), Event{DryRun: true}, functions.Skipped, "nothing_to_do"); len(dry.Held) != 2 {
				t.Errorf("dry run: %+v", dry)
			}
			var ended shelf.Recovery
			ended.NotDegraded(true, f.Now())
			f.Must(shelf.WriteRecovery(f.Path("app"), ended))
			_ = os.Remove(filepath.Join(f.Dir, ".tablekeeper", "app.db.state"))
			f.Must(f.Shelf.SetState("app", shelf.Healthy, ""))
			if entry := sweep(29, functions.Skipped, "nothing_to_do"); len(entry.Held) != 2 {
				t.Errorf("29 days after it was well again: %+v", entry)
			}
			if entry := sweep(2, functions.Swept, ""); len(entry.Held) != 0 || len(entry.Released) != 2 {
				t.Errorf("31 days after it was well again: %+v", entry)
			}
		})
	}
}

func TestLeftoversGo(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 1)
	f.Backup("app")
	left := filepath.Join(f.Dir, ".tablekeeper", "app.db.drill-0123456789abcdef.tmp")
	f.Must(os.WriteFile(left, nil, 0o600))
	held, err := table.Lock(t.Context(), f.Path("app"), table.Owner{Function: "test"})
	f.Must(err)
	run(t, function(f), Event{}, functions.Skipped, "nothing_to_do") // somebody is at work with it
	f.Must(held.Release())
	entry, _ := run(t, function(f), Event{}, functions.Swept, "")
	if len(entry.Resumed) != 1 || entry.Resumed[0] != (functions.Resumed{Table: "app", Action: table.ResumeCleaned}) {
		t.Errorf("%+v", entry)
	}
}

func TestABucketThatDoesNotAnswer(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 1)
	f.Make("mail", 1)
	f.Backup("app")
	f.Backup("mail")
	f.Bucket.Always("list", faulty.Fault{Kind: faulty.Temporary})
	calls := len(f.Bucket.Calls())
	entry, _ := run(t, function(f), Event{}, functions.Failed, "bucket_unreachable")
	if len(entry.Problems) != 1 || len(f.Bucket.Calls())-calls != 1 {
		t.Errorf("%+v, %v", entry, f.Bucket.Calls()[calls:])
	}
	f.Jump(13 * time.Hour)
	entry, _ = run(t, function(f), Event{}, functions.Failed, "overdue") // what is known without the bucket is said
	if len(entry.Overdue) != 2 {
		t.Errorf("%+v", entry)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if entry, err := function(f).Run(ctx, Event{}, "", functions.Progress{}); !errors.Is(err, context.Canceled) || entry.Reason != "cancelled" {
		t.Errorf("%+v, %v", entry, err)
	}
}
