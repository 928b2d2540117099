package recover

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// moments owns the table again, with recoveries that call at whenever a part of them begins or ends, counted from 0.
func (w *ward) moments(at func(n int, moment string)) {
	w.T.Helper()
	n := 0
	moment := func(word, name string) {
		at(n, word+" of "+name)
		n++
	}
	phases := functions.Progress{Phase: func(name string) func(int64) {
		moment("begin", name)
		return func(int64) { moment("end", name) }
	}}
	w.Must(w.Shelf.CloseOwned())
	handle, err := w.Shelf.Own(w.T.Context(), owned, w.Path(owned), shelf.OwnOptions{
		Table: table.Options{Idle: time.Hour, ProbeEvery: -1, RecoverWait: 5 * time.Minute},
		Recover: func(ctx context.Context, name string, r table.Report) error {
			entry, err := w.function.Run(ctx, Event{Table: name, Reason: string(r.Cause), Force: true}, name, phases)
			w.mu.Lock()
			w.entries, w.errs = append(w.entries, entry), append(w.errs, err)
			w.mu.Unlock()
			w.changed <- struct{}{}
			return err
		},
		Backoff: func(int) time.Duration { return time.Millisecond },
	})
	w.Must(err)
	w.handle = handle
}

// lost waits until the table has nothing wrong any more, and tells whether a recovery said that it lost something.
func (w *ward) lost() bool {
	w.T.Helper()
	told := false
	for range 5 {
		for {
			entry, err := w.next()
			told = told || entry.Lost != ""
			if err == nil {
				break
			}
		}
		if len(w.scrub()) == 0 {
			return told
		}
	}
	w.T.Fatal("it is damaged again and again")
	return false
}

// damageFile flips a bit of a page that has rows, wherever the file is.
func damageFile(path string, page int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, 1)
	at := page*4096 + 3000
	if _, err := f.ReadAt(b, at); err != nil {
		return nil // it is not that long yet
	}
	b[0] ^= 4
	_, err = f.WriteAt(b, at)
	return err
}

// While a recovery runs, there is a second fault, at each of its moments: another page of the table, a page of the file that is to take its
// place, or the newest backup is gone. It ends with a sound table that has every row of the backup, and it is said whether something is lost.
func TestSecondFaultDuringRecovery(t *testing.T) {
	first := map[string]func(w *ward){
		"pages": func(w *ward) { w.scribble(3*4096, make([]byte, 4096)) },
		"restore": func(w *ward) { // page 4 was written after the last backup
			w.write("UPDATE items SET label = label || '!'")
			w.settle()
			w.scribble(0, []byte(strings.Repeat("garbage!", 512*10)))
		},
	}
	second := map[string]func(w *ward) error{
		"another page": func(w *ward) error { return damageFile(w.Path(owned), 5) },
		"the new file": func(w *ward) error {
			files, err := filepath.Glob(filepath.Join(w.Dir, ".tablekeeper", "*recover*.tmp"))
			for _, file := range files {
				err = damageFile(file, 6)
			}
			return err
		},
		"the newest backup": func(w *ward) error {
			if keys := w.Backups(owned); len(keys) > 1 {
				return os.Remove(w.Object(keys[0]))
			}
			return nil
		},
	}
	for how, damage := range first {
		for what, fault := range second {
			t.Run(how+"/"+what, func(t *testing.T) {
				w := newWard(t, 200)
				at, reached, when := 0, false, ""
				hit := func(n int, moment string) {
					if n == at {
						reached, when = true, moment
						if err := fault(w); err != nil {
							t.Error(err)
						}
					}
				}
				tries := 0
				for at = 0; ; at++ {
					w.Backup(owned)
					good := w.hash()
					w.Backup(owned)
					reached = false
					w.moments(hit)
					w.Jump(perWindow)
					damage(w)
					w.scrub()
					told := w.lost()
					if w.hash() != good || told != (how == "restore") {
						t.Fatalf("second fault at the %s (%d): another content; a loss was told: %v", when, at, told)
					}
					w.sound()
					if w.state() != shelf.Healthy {
						t.Fatalf("second fault at the %s: state %s", when, w.state())
					}
					if !reached || functionstest.Race && at > 3 {
						break
					}
					tries++
				}
				t.Logf("%d moments", tries)
			})
		}
	}
}
