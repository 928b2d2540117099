package functions

import (
	"context"
	"errors"
	"io/fs"

	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// reasons names the errors that a report tells apart. The first that is in the chain decides.
var reasons = []struct {
	err    error
	reason string
}{
	{context.DeadlineExceeded, "timeout"},
	{context.Canceled, "cancelled"},
	{shelf.ErrUnknown, "unknown_table"},
	{table.ErrLocked, "locked"},
	{table.ErrBusy, "busy"},
	{table.ErrInUse, "in_use"},
	{table.ErrWouldBlock, "would_block"},
	{table.ErrNetworkFS, "network_file_system"},
	{table.ErrForeignJournal, "foreign_journal"},
	{table.ErrCorrupt, "corrupt"},
	{table.ErrNotDatabase, "not_database"},
	{table.ErrNoSpace, "no_space"},
	{table.ErrReadOnly, "read_only"},
	{table.ErrRecovering, "recovering"},
	{table.ErrUnsupported, "unsupported"},
	{archive.ErrWrongKey, "wrong_key"},
	{archive.ErrNewer, "newer_format"},
	{archive.ErrTooLarge, "too_large"},
	{bucket.ErrUnreachable, "bucket_unreachable"},
	{bucket.ErrDenied, "bucket_denied"},
	{bucket.ErrNoBucket, "no_bucket"},
	{bucket.ErrFull, "bucket_full"},
	{bucket.ErrNotStored, "not_stored"},
	{bucket.ErrExists, "backup_exists"},
	{archive.ErrTruncated, "backup_truncated"},
	{archive.ErrSum, "backup_damaged"},
	{archive.ErrFormat, "backup_invalid"},
	{bucket.ErrBody, "backup_damaged"},
	{fs.ErrPermission, "permission_denied"},
	{fs.ErrNotExist, "not_found"},
}

// ReasonOf is the word by which a report names err: that of a *Failure in its chain, else that of the storage error that
// is its cause, else "error".
func ReasonOf(err error) string {
	var f *Failure
	if errors.As(err, &f) && f.Reason != "" {
		return f.Reason
	}
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.reason
		}
	}
	return "error"
}

// BadBackup tells whether err says that a backup itself is no good: damaged, cut short, gone, not what its manifest says.
// All else (a bucket that does not answer, a full disk, a key that we do not have) says nothing about the backup, and must
// not be taken for a reason to pass it over.
func BadBackup(err error) bool {
	for _, other := range []error{ErrHere, context.Canceled, context.DeadlineExceeded, bucket.ErrUnreachable, bucket.ErrDenied, bucket.ErrNoBucket} {
		if errors.Is(err, other) {
			return false
		}
	}
	for _, bad := range []error{archive.ErrFormat, archive.ErrTruncated, archive.ErrSum, archive.ErrTooLarge, bucket.ErrBody, ErrNotAsDescribed, fs.ErrNotExist} {
		if errors.Is(err, bad) {
			return true
		}
	}
	return false
}

// ErrNotAsDescribed is a backup that decodes and yet is not the table that its manifest tells of.
var ErrNotAsDescribed = errors.New("the restored table is not what the backup's manifest says")
