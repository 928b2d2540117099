package functions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// Selector is a shelf, as far as an event's tables need one.
type Selector interface {
	Select(patterns []string) ([]shelf.Table, error)
}

// Names expands the names and globs of an event; none at all means every table.
func Names(from Selector, patterns []string) ([]string, error) {
	tables, err := from.Select(patterns)
	if err != nil {
		return nil, &Failure{Err: err, Final: true}
	}
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.Name
	}
	return names, nil
}

// Holder gives the lock of a table that the caller of a function has taken for it, nil if it has none. A function that
// needs the lock then takes it itself, at once or not at all.
type Holder func(table string) *table.Held

// Of is the lock of the table of that name, nil if there is none.
func (h Holder) Of(name string) *table.Held {
	if h == nil {
		return nil
	}
	return h(name)
}

// Resume settles what a process that died left of its work on the table. held may be nil.
func Resume(ctx context.Context, path string, held *table.Held) (action string, err error) {
	if held != nil {
		return held.Resume(ctx)
	}
	return table.Resume(ctx, path)
}

// Missing is the failure of a table whose file is gone.
func Missing(t shelf.Table) error {
	return &Failure{
		Reason: "missing", Final: true, Err: fmt.Errorf("%s is gone", t.Path),
		Try: fmt.Sprintf("tablekeeper restore %s --in-place; or, if it was deleted on purpose, remove its .backup file in %s", t.Name, table.StateDir(t.Path)),
	}
}

// Resumed is a table of which a process that died had left something undone.
type Resumed struct {
	Table  string `json:"table"`
	Action string `json:"action"`           // finished, undone, abandoned or cleaned: as storage/table says
	Detail string `json:"detail,omitempty"` // why it could not be settled
}

// ResumeAll settles what is left over of any of the tables. It looks into each folder once, so that it costs little where
// there is nothing to do. A table that somebody works on is left alone.
func ResumeAll(ctx context.Context, tables []shelf.Table) ([]Resumed, error) {
	names, dirs := map[string]string{}, map[string]bool{}
	for _, t := range tables {
		names[t.Path], dirs[filepath.Dir(t.Path)] = t.Name, true
	}
	var done []Resumed
	var errs []error
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		paths, err := table.Unfinished(dir)
		errs = append(errs, err)
		for _, path := range paths {
			action, err := table.Resume(ctx, path)
			switch {
			case errors.Is(err, table.ErrLocked):
			case err != nil:
				done = append(done, Resumed{Table: cmp.Or(names[path], path), Detail: err.Error()})
				errs = append(errs, err)
			case action != table.ResumeNothing:
				done = append(done, Resumed{Table: cmp.Or(names[path], path), Action: action})
			}
		}
	}
	return done, errors.Join(errs...)
}
