package verify

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/faulty"
	"tablekeeper/storage/disktest"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

func function(f *functionstest.Fleet) *Function {
	return New(Config{Shelf: f.Shelf, Catalogue: f.Catalogue, Bucket: functionstest.BucketName, Now: f.Now})
}

func run(t *testing.T, f *functionstest.Fleet, event Event, outcome, reason string) (Entry, error) {
	t.Helper()
	entry, err := function(f).Run(t.Context(), event, "app", functions.Progress{})
	if entry.Outcome != outcome || entry.Reason != reason {
		t.Fatalf("%s %s, want %s %s: %+v, %v", entry.Outcome, entry.Reason, outcome, reason, entry, err)
	}
	if (err == nil) != (outcome == Proved) || (entry.Status == functions.Verified) != (outcome == Proved) {
		t.Fatalf("%s with status %s, %v", outcome, entry.Status, err)
	}
	return entry, err
}

func tags(t *testing.T, f *functionstest.Fleet, key archive.Key) map[string]string {
	t.Helper()
	got, err := f.Bucket.Tags(context.Background(), key.String())
	f.Must(err)
	return got
}

func TestProved(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 50)
	older := f.Backup("app")
	f.Fill("app", 1)
	newer := f.Backup("app")
	entry, _ := run(t, f, Event{}, Proved, "")
	if entry.BackupUsed != newer.String() || entry.RecordCount != 51 || entry.FileSize == 0 || len(entry.Drills) != 1 {
		t.Errorf("%+v", entry)
	}
	if got := tags(t, f, newer); got[archive.TagProved] == "" || got[bucket.SupersededTag] != "" {
		t.Errorf("newer: %v", got)
	}
	if got := tags(t, f, older); got[bucket.SupersededTag] != bucket.SupersededValue {
		t.Errorf("older: %v", got)
	}
	if record, err := shelf.ReadRecord(f.Path("app")); err != nil || record.Proved.IsZero() {
		t.Errorf("%+v, %v", record, err)
	}
	entry, _ = run(t, f, Event{Backup: "all"}, Proved, "")
	if len(entry.Drills) != 2 || entry.Drills[1].RecordCount != 50 {
		t.Errorf("%+v", entry)
	}
	if entry, _ = run(t, f, Event{Backup: older.String()}, Proved, ""); entry.BackupUsed != older.String() {
		t.Errorf("%+v", entry)
	}
}

func TestEvents(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 1)
	f.Make("mail", 1)
	key := f.Backup("app")
	for _, c := range []struct {
		event Event
		want  string
		err   string
	}{
		{Event{}, "app mail", ""},
		{Event{Tables: []string{"m*"}, Backup: "latest"}, "mail", ""},
		{Event{Backup: key.String()}, "app", ""},
		{Event{Tables: []string{"app"}, Backup: key.String()}, "app", ""},
		{Event{Tables: []string{"mail"}, Backup: key.String()}, "", "a backup of app alone"},
		{Event{Backup: "newest"}, "", "newest"},
		{Event{Backup: "../app/x"}, "", "event"},
		{Event{Tables: []string{"ap"}}, "", `did you mean "app"`},
	} {
		got, err := function(f).Tables(t.Context(), c.event)
		if strings.Join(got, " ") != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%+v: %v, %v", c.event, got, err)
		}
		var permanent interface{ Permanent() bool }
		if err != nil && (!errors.As(err, &permanent) || !permanent.Permanent()) {
			t.Errorf("%v would be tried again", err)
		}
	}
}

