package functions

import (
	"context"
	"errors"
	"time"

	"tablekeeper/storage/archive"
	"tablekeeper/storage/shelf"
)

// Remember changes the record of the table at path, if it is of this backup in this bucket.
func Remember(path, bucket string, key archive.Key, change func(*shelf.Record)) error {
	record, err := shelf.ReadRecord(path)
	if err != nil || record.Key != key.String() || record.Bucket != bucket {
		return nil //nolint:nilerr // no record of this backup: there is nothing to change
	}
	change(&record)
	return shelf.WriteRecord(path, record)
}

// Accuser marks a backup as bad.
type Accuser interface {
	MarkFailed(ctx context.Context, key archive.Key, at time.Time) error
}

// accusing bounds what is done after a context may have ended: the tags of all older backups may have to be looked at.
const accusing = 2 * time.Minute

// Accuse makes it known that a backup is bad: in the bucket, so that older ones stay, and in the table's record, so that the
// table is not taken for unchanged since a backup that is none. It happens even if ctx has ended.
func Accuse(ctx context.Context, in Accuser, path, bucket string, key archive.Key, at time.Time, cause error) error {
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), accusing)
	defer cancel()
	mark := in.MarkFailed(whole, key, at)
	if BadBackup(mark) {
		mark = nil // it is gone altogether
	}
	return errors.Join(mark, Remember(path, bucket, key, func(r *shelf.Record) { r.Distrust = cause.Error() }))
}
