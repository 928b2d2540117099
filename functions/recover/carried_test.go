package recover

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"tablekeeper/functions"
	"tablekeeper/storage/table"
)

// forget has SQLite read the pages anew.
func (w *ward) forget() {
	w.T.Helper()
	w.Must(w.handle.Detach(w.T.Context()))
	w.Must(w.handle.Attach(w.T.Context(), table.AttachOptions{}))
}

// preview is the hash that the content would have after a change, and how many rows that is of.
func (w *ward) preview(change string) (hash string, rows int64) {
	w.T.Helper()
	undo := errors.New("only to see")
	err := w.handle.Write(w.T.Context(), func(tx *sql.Tx) (err error) {
		if rows, err = affect(w.T.Context(), tx, change); err == nil {
			hash, err = hashOf(w.T.Context(), tx)
		}
		return cmp.Or(err, undo)
	})
	if !errors.Is(err, undo) {
		w.T.Fatal(err)
	}
	return hash, rows
}

// change makes one, and says of how many rows it was.
func (w *ward) change(change string) (rows int64) {
	w.T.Helper()
	w.Must(w.handle.Write(w.T.Context(), func(tx *sql.Tx) (err error) {
		rows, err = affect(w.T.Context(), tx, change)
		return err
	}))
	return rows
}

func affect(ctx context.Context, tx *sql.Tx, change string) (rows int64, err error) {
	result, err := tx.ExecContext(ctx, change)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// body is that of a row, nil if there is none.
func (w *ward) body(id int) (body []byte) {
	w.T.Helper()
	err := w.handle.Read(w.T.Context(), func(tx *sql.Tx) error {
		return tx.QueryRowContext(w.T.Context(), "SELECT body FROM items WHERE id = ?", id).Scan(&body)
	})
	if !errors.Is(err, sql.ErrNoRows) {
		w.Must(err)
	}
	return body
}

// detect has the damage found by what comes before a page is overwritten.
func (w *ward) detect() (Entry, error) {
	w.T.Helper()
	if settled, err := w.handle.Checkpoint(w.T.Context()); err == nil && settled {
		w.scrub()
	}
	return w.next()
}

// SQLite reads a page with a flipped bit and writes it again. If that was because another row was changed, the flip is in the new version, with
// a right sum, and no backup has what should be there. If it was the row itself, the flip has gone.
func TestAFlippedBitThatWasWrittenAgain(t *testing.T) {
	for id, want := range map[int]functions.Status{42: functions.Restored, 41: functions.Repaired} {
		w := newWard(t, 300)
		mark := []byte("a row in the same page as another one that somebody changes")
		w.write("UPDATE items SET body = ? WHERE id = 41", mark)
		w.Backup(owned)
		w.write("UPDATE items SET label = 'since ' || id")
		w.settle()
		w.forget()
		file, err := os.ReadFile(w.Path(owned))
		w.Must(err)
		w.flip(int64(bytes.Index(file, mark)+30)*8 + 3)
		w.write("UPDATE items SET body = x'00ff' WHERE id = ?", id)
		entry, err := w.detect()
		if err != nil || entry.Status != want || (entry.Lost == "") != (want == functions.Repaired) {
			t.Fatalf("row %d: %v: %+v", id, err, entry)
		}
		if n := w.change("UPDATE items SET label = label WHERE label = 'since 42'"); n != 1 && want == functions.Repaired {
			t.Errorf("row %d: what was written since the backup is gone", id)
		}
		w.sound()
	}
}

// Random flips, each beneath a random change that was made from the damaged page, or not: afterwards the content is what was written, or that
// of the backup with a word of the loss. Rows that a statement did not find, because the flip was in their rowids, it has not changed.
func TestFlippedBitsBeneathChanges(t *testing.T) {
	n := 40
	if os.Getenv("RECOVER_TEST_THOROUGH") != "" {
		n = 500
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 41))
	w := newWard(t, 300)
	by := map[string]int{}
	for i := range n {
		w.Jump(perWindow)
		w.Backup(owned)
		body := make([]byte, 150+random.IntN(100))
		if random.IntN(4) == 0 { // the page has no room for that: rows move to others
			body = make([]byte, 500+random.IntN(1000))
		}
		for j := range body {
			body[j] = byte(random.Uint32())
		}
		id := 1 + random.IntN(300)
		change := fmt.Sprintf("UPDATE items SET body = x'%x' WHERE id BETWEEN %d AND %[2]d + 3", body, id)
		if random.IntN(3) == 0 {
			change = fmt.Sprintf("DELETE FROM items WHERE id = %d", id)
		}
		backup := w.hash()
		changed, _ := w.preview(change)
		w.write("UPDATE items SET label = 'now ' || id WHERE id % 7 = ?", i%7)
		good, rows := w.preview(change)
		beside := w.body(id + 1) // a row that is in the same page, as a rule
		w.settle()
		if random.IntN(4) > 0 {
			w.forget()
		}
		file, err := os.ReadFile(w.Path(owned))
		w.Must(err)
		page := 1 + random.IntN(len(file)/4096-1)
		if at := bytes.Index(file, beside); len(beside) > 0 && at > 4096 {
			page = at / 4096
		}
		w.flip(int64(page*4096*8 + random.IntN(4096*8)))
		missed := w.change(change) != rows // if it meets damage that shows, it waits for the recovery, and is made then
		entry, err := w.detect()
		if err != nil {
			t.Fatalf("seed %d, flip %d: %v: %+v", seed, i, err, entry)
		}
		by[entry.Rung]++
		switch is := w.hash(); {
		case entry.Status == functions.Repaired && entry.Lost == "" && (is == good || missed):
		case entry.Status == functions.Restored && entry.Lost != "" && (is == backup || is == changed):
		default:
			t.Fatalf("seed %d, flip %d: the content is neither what was written nor the backup's: %+v", seed, i, entry)
		}
		w.sound()
		for _, q := range w.quarantined() {
			w.Must(os.RemoveAll(q.Path))
		}
	}
	t.Logf("seed %d: %v", seed, by)
}