func TestABadBackup(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 200)
	older := f.Backup("app")
	run(t, f, Event{}, Proved, "")
	f.Fill("app", 1)
	newer := f.Backup("app")
	run(t, f, Event{}, Proved, "")
	f.Flip(newer)
	entry, err := run(t, f, Event{}, Failed, "backup_damaged")
	var failure *functions.Failure
	if !errors.As(err, &failure) || !strings.Contains(failure.Hint(), "backup app --force") || entry.LastProved != older.String() || !strings.Contains(failure.Hint(), older.String()) {
		t.Errorf("%+v, %v", entry, err)
	}
	if got := tags(t, f, newer); got[archive.TagFailed] == "" || got[archive.TagProved] != "" {
		t.Errorf("newer: %v", got)
	}
	if got := tags(t, f, older); got[bucket.SupersededTag] != "" {
		t.Errorf("the older one may go, though it is the only good one: %v", got)
	}
	if record, err := shelf.ReadRecord(f.Path("app")); err != nil || record.Distrust == "" {
		t.Errorf("%+v, %v", record, err)
	}
}

func TestABitThatFlipsOnItsWay(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 50)
	key := f.Backup("app")
	flipped := false
	f.Bucket.Decide(func(c faulty.Call) faulty.Fault {
		if c.Op != "get" || flipped {
			return faulty.Fault{}
		}
		flipped = true
		return faulty.Fault{Kind: faulty.Flip, Byte: 20}
	})
	entry, _ := run(t, f, Event{}, Proved, "")
	if len(entry.Notes) != 1 || tags(t, f, key)[archive.TagFailed] != "" {
		t.Errorf("%+v", entry)
	}
}

func TestNoBackup(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 1)
	if entry, err := function(f).Run(t.Context(), Event{}, "app", functions.Progress{}); err != nil || entry.Status != functions.Skipped || entry.Reason != "no_backup" {
		t.Errorf("a new table: %+v, %v", entry, err)
	}
	key := f.Backup("app")
	f.Must(f.Bucket.Delete(context.Background(), key.String()))
	f.Must(shelf.WriteRecord(f.Path("app"), shelf.Record{Table: "app", Key: key.String()}))
	_, err := run(t, f, Event{}, Failed, "no_backup")
	var failure *functions.Failure
	if !errors.As(err, &failure) || failure.Hint() != "tablekeeper backup app" {
		t.Errorf("%v", err)
	}
	run(t, f, Event{Backup: key.String()}, Failed, "no_backup")
}

// TestCouldNotRun: what says nothing of a backup leaves no mark on it.
func TestCouldNotRun(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]func(f *functionstest.Fleet, fn *Function){
		"bucket_unreachable": func(f *functionstest.Fleet, _ *Function) {
			f.Bucket.Always("get", faulty.Fault{Kind: faulty.Temporary})
		},
		"bucket_denied": func(f *functionstest.Fleet, _ *Function) { f.Bucket.Always("list", faulty.Fault{Kind: faulty.Denied}) },
		"no_bucket":     func(f *functionstest.Fleet, _ *Function) { f.Must(os.RemoveAll(f.BucketDir)) },
		"no_space":      func(f *functionstest.Fleet, fn *Function) { fn.Scratch = smallDisk(f.T) },
		"wrong_key": func(f *functionstest.Fleet, fn *Function) {
			fn.Catalogue = archive.NewCatalogue(f.Bucket, archive.CatalogueOptions{})
		},
		"error": func(f *functionstest.Fleet, fn *Function) {
			fn.Scratch = f.Dir + "/file"
			f.Must(os.WriteFile(fn.Scratch, nil, 0o600))
		},
	}
	for reason, hinder := range cases {
		t.Run(reason, func(t *testing.T) {
			f := functionstest.New(t)
			if reason == "wrong_key" {
				f.Catalogue = archive.NewCatalogue(f.Bucket, archive.CatalogueOptions{Recipients: []age.Recipient{identity.Recipient()}, Identities: []age.Identity{identity}})
			}
			f.Make("app", 5000)
			key := f.Backup("app")
			before := tags(t, f, key)
			fn := function(f)
			hinder(f, fn)
			entry, err := fn.Run(t.Context(), Event{}, "app", functions.Progress{})
			if entry.Outcome != CouldNotRun || entry.Status != functions.Failed || entry.Reason != reason || err == nil {
				t.Fatalf("%+v, %v", entry, err)
			}
			if reason == "no_bucket" {
				return
			}
			f.Bucket.Decide(func(faulty.Call) faulty.Fault { return faulty.Fault{} })
			if after := tags(t, f, key); len(after) != len(before) {
				t.Errorf("tags %v, before %v", after, before)
			}
			if record, err := shelf.ReadRecord(f.Path("app")); err != nil || record.Distrust != "" {
				t.Errorf("%+v, %v", record, err)
			}
		})
	}
}

