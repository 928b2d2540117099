package table_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"tablekeeper/storage/table"
)

// A program that owns a table: every read and write passes through it, and every flipped bit is found.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	notes, err := table.Open(ctx, filepath.Join(dir, "notes.db"), table.Options{
		OnCorrupt: func(ctx context.Context, r table.Report) { log.Println("recover", r.Path, r.Cause, r.Pages) },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer notes.Close()

	err = notes.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "CREATE TABLE note(text); INSERT INTO note VALUES('buy milk'), ('call home')")
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	var count int
	err = notes.Read(ctx, func(tx *sql.Tx) error { return tx.QueryRowContext(ctx, "SELECT count(*) FROM note").Scan(&count) })
	if err != nil {
		log.Fatal(err)
	}
	if _, err := notes.Checkpoint(ctx); err != nil {
		log.Fatal(err)
	}
	scrub, err := notes.Scrub(ctx, table.ScrubOptions{BytesPerSecond: 100 << 20})
	fmt.Println(count, "notes,", scrub.Pages, "pages,", len(scrub.Bad), "damaged,", err)
	// Output: 2 notes, 2 pages, 0 damaged, <nil>
}
