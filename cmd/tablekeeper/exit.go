package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"tablekeeper/cmd/tablekeeper/settings"
	"tablekeeper/jobs"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// The exit statuses, as docs/cli.md lists them.
const (
	exitDone      = 0
	exitFailed    = 1
	exitUsage     = 2
	exitPartial   = 3
	exitTemporary = 5
	exitNotFound  = 10
	exitLocked    = 11
	exitWrongKey  = 12
	exitCorrupt   = 20
	exitUnhealthy = 21
	exitUnsure    = 22
	exitCancelled = 130
)

// meanings says what a program and a person make of an error; the first that is in its chain decides.
var meanings = []struct {
	target error
	code   int
	hint   string
}{
	{settings.ErrInvalid, exitUsage, "tablekeeper check"},
	{context.Canceled, exitCancelled, ""},
	{path.ErrBadPattern, exitUsage, "a glob such as 'shop-*', in quotes"},
	{shelf.ErrUnknown, exitNotFound, "tablekeeper status lists the tables"},
	{archive.ErrWrongKey, exitWrongKey, "name the identity that opens it: encryption.identity_file or TABLEKEEPER_IDENTITY_FILE"},
	{archive.ErrNewer, exitFailed, "restore it with a newer tablekeeper"},
	{bucket.ErrUnreachable, exitTemporary, "tablekeeper check shows what the bucket answers; then run this again"},
	{bucket.ErrDenied, exitFailed, "tablekeeper check shows what is allowed; see docs/configuration.md, Credentials"},
	{bucket.ErrNoBucket, exitNotFound, "create the bucket, or correct its address"},
	{bucket.ErrFull, exitFailed, "make room in the bucket: tablekeeper invoke sweep"},
	{table.ErrLocked, exitLocked, "wait for it: tablekeeper runs list"},
	{table.ErrBusy, exitLocked, "run it again when the table is less busy"},
	{table.ErrInUse, exitLocked, "stop those processes, or restore to a new path with -o"},
	{table.ErrCorrupt, exitCorrupt, "repair it: tablekeeper recover TABLE"},
	{archive.ErrSum, exitCorrupt, "tablekeeper backups TABLE lists older ones"},
	{archive.ErrTruncated, exitCorrupt, "tablekeeper backups TABLE lists older ones"},
	{archive.ErrFormat, exitCorrupt, "tablekeeper backups TABLE lists older ones"},
	{table.ErrNoSpace, exitFailed, "make room on the disk"},
	{table.ErrNetworkFS, exitFailed, "use a rollback journal there: PRAGMA journal_mode=DELETE"},
	{table.ErrReadOnly, exitFailed, "run as a user who may write the file and its folder"},
	{table.ErrNotDatabase, exitFailed, "tablekeeper discover finds SQLite files"},
	{fs.ErrNotExist, exitNotFound, ""},
	{fs.ErrPermission, exitFailed, "run as a user who may, or change the permissions"},
}

// explain gives an error its exit status and the next step.
func explain(err error) (code int, hint string) {
	var coded interface{ ExitStatus() int }
	var busy *jobs.BusyError
	var event *jobs.EventError
	var function *jobs.UnknownFunctionError
	switch {
	case errors.As(err, &coded):
		code = coded.ExitStatus()
	case serverStatus(err) != 0:
		code = serverStatus(err)
	case errors.As(err, &busy):
		code, hint = exitLocked, "wait for it: tablekeeper runs list"
	case errors.As(err, &function):
		code = exitNotFound
	case errors.As(err, &event) && !errors.Is(err, shelf.ErrUnknown):
		code = exitUsage
	default:
		code, hint = meaning(err)
	}
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) && hinted.Hint() != "" {
		hint = hinted.Hint()
	}
	return code, hint
}

func meaning(err error) (code int, hint string) {
	for _, m := range meanings {
		if errors.Is(err, m.target) {
			return m.code, m.hint
		}
	}
	return exitFailed, ""
}

// failure is an error of a command that knows its own exit status and next step.
type failure struct {
	code int
	hint string
	err  error
}

func (f *failure) Error() string   { return f.err.Error() }
func (f *failure) Unwrap() error   { return f.err }
func (f *failure) ExitStatus() int { return f.code }
func (f *failure) Hint() string    { return f.hint }

func fail(code int, hint, format string, args ...any) error {
	return &failure{code: code, hint: hint, err: fmt.Errorf(format, args...)}
}

func usage(hint, format string, args ...any) error {
	return fail(exitUsage, hint, format, args...)
}

// outcome is the exit status of a command whose output has said everything already.
type outcome struct{ code int }

func (o *outcome) Error() string { return fmt.Sprintf("exit status %d", o.code) }

// exitWith ends the command with a status; 0 is no error.
func exitWith(code int) error {
	if code == exitDone {
		return nil
	}
	return &outcome{code}
}
