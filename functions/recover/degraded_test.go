package recover

import (
	"database/sql"
	"os"
	"strings"
	"testing"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// All backups are bad: the table begins anew, empty and degraded, and the service goes on. Then a second bucket comes back.
func TestDegradedAndBack(t *testing.T) {
	w := newWard(t, 100)
	good := w.hash()
	key := w.Backup(owned)
	second := w.copyBucket()
	w.spoil(key.String())
	w.ruin()
	entry, err := w.next()
	if err != nil || entry.Status != functions.Degraded || entry.Rung != RungEmpty || entry.RecordCount != 0 {
		t.Fatalf("%v: %s: %+v", err, rungs(entry), entry)
	}
	if w.state() != shelf.Degraded || !strings.Contains(entry.Rungs[len(entry.Rungs)-1].Detail, key.String()) {
		t.Errorf("state %s: %+v", w.state(), entry.Rungs)
	}
	w.write("INSERT INTO items (label) VALUES ('in the degraded table')")
	w.Must(w.handle.Read(t.Context(), func(tx *sql.Tx) error {
		var name string
		return tx.QueryRowContext(t.Context(), "SELECT name FROM sqlite_schema WHERE name = 'by_label'").Scan(&name)
	}))
	if degraded := w.Backup(owned); w.manifest(degraded).State != archive.StateDegraded {
		t.Error("the backup of a degraded table does not say so")
	}

	w.needed(true)

	// Damaged again and repaired without a loss, it is still degraded.
	w.settle()
	w.flip((4096 + 4000) * 8)
	w.scrub()
	entry, err = w.next()
	if err != nil || entry.Status != functions.Repaired || w.state() != shelf.Degraded {
		t.Fatalf("%v, state %s: %+v", err, w.state(), entry)
	}

	// The second bucket is back, the table is damaged once more: now there is something better than what it has.
	w.function.Sources = append(w.function.Sources, Source{Catalogue: second, Bucket: "file:///second"})
	w.ruin()
	entry, err = w.next()
	if err != nil || entry.Status != functions.Restored || entry.BackupUsed != key.String() || w.state() != shelf.Healthy {
		t.Fatalf("%v, state %s: %s: %+v", err, w.state(), rungs(entry), entry)
	}
	if w.hash() != good {
		t.Error("the content is another one")
	}
	if n := len(w.quarantined()); n < 3 {
		t.Errorf("%d damaged copies are kept", n)
	}
	w.needed(false)
}

// needed fails the test unless what is in quarantine is all that may be left of the table, or was until just now.
func (w *ward) needed(want bool) {
	w.T.Helper()
	got, since, err := shelf.Needed(w.Path(owned))
	if err != nil || got != want || since.IsZero() != want {
		w.T.Errorf("what is in quarantine is needed: %v, since %v, %v", got, since, err)
	}
}

// The empty table is what the last one was but for its rows: programs look at user_version and application_id.
func TestTheEmptyTableHasTheFormOfTheLastOne(t *testing.T) {
	for name, backedUp := range map[string]bool{"of the backup's manifest": true, "of the damaged file": false} {
		t.Run(name, func(t *testing.T) {
			f := functionstest.New(t)
			f.Exec("app", "PRAGMA page_size=8192; PRAGMA encoding='UTF-16le'; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; "+
				"CREATE TABLE items (id INTEGER PRIMARY KEY, label TEXT, body BLOB); CREATE INDEX by_label ON items(label); "+
				"PRAGMA user_version=42; PRAGMA application_id=-7")
			f.Fill("app", 100)
			f.Exec("app", "PRAGMA wal_checkpoint(TRUNCATE)")
			f.Refresh()
			info, err := os.Stat(f.Path("app"))
			f.Must(err)
			if backedUp {
				key := f.Backup("app").String()
				object, err := os.Stat(f.Object(key))
				f.Must(err)
				f.Damage(f.Object(key), object.Size()/3, "spoiled, spoiled, spoiled")
				f.Damage(f.Path("app"), 0, strings.Repeat("garbage!", int(info.Size()/8)))
			} else {
				f.Damage(f.Path("app"), 2*8192, strings.Repeat("garbage!", int(info.Size()/8)-2*1024))
			}
			function := New(Config{Shelf: f.Shelf, Sources: []Source{{Catalogue: f.Catalogue, Bucket: functionstest.BucketName}}, Now: f.Now})
			entry, err := function.Run(t.Context(), Event{Table: "app", Empty: true}, "app", functions.Progress{})
			if err != nil || entry.Status != functions.Degraded || len(entry.Notes) > 0 && !backedUp {
				t.Fatalf("%v: %+v", err, entry)
			}
			delete(f.Damaged, f.Path("app"))
			stats, err := table.Stat(t.Context(), f.Path("app"))
			f.Must(err)
			want := table.Form{PageSize: 8192, Encoding: "UTF-16le", AutoVacuum: "incremental", UserVersion: 42, ApplicationID: -7}
			if got := stats.Form(); got != want {
				t.Errorf("it is %+v, want %+v", got, want)
			}
			f.Exec("app", "INSERT INTO items (label) SELECT name FROM sqlite_schema WHERE name = 'by_label'")
			if got := f.Rows(f.Path("app")); got != "1:by_label:" {
				t.Errorf("%q", got)
			}
		})
	}
}

func (w *ward) manifest(key archive.Key) archive.Manifest {
	w.T.Helper()
	reader, err := w.Catalogue.Open(w.T.Context(), key)
	w.Must(err)
	return reader.Manifest()
}

func TestAcceptEndsADegradedState(t *testing.T) {
	w := newWard(t, 50)
	w.ruin()
	if entry, err := w.next(); err != nil || entry.Status != functions.Degraded {
		t.Fatalf("%v: %+v", err, entry)
	}
	accept := Event{Table: owned, Accept: true}
	entry, err := w.function.Run(t.Context(), accept, owned, functions.Progress{})
	if err != nil || entry.Rung != RungAccept || w.state() != shelf.Healthy {
		t.Fatalf("%v, state %s: %+v", err, w.state(), entry)
	}
	w.needed(false)
	entry, err = w.function.Run(t.Context(), accept, owned, functions.Progress{})
	if err != nil || entry.Reason != "not_degraded" {
		t.Fatalf("%v: %+v", err, entry)
	}
	if w.manifest(w.Backup(owned)).State != "" {
		t.Error("its backups still say degraded")
	}
}
