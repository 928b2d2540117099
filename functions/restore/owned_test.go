package restore

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

func own(f *functionstest.Fleet) *table.Table {
	f.T.Helper()
	handle, err := f.Shelf.Own(f.T.Context(), "app", f.Path("app"), shelf.OwnOptions{
		Table: table.Options{ProbeEvery: -1, Idle: time.Hour}, Recover: func(context.Context, string, table.Report) error { return nil },
	})
	f.Must(err)
	return handle
}

func rows(f *functionstest.Fleet, handle *table.Table) (n int) {
	f.T.Helper()
	f.Must(handle.Read(f.T.Context(), func(tx *sql.Tx) error {
		return tx.QueryRowContext(f.T.Context(), "SELECT count(*) FROM items").Scan(&n)
	}))
	return n
}

// What a restore puts in the place of an owned table is compared with the sums of the backup from its first moment on: no page of it is
// unproven, and one that is damaged is found, also after the next start.
func TestAnOwnedTableGetsTheLedgerOfItsNewFile(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 300)
	f.Backup("app")
	handle := own(f)
	f.Must(handle.Write(t.Context(), func(tx *sql.Tx) error { _, err := tx.ExecContext(t.Context(), "DELETE FROM items"); return err }))
	if _, err := run(t, f, inPlace, functions.Restored, ""); err != nil {
		t.Fatal(err)
	}
	if n := rows(f, handle); n != 300 {
		t.Errorf("%d rows", n)
	}
	for range 2 {
		done, err := handle.Scrub(t.Context(), table.ScrubOptions{})
		if err != nil || len(done.Bad) != 0 || done.Unproven != 0 || done.Pages < 20 {
			t.Errorf("%+v, %v", done, err)
		}
		f.Must(f.Shelf.CloseOwned())
		handle = own(f)
	}
	f.Must(f.Shelf.CloseOwned())
	content, err := os.ReadFile(f.Path("app"))
	f.Must(err)
	content[11*4096+2000] ^= 1
	f.Must(os.WriteFile(f.Path("app"), content, 0o600))
	if _, err := table.Open(t.Context(), f.Path("app"), table.Options{}); !errors.Is(err, table.ErrCorrupt) {
		t.Errorf("a flip in the restored file: %v", err)
	}
	f.Damaged[f.Path("app")] = true
}

// A page that rots between the check and the exchange would get a right sum.
func TestAFileThatRotsBeforeItIsInPlace(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 300)
	f.Backup("app")
	handle := own(f)
	f.Must(handle.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "DELETE FROM items WHERE id > 100")
		return err
	}))
	rot := functions.Progress{Phase: func(phase string) func(int64) {
		return func(int64) {
			if phase != "check" {
				return
			}
			files, err := filepath.Glob(filepath.Join(f.Dir, ".tablekeeper", "app.db.restore-*.tmp"))
			if err != nil || len(files) != 1 {
				t.Fatalf("%v, %v", files, err)
			}
			content, err := os.ReadFile(files[0])
			f.Must(err)
			content[11*4096+2000] ^= 1
			f.Must(os.WriteFile(files[0], content, 0o600))
		}
	}}
	entry, err := function(f).Run(t.Context(), inPlace, "app", rot)
	if !errors.Is(err, functions.ErrHere) || entry.Status != functions.Failed || entry.Quarantine != "" {
		t.Errorf("%+v, %v", entry, err)
	}
	if n := rows(f, handle); n != 100 {
		t.Errorf("%d rows: the table is not as it was", n)
	}
	if done, err := handle.Scrub(t.Context(), table.ScrubOptions{}); err != nil || len(done.Bad) != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	f.Must(f.Shelf.CloseOwned())
}
