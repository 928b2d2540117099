package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket/faulty"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

func function(f *functionstest.Fleet) *Function {
	return New(Config{Shelf: f.Shelf, Catalogue: f.Catalogue, Objects: f.Bucket, Bucket: functionstest.BucketName, Now: f.Now, ToolVersion: "test"})
}

// run backs a table up and compares status and reason.
func run(t *testing.T, f *functionstest.Fleet, event Event, name string, status functions.Status, reason string) Entry {
	t.Helper()
	entry, err := function(f).Run(t.Context(), event, name, functions.Progress{})
	if entry.Status != status || entry.Reason != reason {
		t.Fatalf("%s: %s %s, want %s %s (%v; %+v)", name, entry.Status, entry.Reason, status, reason, err, entry)
	}
	if (err != nil) != (status == functions.Failed) {
		t.Fatalf("%s: %s with error %v", name, status, err)
	}
	return entry
}

// restorable drills every backup of a table, and gives the content of the newest.
func restorable(t *testing.T, f *functionstest.Fleet, name string) string {
	t.Helper()
	content := ""
	for i, key := range f.Backups(name) {
		parsed, err := archive.ParseKey(key)
		f.Must(err)
		path := fmt.Sprintf("%s/%d.db", t.TempDir(), i)
		if _, err := (functions.Drill{From: f.Catalogue}).Run(context.Background(), parsed, path, functions.Progress{}); err != nil {
			t.Errorf("%s does not restore: %v", key, err)
		} else if i == 0 {
			content = f.Rows(path)
		}
	}
	return content
}

func TestBackup(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 100)
	first := run(t, f, Event{}, "app", functions.BackedUp, "")
	if first.RecordCount != 100 || first.BytesRead == 0 || first.BytesStored == 0 || len(first.SHA256) != 64 || first.FileSize != first.BytesRead {
		t.Errorf("%+v", first)
	}
	again := run(t, f, Event{}, "app", functions.Skipped, "unchanged")
	if again.Backup != first.Backup || again.SHA256 != first.SHA256 {
		t.Errorf("%+v", again)
	}
	f.Fill("app", 1)
	second := run(t, f, Event{}, "app", functions.BackedUp, "")
	if second.Backup <= first.Backup || second.RecordCount != 101 {
		t.Errorf("%+v", second)
	}
	if len(f.Backups("app")) != 2 || restorable(t, f, "app") != f.Rows(f.Path("app")) {
		t.Error("the bucket does not have what the table has")
	}
	forced := run(t, f, Event{Force: true}, "app", functions.BackedUp, "")
	if forced.SHA256 != second.SHA256 || forced.Backup <= second.Backup {
		t.Errorf("%+v", forced)
	}
}

// TestUnchangedTablesAreNotRead puts garbage in place of their content behind the back of size and time: whoever read it
// would find the table corrupt.
func TestUnchangedTablesAreNotRead(t *testing.T) {
	tables := 1000
	if functionstest.Race {
		tables = 50
	}
	f := functionstest.New(t)
	f.Make("t0", 3)
	plain, err := os.ReadFile(f.Path("t0"))
	f.Must(err)
	for i := 1; i < tables; i++ {
		f.Must(os.WriteFile(f.Path(fmt.Sprintf("t%d", i)), plain, 0o600))
	}
	f.Refresh()
	names, err := function(f).Tables(t.Context(), Event{})
	if err != nil || len(names) != tables {
		t.Fatalf("%d tables, %v", len(names), err)
	}
	var group errgroup.Group
	group.SetLimit(8)
	for _, name := range names {
		group.Go(func() error {
			_, err := function(f).Run(t.Context(), Event{}, name, functions.Progress{})
			return err
		})
	}
	f.Must(group.Wait())
	for _, name := range names {
		f.Damage(f.Path(name), 4096, strings.Repeat("garbage ", 512))
	}
	before := len(f.Bucket.Calls())
	for _, name := range names {
		if entry := run(t, f, Event{}, name, functions.Skipped, "unchanged"); entry.BytesRead != 0 {
			t.Fatalf("%+v", entry)
		}
	}
	calls := f.Bucket.Calls()[before:]
	for _, call := range calls {
		if call.Op != "head" {
			t.Fatalf("an unchanged table costs a %s of %s", call.Op, call.Key)
		}
	}
	if len(calls) != tables {
		t.Errorf("%d calls for %d tables", len(calls), tables)
	}
	run(t, f, Event{Force: true}, "t0", functions.Failed, "corrupt")
}

func TestTouchedButUnchanged(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 10)
	first := run(t, f, Event{}, "app", functions.BackedUp, "")
	f.Must(os.Chtimes(f.Path("app"), time.Time{}, time.Unix(1e9, 0)))
	touched := run(t, f, Event{}, "app", functions.Skipped, "unchanged")
	if touched.BytesRead == 0 || touched.Backup != first.Backup {
		t.Errorf("%+v", touched)
	}
	if entry := run(t, f, Event{}, "app", functions.Skipped, "unchanged"); entry.BytesRead != 0 {
		t.Errorf("it was read again: %+v", entry)
	}
	if got := f.Backups("app"); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

