package verify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"tablekeeper/functions"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// drill restores one backup, takes it away again, and records what came of it.
func (f *Function) drill(ctx context.Context, t shelf.Table, backup archive.Backup, p functions.Progress) Drill {
	start := f.Now()
	d := Drill{Backup: backup.Key.String(), Outcome: Proved, Size: backup.Size}
	proof, err := f.restore(ctx, t, backup.Key, p)
	d.FileSize, d.RecordCount, d.ForeignKeys, d.Unchecked = proof.Manifest.Size, proof.Records, proof.ForeignKeys, proof.Unchecked
	d.Repeated = proof.Repeated
	switch {
	case err == nil:
		err = f.proved(ctx, t, backup.Key)
	case functions.BadBackup(err):
		d.Outcome = Failed
		err = errors.Join(err, functions.Accuse(ctx, f.Catalogue, t.Path, f.Bucket, backup.Key, f.Now(), err))
	default:
		d.Outcome = CouldNotRun
	}
	d.err, d.DurationMS = err, f.Now().Sub(start).Milliseconds()
	if err != nil {
		d.Reason, d.Detail = functions.ReasonOf(err), err.Error()
	}
	return d
}

// restore leaves no file behind, whatever happens.
func (f *Function) restore(ctx context.Context, t shelf.Table, key archive.Key, p functions.Progress) (functions.Proof, error) {
	path, err := f.scratch(t)
	if err != nil {
		return functions.Proof{}, fmt.Errorf("%w: make room for a drill: %w", functions.ErrHere, err)
	}
	proof, err := functions.Drill{From: f.Catalogue, BySQLite: true}.Run(ctx, key, path, p)
	if err != nil {
		return proof, err
	}
	if err := functions.RemoveTable(path); err != nil {
		return proof, fmt.Errorf("%w: %w", functions.ErrHere, err)
	}
	return proof, nil
}

// scratch is a name for the restored file. Beside the table it is one that the next start cleans up.
func (f *Function) scratch(t shelf.Table) (string, error) {
	if f.Scratch == "" {
		return table.Temporary(t.Path, "drill"), table.MakeStateDir(t.Path)
	}
	// One name a table, so that what a killed drill left is found again.
	path := filepath.Join(f.Scratch, "drill-"+t.Name+".tmp")
	if err := os.MkdirAll(f.Scratch, 0o700); err != nil {
		return "", err
	}
	return path, functions.RemoveTable(path)
}

// proved tells the bucket, so that older backups may go, and remembers it.
func (f *Function) proved(ctx context.Context, t shelf.Table, key archive.Key) error {
	at := f.Now().UTC()
	if err := f.Catalogue.MarkProved(ctx, key, at); err != nil {
		return fmt.Errorf("%s restores, but that could not be recorded: %w", key, err)
	}
	return functions.Remember(t.Path, f.Bucket, key, func(r *shelf.Record) { r.Proved, r.Distrust = at, "" })
}
