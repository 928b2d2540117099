package shelf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Table is one SQLite file of the fleet.
type Table struct {
	Name     string
	Path     string
	Settings Settings
	Condition
	// Missing tells that the file is gone though it was backed up. Such a table stays on the shelf so that it is missed,
	// and can be restored in place; ForgetRecord drops it.
	Missing bool
}

// Options of a shelf. The zero value has the default settings and the real clock.
type Options struct {
	Defaults Settings         // over DefaultSettings
	Now      func() time.Time // for the times in state files
	Logger   *slog.Logger     // a line for each change of state
}

// Shelf is the set of tables that the sources have, as of the last Refresh. It is safe for concurrent use.
type Shelf struct {
	sources  []Source
	defaults Settings
	now      func() time.Time
	log      *slog.Logger

	scanning sync.Mutex       // one Refresh at a time
	seen     map[string]inode // files whose header was read; guarded by scanning

	mu       sync.RWMutex
	tables   []Table // by name
	problems []Problem
	changed  map[string]Condition // by path: states set since the last Refresh began

	owner owner
}

// Open checks the sources and returns a shelf that is empty until Refresh. It touches no table.
func Open(sources []Source, opts Options) (*Shelf, error) {
	s := &Shelf{
		defaults: opts.Defaults.Over(DefaultSettings()),
		now:      opts.Now, log: opts.Logger, seen: map[string]inode{}, changed: map[string]Condition{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, source := range sources {
		if err := source.check(); err != nil {
			return nil, err
		}
		path, err := filepath.Abs(source.Path)
		if err != nil {
			return nil, fmt.Errorf("source %q: %w", source.Path, err)
		}
		source.Path = path
		s.sources = append(s.sources, source)
	}
	return s, nil
}

// Refresh looks at the sources again. What is no table is in the problems, in order of path; the error is only ctx's.
func (s *Shelf) Refresh(ctx context.Context) ([]Problem, error) {
	s.scanning.Lock()
	defer s.scanning.Unlock()
	s.mu.Lock()
	s.changed = map[string]Condition{}
	s.mu.Unlock()
	scan := scan{defaults: s.defaults, known: s.seen, seen: map[string]inode{}, kept: map[string]kept{}}
	if err := scan.run(ctx, s.sources); err != nil {
		return nil, fmt.Errorf("look for tables: %w", err)
	}
	s.seen = scan.seen
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, t := range scan.tables {
		if condition, ok := s.changed[t.Path]; ok { // the scan may have read the state before
			scan.tables[i].Condition = condition
		}
	}
	s.tables, s.problems = s.withOwned(scan.tables), scan.problems
	return slices.Clone(s.problems), nil
}

// Problems are those of the last Refresh.
func (s *Shelf) Problems() []Problem {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.problems)
}

// Tables are all tables by name, those that are missing too.
func (s *Shelf) Tables() []Table {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.tables)
}

// Get is the table of that name, or an *UnknownError.
func (s *Shelf) Get(name string) (Table, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if i, ok := s.index(name); ok {
		return s.tables[i], nil
	}
	return Table{}, s.unknown(name)
}

func (s *Shelf) index(name string) (int, bool) {
	return slices.BinarySearchFunc(s.tables, name, func(t Table, name string) int { return cmp.Compare(t.Name, name) })
}

// Place is where a table of that name belongs: the table itself if it is on the shelf; else, for one that was lost with
// all that was kept beside it, the path that a source gives to the name, or NAME.db in the one folder configured. It is
// an *UnknownError if there is no such place, or more than one.
func (s *Shelf) Place(name string) (Table, error) {
	t, err := s.Get(name)
	if err == nil || !ValidName(name) {
		return t, err
	}
	var places []Table
	for _, source := range s.sources {
		if path, ok := source.placeFor(name); ok && !exists(path) {
			places = append(places, Table{Name: name, Path: path, Settings: source.Settings.Over(s.defaults), Condition: Condition{State: Healthy}, Missing: true})
		}
	}
	if len(places) == 1 {
		return places[0], nil
	}
	return Table{}, err
}

func (s Source) placeFor(name string) (string, bool) {
	switch {
	case hasMeta(s.Path) && !exists(s.Path):
		return "", false
	case isFolder(s.Path):
		return filepath.Join(s.Path, name+".db"), true
	}
	return s.Path, cmp.Or(s.Name, BaseName(s.Path)) == name
}

// SetState records how a table is and why, beside its file, so that it outlives the process.
func (s *Shelf) SetState(name string, state State, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.index(name)
	if !ok {
		return s.unknown(name)
	}
	t := &s.tables[i]
	if t.State == state && t.Reason == reason && stays(t.Path, t.Condition) {
		return nil
	}
	next := Condition{State: state}
	if state != Healthy {
		next.Reason, next.Since = reason, s.now().UTC()
	}
	if err := writeCondition(t.Path, next); err != nil {
		return err
	}
	s.log.Info("table changed state", "table", name, "from", string(t.State), "to", string(state), "reason", reason)
	t.Condition = next
	s.changed[t.Path] = next
	return nil
}

// stays tells whether a condition is what is kept beside the table: another process may have changed that.
func stays(path string, c Condition) bool {
	kept, err := ReadCondition(path)
	return err == nil && kept.State == c.State && kept.Reason == c.Reason
}

// ErrUnknown is what errors.Is finds in an *UnknownError.
var ErrUnknown = errors.New("no such table")

// UnknownError says that no table has that name, or that none matches.
type UnknownError struct {
	Name string
	Near string // a name it may have been meant to be
	// Problem is what keeps a file that would have that name from being a table.
	Problem *Problem
}

func (e *UnknownError) Error() string {
	switch {
	case e.Problem != nil:
		return fmt.Sprintf("no table %q: %s", e.Name, e.Problem)
	case hasMeta(e.Name):
		return fmt.Sprintf("no table matches %q", e.Name)
	case e.Near != "":
		return fmt.Sprintf("no table %q; did you mean %q?", e.Name, e.Near)
	}
	return fmt.Sprintf("no table %q", e.Name)
}

// Hint is what to do about it.
func (e *UnknownError) Hint() string {
	if e.Problem != nil {
		return e.Problem.Hint
	}
	return "tablekeeper status lists the tables"
}

// Is makes errors.Is(err, ErrUnknown) true, and fs.ErrNotExist as well.
func (e *UnknownError) Is(target error) bool { return target == ErrUnknown || target == fs.ErrNotExist }

// unknown is called with the lock held.
func (s *Shelf) unknown(name string) error {
	names := make([]string, len(s.tables))
	for i, t := range s.tables {
		names[i] = t.Name
	}
	e := &UnknownError{Name: name, Near: Nearest(name, names)}
	for _, p := range s.problems {
		if BaseName(p.Path) == name && !p.Ignorable() {
			e.Problem = &p
			break
		}
	}
	return e
}
