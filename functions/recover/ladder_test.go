package recover

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket/dir"
	"tablekeeper/storage/bucket/faulty"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// ruin makes every page that has rows garbage, and commits to each of them first, so that no backup has them as they were last.
func (w *ward) ruin() {
	w.T.Helper()
	w.write("UPDATE items SET body = randomblob(200)")
	w.settle()
	info, err := os.Stat(w.Path(owned))
	w.Must(err)
	for page := int64(1); page < info.Size()/4096; page++ {
		w.scribble(page*4096, []byte(strings.Repeat("ruin", 1024)))
	}
	w.scrub()
}

// spoil damages a backup in the bucket.
func (w *ward) spoil(key string) {
	w.T.Helper()
	path := w.Object(key)
	info, err := os.Stat(path)
	w.Must(err)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	w.Must(err)
	_, err = f.WriteAt([]byte("spoiled, spoiled, spoiled"), info.Size()/3)
	w.Must(errors.Join(err, f.Close()))
}

func rungs(e Entry) string {
	var all []string
	for _, s := range e.Rungs {
		all = append(all, s.Rung+" "+s.Outcome)
	}
	return strings.Join(all, ", ")
}

func TestTheNewestGoodBackupIsRestored(t *testing.T) {
	w := newWard(t, 100)
	oldest := w.Backup(owned)
	good := w.hash()
	w.fill(10)
	middle := w.Backup(owned)
	w.fill(10)
	newest := w.Backup(owned)
	w.spoil(newest.String())
	w.spoil(middle.String())
	w.ruin()
	entry, err := w.next()
	if err != nil || entry.Status != functions.Restored || entry.BackupUsed != oldest.String() || entry.RecordCount != 100 {
		t.Fatalf("%v: %+v", err, entry)
	}
	if !entry.LostSince.Equal(oldest.Created) && entry.LostSince.IsZero() || entry.Lost == "" {
		t.Errorf("lost since %v: %q", entry.LostSince, entry.Lost)
	}
	if w.hash() != good || w.state() != shelf.Healthy {
		t.Errorf("state %s", w.state())
	}
	w.sound()
	all, err := w.Catalogue.Backups(t.Context(), owned)
	w.Must(err)
	for _, b := range all {
		if b.Key != oldest && b.Failed.IsZero() {
			t.Errorf("%s is not marked as bad", b.Key)
		}
	}
}

// copyBucket makes a second bucket with what is in the first.
func (w *ward) copyBucket() *archive.Catalogue {
	w.T.Helper()
	path := filepath.Join(w.T.TempDir(), "second")
	b, err := dir.Create(path)
	w.Must(err)
	w.Must(filepath.WalkDir(filepath.Join(w.BucketDir, owned), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(w.BucketDir, name)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(path, rel)), 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(path, rel), content, 0o600)
	}))
	return archive.NewCatalogue(b, archive.CatalogueOptions{})
}

// A bucket that does not answer is no bad backup: the table waits, is tried again, and is never emptied.
func TestUnreachableBucketNeverEmptiesATable(t *testing.T) {
	w := newWard(t, 100)
	good := w.hash()
	w.Backup(owned)
	away := true
	w.Bucket.Decide(func(faulty.Call) faulty.Fault {
		if away {
			return faulty.Fault{Kind: faulty.Temporary}
		}
		return faulty.Fault{}
	})
	w.one.Lock() // so that the bucket comes back between two attempts
	w.scribble(4*4096, make([]byte, 4096))
	w.scribble(1*4096, make([]byte, 4096))
	w.scrub()
	w.one.Unlock()
	for range 3 {
		entry, err := w.next()
		if err == nil || functions.ReasonOf(err) != "bucket_unreachable" || entry.Status != functions.Failed {
			t.Fatalf("%v: %+v", err, entry)
		}
	}
	w.one.Lock()
	away = false
	w.one.Unlock()
	for {
		entry, err := w.next()
		if err != nil {
			continue
		}
		if entry.Status != functions.Repaired {
			t.Fatalf("%+v", entry)
		}
		break
	}
	if w.hash() != good || w.state() != shelf.Healthy {
		t.Error("the content is another one")
	}
}

// Every call of the bucket goes wrong in every way, one at a time: the table is repaired at once or at the next attempt, and nothing
// is lost.
func TestEveryFaultOfTheBucket(t *testing.T) {
	kinds := []faulty.Kind{faulty.Fail, faulty.Temporary, faulty.Denied, faulty.Cut, faulty.Short, faulty.Empty, faulty.Flip, faulty.Zeros, faulty.BreakList}
	if functionstest.Race {
		kinds = []faulty.Kind{faulty.Temporary, faulty.Flip}
	}
	w := newWard(t, 100)
	good := w.hash()
	w.Backup(owned)
	w.function.Now = nil
	w.function = New(w.function.Config) // the real clock would make it too often
	for _, kind := range kinds {
		for n := 0; ; n++ {
			w.Jump(perWindow)
			w.function.Now = w.Now
			before := len(w.Bucket.Calls())
			w.Bucket.At(before+n, faulty.Fault{Kind: kind, Byte: 100})
			hits := w.Bucket.Hits()
			w.scribble(1*4096, make([]byte, 4096))
			w.scribble(2*4096, make([]byte, 4096))
			w.scrub()
			entry, err := w.next()
			for err != nil {
				entry, err = w.next()
			}
			if entry.Status != functions.Repaired || w.hash() != good {
				t.Fatalf("%s at call %d: %s %s: %+v", kind, n, entry.Status, rungs(entry), entry)
			}
			if w.Bucket.Hits() == hits {
				break
			}
		}
	}
	w.sound()
}

