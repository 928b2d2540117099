package recover

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// ward is a fleet with one owned table, whose recoveries are run by the function, one at a time, as the runner would.
type ward struct {
	*functionstest.Fleet
	function *Function
	handle   *table.Table
	one      sync.Mutex

	mu      sync.Mutex
	entries []Entry
	errs    []error
	changed chan struct{}
}

const owned = "owned"

func newWard(t *testing.T, rows int) *ward {
	t.Helper()
	w := &ward{Fleet: functionstest.New(t), changed: make(chan struct{}, 1000)}
	w.function = New(Config{
		Shelf: w.Shelf, Sources: []Source{{Catalogue: w.Catalogue, Bucket: functionstest.BucketName}}, Now: w.Now,
	})
	w.own()
	t.Cleanup(func() { w.Must(w.Shelf.CloseOwned()) })
	w.write("CREATE TABLE items (id INTEGER PRIMARY KEY, label TEXT, body BLOB); CREATE INDEX by_label ON items(label)")
	w.fill(rows)
	w.settle()
	w.Refresh()
	return w
}

func (w *ward) own() {
	w.T.Helper()
	handle, err := w.Shelf.Own(w.T.Context(), owned, w.Path(owned), shelf.OwnOptions{
		Table:   table.Options{Idle: time.Hour, ProbeEvery: 20 * time.Millisecond, RecoverWait: 5 * time.Minute},
		Recover: w.recover, Backoff: func(int) time.Duration { return time.Millisecond },
	})
	w.Must(err)
	w.handle = handle
}

func (w *ward) recover(ctx context.Context, name string, r table.Report) error {
	w.one.Lock()
	defer w.one.Unlock()
	entry, err := w.function.Run(ctx, Event{Table: name, Reason: string(r.Cause)}, name, functions.Progress{})
	w.mu.Lock()
	w.entries, w.errs = append(w.entries, entry), append(w.errs, err)
	w.mu.Unlock()
	w.changed <- struct{}{}
	return err
}

// next waits for the end of a recovery, or of an attempt at one.
func (w *ward) next() (Entry, error) {
	w.T.Helper()
	select {
	case <-w.changed:
	case <-time.After(5 * time.Minute):
		w.T.Fatal("no recovery")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	entry, err := w.entries[0], w.errs[0]
	w.entries, w.errs = w.entries[1:], w.errs[1:]
	return entry, err
}

func (w *ward) write(query string, args ...any) {
	w.T.Helper()
	w.Must(w.handle.Write(w.T.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(w.T.Context(), query, args...)
		return err
	}))
}

func (w *ward) fill(rows int) {
	w.T.Helper()
	w.write(fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) "+
		"INSERT INTO items (label, body) SELECT 'label ' || i, randomblob(200) FROM n", rows))
}

func (w *ward) settle() {
	w.T.Helper()
	if settled, err := w.handle.Checkpoint(w.T.Context()); err != nil || !settled {
		w.T.Fatalf("checkpoint: %v, %v", settled, err)
	}
}

// hash is that of the content, read through the handle.
func (w *ward) hash() (hash string) {
	w.T.Helper()
	w.Must(w.handle.Read(w.T.Context(), func(tx *sql.Tx) (err error) {
		hash, err = hashOf(w.T.Context(), tx)
		return err
	}))
	return hash
}

func hashOf(ctx context.Context, tx *sql.Tx) (string, error) {
	sum := sha256.New()
	rows, err := tx.QueryContext(ctx, "SELECT id, label, body FROM items NOT INDEXED ORDER BY id")
	if err != nil {
		return "", err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var label, body []byte
		if err := rows.Scan(&id, &label, &body); err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%d %q %x\n", id, label, body)
	}
	return hex.EncodeToString(sum.Sum(nil)), rows.Err()
}

// scribble changes bytes of the table's file.
func (w *ward) scribble(off int64, b []byte) {
	w.T.Helper()
	f, err := os.OpenFile(w.Path(owned), os.O_RDWR, 0)
	w.Must(err)
	_, err = f.WriteAt(b, off)
	w.Must(errors.Join(err, f.Close()))
}

// flip changes one bit.
func (w *ward) flip(bit int64) {
	w.T.Helper()
	f, err := os.OpenFile(w.Path(owned), os.O_RDWR, 0)
	w.Must(err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, bit/8)
	w.Must(err)
	b[0] ^= 1 << (bit % 8)
	_, err = f.WriteAt(b, bit/8)
	w.Must(errors.Join(err, f.Close()))
}

// scrub lets the scrub find what there is to find.
func (w *ward) scrub() []uint32 {
	w.T.Helper()
	done, err := w.handle.Scrub(w.T.Context(), table.ScrubOptions{})
	if err != nil && !errors.Is(err, table.ErrCorrupt) {
		w.T.Fatal(err)
	}
	return done.Bad
}

// sound fails the test unless every page is what was written and SQLite finds nothing.
func (w *ward) sound() {
	w.T.Helper()
	w.settle()
	if bad := w.scrub(); len(bad) > 0 {
		w.T.Fatalf("pages %v are damaged", bad)
	}
	w.Must(w.handle.Read(w.T.Context(), func(tx *sql.Tx) error {
		var verdict string
		err := tx.QueryRowContext(w.T.Context(), "PRAGMA integrity_check").Scan(&verdict)
		if err == nil && verdict != "ok" {
			err = errors.New(verdict)
		}
		return err
	}))
}

func (w *ward) state() shelf.State {
	w.T.Helper()
	t, err := w.Shelf.Get(owned)
	w.Must(err)
	return t.State
}

func (w *ward) quarantined() []table.Quarantined {
	w.T.Helper()
	all, err := table.QuarantineList(filepath.Dir(w.Path(owned)))
	w.Must(err)
	return all
}