func TestACorruptTableIsNeverStored(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 100)
	run(t, f, Event{}, "app", functions.BackedUp, "")
	good, err := os.ReadFile(f.Path("app"))
	f.Must(err)
	f.Damage(f.Path("app"), 4096, strings.Repeat("garbage ", 512))
	f.Must(os.Chtimes(f.Path("app"), time.Time{}, time.Unix(1e9, 0)))
	entry, err := function(f).Run(t.Context(), Event{}, "app", functions.Progress{})
	var corrupt *table.CorruptError
	var failure *functions.Failure
	if !errors.As(err, &corrupt) || !errors.As(err, &failure) || !failure.Permanent() || !strings.Contains(failure.Hint(), "recover app") {
		t.Errorf("%v", err)
	}
	if entry.Status != functions.Failed || entry.Reason != "corrupt" || len(f.Backups("app")) != 1 {
		t.Errorf("%+v, %v", entry, f.Backups("app"))
	}
	if got, err := f.Shelf.Get("app"); err != nil || got.State != shelf.Suspect || !strings.HasPrefix(got.Reason, "the database is damaged: ") {
		t.Errorf("%+v, %v", got, err)
	}
	f.Must(os.WriteFile(f.Path("app"), good, 0o600))
	run(t, f, Event{}, "app", functions.Skipped, "unchanged")
	if got, err := f.Shelf.Get("app"); err != nil || got.State != shelf.Healthy {
		t.Errorf("repaired, and still %+v, %v", got, err)
	}
	delete(f.Damaged, f.Path("app"))
}

func TestFilesThatAreNoTables(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"not_database": func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("text ", 100)), 0o600) },
		"missing":      os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			f := functionstest.New(t)
			f.Make("app", 10)
			run(t, f, Event{}, "app", functions.BackedUp, "")
			f.Damaged[f.Path("app")] = true
			f.Must(damage(f.Path("app")))
			f.Refresh()
			run(t, f, Event{}, "app", functions.Failed, name)
			if len(f.Backups("app")) != 1 {
				t.Errorf("%v", f.Backups("app"))
			}
		})
	}
	f := functionstest.New(t)
	run(t, f, Event{}, "nobody", functions.Failed, "unknown_table")
}

func TestTheBucketIsAsked(t *testing.T) {
	cases := map[string]struct {
		spoil  func(f *functionstest.Fleet, key string) error
		status functions.Status
		reason string
		note   string
	}{
		"gone": {func(f *functionstest.Fleet, key string) error { return f.Bucket.Delete(context.Background(), key) }, functions.BackedUp, "", "gone"},
		"other size": {func(f *functionstest.Fleet, key string) error {
			return os.WriteFile(f.Object(key), []byte("short"), 0o600)
		}, functions.BackedUp, "", "bytes in the bucket"},
		"no record": {func(f *functionstest.Fleet, _ string) error { return shelf.ForgetRecord(f.Path("app")) }, functions.Skipped, "unchanged", ""},
		"bad record": {func(f *functionstest.Fleet, _ string) error {
			return os.WriteFile(f.Dir+"/.tablekeeper/app.db.backup", []byte("{"), 0o600)
		}, functions.Skipped, "unchanged", "record"},
		"distrusted": {func(f *functionstest.Fleet, key string) error { return distrust(f, key) }, functions.BackedUp, "", "not relied on"},
		"unreachable": {func(f *functionstest.Fleet, _ string) error {
			f.Bucket.Always("head", faulty.Fault{Kind: faulty.Temporary})
			return nil
		}, functions.Failed, "bucket_unreachable", ""},
		"failed drill": {func(f *functionstest.Fleet, key string) error {
			parsed, err := archive.ParseKey(key)
			return errors.Join(err, f.Catalogue.MarkFailed(context.Background(), parsed, f.Now()), shelf.ForgetRecord(f.Path("app")))
		}, functions.BackedUp, "", "a drill found it bad"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := functionstest.New(t)
			f.Make("app", 10)
			first := run(t, f, Event{}, "app", functions.BackedUp, "")
			f.Must(c.spoil(f, first.Backup))
			entry := run(t, f, Event{}, "app", c.status, c.reason)
			if !strings.Contains(strings.Join(entry.Notes, "; "), c.note) {
				t.Errorf("notes %q, want %q", entry.Notes, c.note)
			}
			if c.status == functions.BackedUp && entry.Backup <= first.Backup {
				t.Errorf("%s does not sort after %s", entry.Backup, first.Backup)
			}
		})
	}
}

func distrust(f *functionstest.Fleet, key string) error {
	parsed, err := archive.ParseKey(key)
	if err != nil {
		return err
	}
	return functions.Accuse(context.Background(), f.Catalogue, f.Path("app"), functionstest.BucketName, parsed, f.Now(), errors.New("a drill failed"))
}

