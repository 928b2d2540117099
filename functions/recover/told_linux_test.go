package recover

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/childtest"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// moments around the end of a recovery, at which a child dies.
var lastMoments = []string{"before the state", "after the state", "before the record", "after the record"}

func dieAt(now, moment string) {
	if now == moment {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until it arrives
	}
}

// mortal is a shelf whose process dies around the change of state that ends a recovery.
type mortal struct {
	*shelf.Shelf
	die string
}

func (m mortal) SetState(name string, state shelf.State, reason string) error {
	if state != shelf.Healthy {
		return m.Shelf.SetState(name, state, reason)
	}
	dieAt("before the state", m.die)
	err := m.Shelf.SetState(name, state, reason)
	dieAt("after the state", m.die)
	return err
}

// record puts an entry at the end of a file, durably, and then says that it is there: what a runner does.
func record(path, tablePath string, e Entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt(append(line, '\n'), info.Size())
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return shelf.Told(tablePath, e.Recoveries)
}

// recordOnce is a start of the service: it tells what is untold, opens the table, and waits until it serves.
func recordOnce(tables, bucket, records, die string) error {
	ctx := context.Background()
	s, sources, err := openHouse(ctx, tables, bucket)
	if err != nil {
		return err
	}
	f := New(Config{Shelf: mortal{s, die}, Sources: sources, Remember: true})
	path := filepath.Join(tables, owned+".db")
	var one sync.Mutex // the table's lock
	handle, err := s.Own(ctx, owned, path, shelf.OwnOptions{
		Table: table.Options{Idle: time.Hour, ProbeEvery: -1},
		Recover: func(ctx context.Context, name string, r table.Report) error {
			one.Lock()
			defer one.Unlock()
			entry, err := f.Run(ctx, Event{Table: name, Force: true}, name, functions.Progress{})
			if err == nil {
				dieAt("before the record", die)
				err = record(records, path, entry)
				dieAt("after the record", die)
			}
			return err
		},
		Backoff: func(int) time.Duration { return time.Millisecond },
	})
	if err != nil {
		return err
	}
	one.Lock()
	entry, err := f.Run(ctx, Event{Table: owned, Tell: true}, owned, functions.Progress{})
	if err == nil && entry.Status != functions.Skipped {
		err = record(records, path, entry)
	}
	one.Unlock()
	if err != nil {
		return err
	}
	return errors.Join(scrubUntilServed(ctx, handle), s.CloseOwned())
}

// recordedLoss tells whether a loss is in the records, which are emptied.
func recordedLoss(t *testing.T, path string) (told bool) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var e Entry
		if json.Unmarshal([]byte(line), &e) == nil && e.Lost != "" {
			told = true
		}
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return told
}

// The service is killed at every call that it makes while it recovers a table and records what it did, and started again. Rows are lost; each
// time that is in the records in the end.
func TestALossIsToldWheneverItIsKilled(t *testing.T) {
	if functionstest.Race {
		t.Skip("runs in the pass without the race detector")
	}
	childtest.NeedStrace(t)
	for name, damage := range map[string]func(w *ward){
		// Of this the last rung but one is left, which loses what was written since the backup.
		"restore": func(w *ward) { w.scribble(0, slices.Repeat([]byte("garbage!"), 20*512)) },
		// The WAL of a service that was killed is gone, and with it what was staged: the rest is sound.
		"no WAL": nil,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWard(t, 60)
			records := filepath.Join(t.TempDir(), "records")
			w.Backup(owned)
			good := w.hash()
			kills := 0
			for n := 1 - len(lastMoments); ; n++ {
				if damage != nil {
					w.write("UPDATE items SET label = 'lost', body = randomblob(200)")
					w.Must(w.Shelf.CloseOwned())
					damage(w)
				} else {
					w.loseWAL()
				}
				killed := w.killedRecording(n, records)
				if n <= 0 && !killed {
					t.Fatalf("it did not die %s", lastMoments[-n])
				}
				w.Must(recordOnce(w.Dir, w.BucketDir, records, ""))
				w.Refresh()
				w.own()
				if !recordedLoss(t, records) {
					t.Fatalf("killed at call %d: rows are lost, and nobody has said so", n)
				}
				if w.hash() != good || w.state() != shelf.Healthy || len(shelf.ReadRecovery(w.Path(owned)).Untold) > 0 {
					t.Fatalf("killed at call %d: state %s, kept %+v", n, w.state(), shelf.ReadRecovery(w.Path(owned)))
				}
				w.sound()
				for _, q := range w.quarantined() {
					w.Must(os.RemoveAll(q.Path))
				}
				if !killed {
					break
				}
				kills++
			}
			t.Logf("killed at %d calls", kills)
			if kills < 5 {
				t.Errorf("killed at %d calls only", kills)
			}
		})
	}
}

// loseWAL leaves the table as it is after a kill, with a WAL that the ledger knows, and removes that.
func (w *ward) loseWAL() {
	w.T.Helper()
	path := w.Path(owned)
	w.write("UPDATE items SET label = 'lost' WHERE id = 5")
	_, err := w.handle.Expect(w.T.Context()) // stages
	w.Must(err)
	kept := map[string][]byte{}
	for _, file := range []string{path, filepath.Join(w.Dir, ".tablekeeper", owned+".db.ledger")} {
		kept[file], err = os.ReadFile(file)
		w.Must(err)
	}
	w.Must(w.Shelf.CloseOwned())
	w.Must(os.Remove(path + "-wal"))
	for file, content := range kept {
		f, err := os.OpenFile(file, os.O_RDWR|os.O_TRUNC, 0)
		w.Must(err)
		_, err = f.Write(content)
		w.Must(errors.Join(err, f.Close()))
	}
}

// killedRecording runs the child, which is killed at its n-th call that changes the disk, or for n = 0, -1, ... at one of the last moments,
// and tells whether it was.
func (w *ward) killedRecording(n int, records string) bool {
	w.T.Helper()
	if n > 0 {
		return childtest.Killed(w.T, diskCalls, n, "record", w.Dir, w.BucketDir, records, "")
	}
	return childtest.Dead(w.T, "record", w.Dir, w.BucketDir, records, lastMoments[-n])
}