// smallDisk mounts one of a megabyte.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := disktest.Mount(t, "-t", "tmpfs", "-o", "size=1m", "tmpfs")
	t.Cleanup(func() {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("left on the full disk: %v, %v", entries, err)
		}
	})
	return dir
}

func TestViolationsOfForeignKeysAreNoFailure(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 1)
	f.Exec("app", "CREATE TABLE child (item INTEGER REFERENCES items(id)); INSERT INTO child VALUES (4711)")
	f.Backup("app")
	entry, _ := run(t, f, Event{}, Proved, "")
	if len(entry.Drills[0].ForeignKeys) != 1 || len(entry.Notes) != 1 {
		t.Errorf("%+v", entry)
	}
}

func TestABackupOfAnotherTable(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 5)
	f.Make("mail", 7)
	key, other := f.Backup("app"), f.Backup("mail")
	content, err := os.ReadFile(f.Object(other.String()))
	f.Must(err)
	f.Must(os.WriteFile(f.Object(key.String()), content, 0o600))
	run(t, f, Event{}, Failed, "backup_invalid")
}

func TestALostTableIsDrilledToo(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 5)
	f.Backup("app")
	f.Must(os.Remove(f.Path("app")))
	f.Refresh()
	run(t, f, Event{}, Proved, "")
}

func TestLeftoversOfAKilledDrillGo(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 5)
	f.Backup("app")
	left := filepath.Join(f.Dir, ".tablekeeper", "app.db.drill-0123456789abcdef.tmp")
	f.Must(os.WriteFile(left, []byte("half a database"), 0o600))
	run(t, f, Event{}, Proved, "")
	if _, err := os.Stat(left); err == nil {
		t.Error("it is still there")
	}
}

func TestEachFailingCallOfTheBucket(t *testing.T) {
	kinds := []faulty.Kind{faulty.Fail, faulty.Temporary, faulty.Cut, faulty.Short, faulty.Flip, faulty.Zeros, faulty.Lie}
	if functionstest.Race {
		kinds = kinds[:2]
	}
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			f := functionstest.New(t)
			f.Make("app", 50)
			for n := 0; ; n++ {
				f.Backup("app")
				f.Fill("app", 1)
				f.Backup("app")
				hits := f.Bucket.Hits()
				f.Bucket.At(len(f.Bucket.Calls())+n, faulty.Fault{Kind: kind, Byte: 20})
				entry, err := function(f).Run(t.Context(), Event{}, "app", functions.Progress{})
				f.Bucket.Decide(func(faulty.Call) faulty.Fault { return faulty.Fault{} })
				if (err == nil) != (entry.Status == functions.Verified) {
					t.Errorf("call %d: %+v, %v", n, entry, err)
				}
				if left := f.Litter(); len(left) > 0 {
					t.Errorf("call %d leaves %v", n, left)
				}
				if entry.Outcome == Failed && kind == faulty.Temporary {
					t.Errorf("call %d: an unreachable bucket is taken for a bad backup: %+v", n, entry)
				}
				run(t, f, Event{}, Proved, "")
				if f.Bucket.Hits() == hits {
					t.Logf("clean after %d calls", n)
					break
				}
				if removed, err := f.Catalogue.Sweep(t.Context(), "app", f.Now().AddDate(1, 0, 0), false); err != nil || len(removed) == 0 {
					t.Errorf("call %d: the older backup is not superseded: %v, %v", n, removed, err)
				}
			}
		})
	}
}

