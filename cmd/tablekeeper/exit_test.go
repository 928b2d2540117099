package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/cmd/tablekeeper/settings"
	"tablekeeper/functions"
	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

func TestExplain(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		code int
	}{
		"configuration":      {&settings.InvalidError{Text: "x", Try: "y"}, 2},
		"usage":              {usage("y", "x"), 2},
		"unknown table":      {&shelf.UnknownError{Name: "x"}, 10},
		"unknown function":   {&jobs.UnknownFunctionError{Name: "x", Known: []string{"y"}}, 10},
		"event":              {&jobs.EventError{Function: "f", Err: &functions.EventError{Problem: "p", Try: "t"}}, 2},
		"unknown in event":   {&jobs.EventError{Function: "f", Err: &shelf.UnknownError{Name: "x"}}, 10},
		"unreachable":        {fmt.Errorf("put: %w", bucket.ErrUnreachable), 5},
		"no bucket":          {bucket.ErrNoBucket, 10},
		"denied":             {bucket.ErrDenied, 1},
		"wrong key":          {archive.ErrWrongKey, 12},
		"locked":             {table.ErrLocked, 11},
		"busy":               {&jobs.BusyError{Table: "x"}, 11},
		"in use":             {&table.InUseError{Path: "x"}, 11},
		"corrupt":            {&table.CorruptError{Path: "x"}, 20},
		"damaged backup":     {archive.ErrSum, 20},
		"not found":          {fs.ErrNotExist, 10},
		"cancelled":          {context.Canceled, 130},
		"with its own":       {fail(22, "do", "x: %w", table.ErrCorrupt), 22},
		"wrapped with words": {fmt.Errorf("a: %w", fail(5, "", "x")), 5},
		"anything else":      {errors.New("x"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			code, hint := explain(c.err)
			if code != c.code {
				t.Errorf("status %d, want %d", code, c.code)
			}
			silent := map[string]bool{"not found": true, "cancelled": true, "anything else": true, "wrapped with words": true}
			if hint == "" && !silent[name] {
				t.Error("no hint")
			}
		})
	}
}

func TestRunStatus(t *testing.T) {
	entries := func(reasons ...string) []history.Entry {
		var all []history.Entry
		for _, r := range reasons {
			all = append(all, history.Entry{Status: "failed", Reason: r})
		}
		return all
	}
	for name, c := range map[string]struct {
		run  history.Run
		want int
	}{
		"succeeded":      {history.Run{Status: history.Succeeded}, 0},
		"partial":        {history.Run{Status: history.Partial, Entries: entries("corrupt")}, 3},
		"locked":         {history.Run{Status: history.Skipped, Reason: "locked"}, 11},
		"cancelled":      {history.Run{Status: history.Cancelled}, 130},
		"one reason":     {history.Run{Status: history.Failed, Entries: entries("corrupt", "corrupt")}, 20},
		"same status":    {history.Run{Status: history.Failed, Entries: entries("missing", "no_backup")}, 10},
		"several":        {history.Run{Status: history.Failed, Entries: entries("corrupt", "wrong_key")}, 1},
		"unheard of":     {history.Run{Status: history.Failed, Entries: entries("gremlins")}, 1},
		"did not begin":  {history.Run{Status: history.Failed}, 1},
		"unreachable":    {history.Run{Status: history.Failed, Entries: entries("bucket_unreachable")}, 5},
		"timed out":      {history.Run{Status: history.TimedOut, Entries: entries("timed_out")}, 1},
		"queued, async":  {history.Run{Status: history.Queued}, 0},
		"lost with work": {history.Run{Status: history.Lost}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := runStatus(c.run); got != c.want {
				t.Errorf("status %d, want %d", got, c.want)
			}
		})
	}
}

// A demo that is stopped leaves nothing, and says that rather than that what was done is kept.
func TestAStoppedDemo(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	t.Setenv("TMP", tmp)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr strings.Builder
	if code := run(ctx, []string{"demo"}, nil, &stdout, &stderr); code != exitCancelled {
		t.Errorf("exit status %d", code)
	}
	if want := "tablekeeper: stopped; nothing is left of the demo\nTry: tablekeeper demo begins anew\n"; stderr.String() != want {
		t.Errorf("%q, want %q", stderr.String(), want)
	}
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestColumns(t *testing.T) {
	columns := columnsOf([]history.Entry{{Table: "orders", Status: "compacted"}, {Table: "a", Status: "skipped"}})
	status, name := columns.fill(screen.Status("skipped"), "a")
	if got := status.Text + name + "|"; got != "– skipped    a       |" {
		t.Errorf("%q", got)
	}
}
