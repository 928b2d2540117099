package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"tablekeeper/functions"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// use says what a function does with a table.
type use struct {
	writes  bool // it may change the table
	replace bool // it puts another file in its place, so that the table may be damaged, or missing
	content bool // it reads the table; otherwise what is kept beside it is enough
	absent  bool // it may find that it need not read it
	times   int64
}

// uses of the functions. times is how many times its size a table takes while it is worked on: a compaction has the table,
// the copy that VACUUM writes, and the journal; a restore what it replaces, what is kept of it, and the new one, which the
// drill measures by itself.
var uses = map[string]use{
	"compact": {writes: true, content: true, absent: true, times: 3},
	"backup":  {content: true, absent: true, times: 2},
	"verify":  {times: 1},
	"restore": {writes: true, replace: true, content: true, times: 2},
	"recover": {writes: true, replace: true, content: true, times: 4},
}

// visit is one table while it is worked on.
type visit struct {
	shelf *shelf.Shelf
	held  functions.Holder
	// absent: the table's content is not here; it is known to be that of what was kept at an earlier visit. Work that needs it answers errAbsent.
	absent bool
	found  *finding       // of an earlier visit to this version of the table
	keep   func(*finding) // keeps one for later visits; nil: nobody asks for it
}

// finding is what a compaction had to say of a version of a table that it left as it is.
type finding struct {
	Version   string          `json:"version"`
	Threshold float64         `json:"threshold"`
	Entry     json.RawMessage `json:"entry"`
}

// errAbsent: the work needs the content of the table.
var errAbsent = errors.New("the content of the table is needed")

// place is where the tables are.
type place interface {
	// census puts all tables on a shelf, without their content; kept: with what is kept beside them. remove ends it.
	census(ctx context.Context, kept bool) (s *shelf.Shelf, remove func() error, err error)
	// with brings the table to where work can be done on it, and what work has made of it back. An error that is errOvertaken
	// says that somebody else wrote the table meanwhile: nothing was changed, and it may begin anew.
	with(ctx context.Context, name string, u use, work func(visit) error) error
}

// errOvertaken: another version of the table is there than the one that was worked on.
var errOvertaken = errors.New("somebody else wrote the table meanwhile")

// folder is a place on a file system that several machines share: EFS.
type folder struct {
	path     string
	defaults shelf.Settings
	function string
}

func (f *folder) open(ctx context.Context) (*shelf.Shelf, error) {
	s, err := shelf.Open([]shelf.Source{{Path: f.path}}, shelf.Options{Defaults: f.defaults})
	if err != nil {
		return nil, err
	}
	_, err = s.Refresh(ctx)
	return s, err
}

func (f *folder) census(ctx context.Context, _ bool) (*shelf.Shelf, func() error, error) {
	s, err := f.open(ctx)
	return s, func() error { return nil }, err
}

func (f *folder) with(ctx context.Context, name string, u use, work func(visit) error) error {
	s, err := f.open(ctx)
	if err != nil {
		return err
	}
	t, err := s.Place(name)
	if err != nil {
		return &functions.Failure{Err: err, Final: true}
	}
	if err := refuseWAL(ctx, t, u); err != nil {
		return err
	}
	held, err := table.Lock(ctx, t.Path, table.Owner{Function: f.function})
	if err != nil {
		return err
	}
	err = work(visit{shelf: s, held: func(string) *table.Held { return held }})
	return errors.Join(err, held.Release())
}

// refuseWAL refuses a table in WAL mode: its users on several machines cannot share the memory that a WAL needs
// (https://sqlite.org/wal.html). It holds even where the file system does not say that it is a network's.
func refuseWAL(ctx context.Context, t shelf.Table, u use) error {
	if t.Missing || !u.content || u.replace {
		return nil
	}
	stats, err := table.Stat(ctx, t.Path)
	if err != nil || stats.JournalMode != "wal" {
		return err
	}
	return &functions.Failure{
		Final: true, Err: fmt.Errorf("table %s is in WAL mode on EFS: %w", t.Name, table.ErrNetworkFS),
		Try: fmt.Sprintf("stop its users, then: sqlite3 %q 'PRAGMA journal_mode=DELETE'; they are to set synchronous=EXTRA", filepath.Base(t.Path)),
	}
}
