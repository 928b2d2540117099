package recover

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket/dir"
	"tablekeeper/storage/childtest"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// TestChild is not a test of its own: it is a service that recovers one table, to be killed.
func TestChild(t *testing.T) {
	childtest.Run(t, map[string]func(words []string) error{
		"serve":  func(words []string) error { return serveOnce(words[0], words[1]) },
		"record": func(words []string) error { return recordOnce(words[0], words[1], words[2], words[3]) },
	})
}

// diskCalls are those that change the disk.
const diskCalls = "link,linkat,rename,renameat,renameat2,fsync,fdatasync,unlink,unlinkat,ftruncate,pwrite64"

// openHouse is what a start of the service begins with.
func openHouse(ctx context.Context, tables, bucket string) (*shelf.Shelf, []Source, error) {
	s, err := shelf.Open([]shelf.Source{{Path: tables}}, shelf.Options{})
	if err != nil {
		return nil, nil, err
	}
	if _, err := s.Refresh(ctx); err != nil {
		return nil, nil, err
	}
	objects, err := dir.Open(bucket)
	if err != nil {
		return nil, nil, err
	}
	return s, []Source{{Catalogue: archive.NewCatalogue(objects, archive.CatalogueOptions{}), Bucket: functionstest.BucketName}}, nil
}

// scrubUntilServed finds what is wrong with a table, and waits until it serves.
func scrubUntilServed(ctx context.Context, handle *table.Table) error {
	if _, err := handle.Scrub(ctx, table.ScrubOptions{}); err != nil && !errors.Is(err, table.ErrCorrupt) {
		return err
	}
	return handle.Read(ctx, func(tx *sql.Tx) error {
		var n int
		return tx.QueryRowContext(ctx, "SELECT count(*) FROM items").Scan(&n)
	})
}