// A scrub keeps to its rate, but leaves time for the drills. The clock is not the machine's, which may be busy.
func TestScrubRate(t *testing.T) { synctest.Test(t, scrubRate) }

func scrubRate(t *testing.T) {
	f := functionstest.New(t)
	handle, err := f.Shelf.Own(t.Context(), "app", f.Path("app"), shelf.OwnOptions{
		Table: table.Options{ProbeEvery: -1}, Recover: func(context.Context, string, table.Report) error { return nil },
	})
	f.Must(err)
	defer func() { f.Must(f.Shelf.CloseOwned()) }()
	f.Must(handle.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "CREATE TABLE items (body BLOB); INSERT INTO items VALUES (zeroblob(300000))")
		return err
	}))
	_, err = handle.Checkpoint(t.Context())
	f.Must(err)
	f.Refresh()
	f.Backup("app")
	fn := function(f)
	fn.ScrubRate = 1e6
	begin := time.Now()
	entry, err := fn.Run(t.Context(), Event{}, "app", functions.Progress{})
	if took := time.Since(begin); err != nil || took < 300*time.Millisecond || entry.Scrubbed < 73 || len(entry.Notes) != 0 {
		t.Errorf("%v: %+v, %v", took, entry, err)
	}
	fn.ScrubRate = 1
	for limit := time.Second; limit < 5*time.Minute; limit *= 5 { // on a busy machine the drill alone may take longer
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		entry, err = fn.Run(ctx, Event{}, "app", functions.Progress{})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	if err != nil || entry.Scrubbed < 73 || len(entry.Notes) != 1 {
		t.Errorf("%+v, %v", entry, err)
	}
}

func TestAScrubLeavesTimeForTheDrills(t *testing.T) {
	for _, tc := range []struct {
		rate, size int64
		left       time.Duration
		want       int64
	}{
		{0, 1e9, time.Minute, 0}, // as fast as the disk
		{10e6, 1e9, 10 * time.Minute, 10e6},
		{1e6, 1e9, 10 * time.Minute, 3333333},
		{1e6, 1e9, 0, 0},
	} {
		if got := inTime(tc.rate, tc.size, tc.left); got != tc.want {
			t.Errorf("%+v: %d", tc, got)
		}
	}
}

// A long run meets backups that retention has removed since it began. That is no bad backup, and no reason for an alarm.
func TestABackupThatRetentionRemovedMeanwhile(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 50)
	older := f.Backup("app")
	f.Fill("app", 1)
	newer := f.Backup("app")
	for _, event := range []Event{{Backup: "all"}, {Backup: older.String()}} {
		swept := false
		p := functions.Progress{Phase: func(phase string) func(int64) {
			return func(int64) {
				if phase != "check" || swept {
					return
				}
				swept = true
				f.Must(f.Catalogue.MarkProved(t.Context(), newer, f.Now()))
				_, err := f.Catalogue.Sweep(t.Context(), "app", f.Now().AddDate(1, 0, 0), false)
				f.Must(err)
			}
		}}
		entry, err := function(f).Run(t.Context(), event, "app", p)
		if event.Backup == "all" {
			if err != nil || entry.Outcome != Proved || entry.BackupUsed != newer.String() || len(entry.Drills) != 1 || !strings.Contains(strings.Join(entry.Notes, ""), older.String()) {
				t.Errorf("%+v, %v", entry, err)
			}
			older = f.Backup("app")
			f.Fill("app", 1)
			newer = f.Backup("app")
			continue
		}
		if entry.Outcome != Failed || entry.Reason != "no_backup" || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%+v, %v", entry, err)
		}
	}
	if key, err := shelf.ReadRecord(f.Path("app")); err != nil || key.Key != newer.String() || key.Distrust != "" {
		t.Errorf("%+v, %v", key, err)
	}
}