// What damages a table again and again is not fought without an end.
func TestATableThatIsDamagedAgainAtOnce(t *testing.T) {
	w := newWard(t, 50)
	w.Backup(owned)
	for range maxRecoveries {
		w.flip((2*4096 + 77) * 8)
		w.scrub()
		if entry, err := w.next(); err != nil {
			t.Fatalf("%v: %+v", err, entry)
		}
	}
	w.flip((2*4096 + 77) * 8)
	w.scrub()
	_, err := w.next()
	var failure *functions.Failure
	if !errors.As(err, &failure) || failure.Reason != "corrupt_again" || !strings.Contains(failure.Try, "look for the cause") {
		t.Fatalf("%v", err)
	}
	if err := w.handle.Read(t.Context(), func(*sql.Tx) error { return nil }); !errors.Is(err, table.ErrDegraded) {
		t.Errorf("whoever comes gets %v", err)
	}
	w.one.Lock()
	entry, err := w.function.Run(t.Context(), Event{Table: owned, Force: true}, owned, functions.Progress{})
	w.one.Unlock()
	if err != nil || entry.Status != functions.Repaired {
		t.Fatalf("%v: %+v", err, entry)
	}
	w.sound()
}

// Reports of several who meet the same damage lead to one recovery.
func TestTwoReportsOneRecovery(t *testing.T) {
	w := newWard(t, 200)
	w.Backup(owned)
	w.scribble(3*4096, make([]byte, 4096))
	done := make(chan error)
	for range 8 {
		go func() {
			w.handle.Suspect(context.Background(), []uint32{4}, errors.New("reported"))
			_, err := w.handle.Scrub(context.Background(), table.ScrubOptions{})
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if _, err := w.next(); err != nil {
		t.Fatal(err)
	}
	w.sound()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.entries) > 0 {
		t.Errorf("%d more recoveries: %+v", len(w.entries), w.entries)
	}
}

// After a crash the next start goes on: a table that was suspect or recovering is recovered.
func TestRecoveryGoesOnAfterARestart(t *testing.T) {
	for _, state := range []shelf.State{shelf.Suspect, shelf.Recovering} {
		t.Run(string(state), func(t *testing.T) {
			w := newWard(t, 100)
			good := w.hash()
			w.Backup(owned)
			w.Must(w.Shelf.CloseOwned())
			w.Must(w.Shelf.SetState(owned, state, "test"))
			w.flip((3*4096 + 99) * 8)
			w.own()
			entry, err := w.next()
			if err != nil || entry.Status != functions.Repaired {
				t.Fatalf("%v: %+v", err, entry)
			}
			if w.hash() != good || w.state() != shelf.Healthy {
				t.Errorf("state %s", w.state())
			}
			w.sound()
		})
	}
}

// A crash between the swap and its record: the next start reports what was done, and an empty table does not pass for a healthy one.
func TestCrashAfterTheFileIsInPlace(t *testing.T) {
	w := newWard(t, 100)
	w.ruin()
	if entry, err := w.next(); err != nil || entry.Status != functions.Degraded {
		t.Fatalf("%v: %+v", err, entry)
	}
	w.Must(w.Shelf.CloseOwned())
	// As it was right after the swap:
	w.Must(w.Shelf.SetState(owned, shelf.Recovering, "test"))
	w.Must(shelf.WriteRecovery(w.Path(owned), shelf.Recovery{Degraded: true, Outcome: []byte(`{"table":"owned","status":"degraded","rung":"empty","lost":"all rows"}`)}))
	w.own()
	entry, err := w.next()
	if err != nil || entry.Status != functions.Degraded || entry.Lost == "" || entry.Quarantine == "" || w.state() != shelf.Degraded {
		t.Fatalf("%v, state %s: %+v", err, w.state(), entry)
	}
}

func TestEventsOfTheWrongShape(t *testing.T) {
	f := New(Config{})
	for _, e := range []Event{{}, {Table: "../x"}, {Table: "x", Accept: true, DryRun: true}} {
		if _, err := f.Tables(t.Context(), e); err == nil {
			t.Errorf("%+v is taken", e)
		}
	}
	if got, err := f.Tables(t.Context(), Event{Table: "x"}); err != nil || fmt.Sprint(got) != "[x]" {
		t.Errorf("%v, %v", got, err)
	}
}
