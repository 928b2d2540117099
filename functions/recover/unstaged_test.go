package recover

import (
	"bytes"
	"database/sql"
	"os"
	"slices"
	"testing"

	"tablekeeper/functions"
)

// label reads one row through the handle.
func (w *ward) label(id int) (label string) {
	w.T.Helper()
	w.Must(w.handle.Read(w.T.Context(), func(tx *sql.Tx) error {
		return tx.QueryRowContext(w.T.Context(), "SELECT label FROM items WHERE id = ?", id).Scan(&label)
	}))
	return label
}

// A row was committed after the last checkpoint: it is in the WAL alone, and the ledger does not have its page yet. Then the main file is
// damaged so that SQLite can begin no transaction in it any more. The row is kept: the WAL is whole.
func TestRowsThatAreOnlyInTheWAL(t *testing.T) {
	for name, damage := range map[string]func(w *ward){
		"header destroyed": func(w *ward) { w.scribble(0, make([]byte, 100)) },
		"garbage": func(w *ward) {
			info, err := os.Stat(w.Path(owned))
			w.Must(err)
			w.scribble(0, slices.Repeat([]byte("garbage!"), int(info.Size()/8)))
		},
		"first page zeroed": func(w *ward) { w.scribble(0, make([]byte, 4096)) },
		"truncated":         func(w *ward) { w.Must(os.Truncate(w.Path(owned), 5000)) },
		"emptied":           func(w *ward) { w.Must(os.Truncate(w.Path(owned), 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWard(t, 200)
			w.Backup(owned)
			w.write("UPDATE items SET label = 'staged' WHERE id = 3")
			if _, err := w.handle.Expect(t.Context()); err != nil { // moves the pin
				t.Fatal(err)
			}
			w.write("UPDATE items SET label = 'in the WAL alone' WHERE id = 5")
			damage(w)
			w.scrub()
			entry, err := w.next()
			if err != nil || entry.Status != functions.Repaired || entry.Lost != "" {
				t.Fatalf("%v: %s: %+v", err, rungs(entry), entry)
			}
			if a, b := w.label(3), w.label(5); a != "staged" || b != "in the WAL alone" {
				t.Errorf("%s: the rows are %q and %q", entry.Rung, a, b)
			}
			w.sound()
		})
	}
}

// A page is damaged, and its newer version is in the WAL, made before: nothing is left to repair when the files have been closed.
func TestTheWALHeals(t *testing.T) {
	for name, damage := range map[string]func(w *ward, at int64){
		"page zeroed": func(w *ward, at int64) { w.scribble(at/4096*4096, make([]byte, 4096)) },
		"bit flipped": func(w *ward, at int64) { w.flip(at * 8) },
		"header":      func(w *ward, _ int64) { w.scribble(0, make([]byte, 100)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWard(t, 200) // and no backup
			w.write("UPDATE items SET body = 'a mark that is found again' WHERE id = 50")
			w.settle()
			file, err := os.ReadFile(w.Path(owned))
			w.Must(err)
			at := bytes.Index(file, []byte("a mark that is found again"))
			w.write("UPDATE items SET body = randomblob(199) WHERE id = 51")
			w.write("CREATE TABLE more (n)") // page 1
			good := w.hash()
			damage(w, int64(at))
			w.scrub()
			entry, err := w.next()
			if err != nil || entry.Rung != RungNone || entry.Lost != "" || entry.Status != functions.Repaired {
				t.Fatalf("%v: %s: %+v", err, rungs(entry), entry)
			}
			if w.hash() != good {
				t.Error("the content is another one")
			}
			w.sound()
		})
	}
}