func TestKeysSortWhateverTheClockDoes(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 1)
	last := ""
	for i, jump := range []time.Duration{0, -time.Hour, 0, 1000 * time.Hour, -2000 * time.Hour} {
		f.Jump(jump)
		f.Fill("app", 1)
		entry := run(t, f, Event{}, "app", functions.BackedUp, "")
		if entry.Backup <= last {
			t.Errorf("backup %d is %s, not after %s", i, entry.Backup, last)
		}
		last = entry.Backup
	}
	if got := f.Backups("app"); len(got) != 5 || got[0] != last {
		t.Errorf("%v", got)
	}
	if entry := run(t, f, Event{}, "app", functions.Skipped, "unchanged"); entry.DurationMS < 0 {
		t.Errorf("%+v", entry)
	}
}

// A key may have to lie ahead of the clock. What the backup and its record say of the time is what a restore loses and a table is overdue by.
func TestABackupIsAsOldAsItsContent(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 1)
	f.Jump(1000 * time.Hour) // a clock that was wrong
	run(t, f, Event{}, "app", functions.BackedUp, "")
	f.Jump(-1000 * time.Hour)
	f.Fill("app", 1)
	before := f.Now()
	entry := run(t, f, Event{}, "app", functions.BackedUp, "")
	after := f.Now()
	then := func(what string, at time.Time) {
		t.Helper()
		if at.Before(before) || at.After(after) {
			t.Errorf("%s is of %s, and was made between %s and %s", what, at, before, after)
		}
	}
	key, err := archive.ParseKey(entry.Backup)
	f.Must(err)
	reader, err := f.Catalogue.Open(t.Context(), key)
	f.Must(err)
	then("the backup", reader.Manifest().Created)
	record, err := shelf.ReadRecord(f.Path("app"))
	f.Must(err)
	then("the record", record.Created)
	f.Must(shelf.ForgetRecord(f.Path("app")))
	run(t, f, Event{}, "app", functions.Skipped, "unchanged")
	record, err = shelf.ReadRecord(f.Path("app"))
	f.Must(err)
	then("the record of what the bucket has", record.Created)
}

func TestAnotherTablekeeperIsNoticed(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 5)
	run(t, f, Event{}, "app", functions.BackedUp, "")
	record, err := shelf.ReadRecord(f.Path("app"))
	f.Must(err)
	run(t, f, Event{Force: true}, "app", functions.BackedUp, "")
	f.Must(shelf.WriteRecord(f.Path("app"), record)) // as if the second had come from elsewhere
	f.Fill("app", 1)
	entry := run(t, f, Event{}, "app", functions.BackedUp, "")
	if !strings.Contains(strings.Join(entry.Notes, ""), "another tablekeeper") {
		t.Errorf("%q", entry.Notes)
	}
}

func TestADegradedTableSaysSo(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 5)
	f.Must(f.Shelf.SetState("app", shelf.Degraded, "started anew"))
	first := run(t, f, Event{}, "app", functions.BackedUp, "")
	run(t, f, Event{}, "app", functions.Skipped, "unchanged")
	key, err := archive.ParseKey(first.Backup)
	f.Must(err)
	reader, err := f.Catalogue.Open(t.Context(), key)
	f.Must(err)
	if !reader.Manifest().Degraded() {
		t.Errorf("%+v", reader.Manifest())
	}
	f.Must(f.Shelf.SetState("app", shelf.Healthy, ""))
	run(t, f, Event{}, "app", functions.BackedUp, "") // the same content, accepted now
}

func TestCancelled(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 50)
	ctx, cancel := context.WithCancel(t.Context())
	p := functions.Progress{Phase: func(name string) func(int64) {
		if name == "check and store" {
			cancel()
		}
		return func(int64) {}
	}}
	entry, err := function(f).Run(ctx, Event{}, "app", p)
	if !errors.Is(err, context.Canceled) || entry.Reason != "cancelled" || len(f.Backups("app")) != 0 {
		t.Errorf("%+v, %v, %v", entry, err, f.Backups("app"))
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 5)
	run(t, f, Event{DryRun: true}, "app", functions.Skipped, "dry_run")
	if _, err := shelf.ReadRecord(f.Path("app")); err == nil || len(f.Backups("app")) != 0 {
		t.Errorf("%v, %v", err, f.Backups("app"))
	}
}

func TestAWriterAtWork(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 10)
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				done <- n
				return
			default:
				err := f.TryExec("app", "BEGIN IMMEDIATE; INSERT INTO items (label) VALUES ('pair'); INSERT INTO items (label) VALUES ('pair'); COMMIT")
				if err == nil { // acknowledged
					n++
				} else {
					t.Errorf("a writer was turned away: %v", err)
				}
			}
		}
	}()
	for range 5 {
		run(t, f, Event{Force: true}, "app", functions.BackedUp, "")
	}
	close(stop)
	written := <-done
	if last := run(t, f, Event{Force: true}, "app", functions.BackedUp, ""); last.RecordCount != int64(10+2*written) {
		t.Errorf("%d rows in the backup, %d pairs acknowledged", last.RecordCount, written)
	}
	restorable(t, f, "app")
}
