package shelf

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"tablekeeper/storage/table"
)

// scan is one Refresh under way.
type scan struct {
	defaults Settings
	known    map[string]inode // whose header an earlier scan has read
	seen     map[string]inode
	kept     map[string]kept // by folder

	candidates []candidate
	missing    []candidate
	tables     []Table
	problems   []Problem
}

// candidate is a file that will be a table if nothing else claims its name.
type candidate struct {
	found
	name     string
	explicit bool // the name was given, not taken from the file
	recorded bool // it was backed up before
	kind     kind
	settings Settings
}

func (c *scan) run(ctx context.Context, sources []Source) error {
	for _, source := range sources {
		seen, err := source.look(ctx)
		if err != nil {
			return err
		}
		c.problems = append(c.problems, seen.problems...)
		if seen.kind == folder {
			source.Name = "" // reported; each file has its own
		}
		for _, f := range seen.found {
			if err := ctx.Err(); err != nil {
				return err
			}
			c.consider(source, seen.kind, f)
		}
		c.miss(source, seen)
	}
	c.settle()
	return nil
}

// consider takes a file as a candidate, or says why not.
func (c *scan) consider(source Source, k kind, f found) {
	if main, ok := mainOf(f.path); ok && f.info.Mode().IsRegular() && c.isSideFile(main, f) {
		return
	}
	recorded := c.keptIn(filepath.Dir(f.path)).records[filepath.Base(f.path)]
	if problem := c.inspect(f); problem != nil {
		c.problem(*problem)
		damaged := problem.Reason == ReasonEmpty || problem.Reason == ReasonNotDatabase || problem.Reason == ReasonUnreadable
		if !recorded || !damaged {
			return
		}
	}
	c.candidates = append(c.candidates, candidate{
		found: f, name: source.nameFor(f), explicit: source.Name != "", recorded: recorded,
		kind: k, settings: source.Settings.Over(c.defaults),
	})
}

// isSideFile tells the write-ahead log of x from a table that is called x-wal, and reports a log that was left alone.
func (c *scan) isSideFile(main string, f found) bool {
	if exists(main) {
		return true
	}
	if f.info.Size() > 0 && inspectHeader(f.path) == nil {
		return false
	}
	c.problem(Problem{Path: f.path, Reason: ReasonStray, Detail: "the database that it belongs to is gone",
		Hint: "move it away: SQLite would apply it to the next file of that name"})
	return true
}

// inspect reads the header of a file once: as long as it is the same file, it is still a database, or a damaged one.
func (c *scan) inspect(f found) *Problem {
	id, ok := inodeOf(f.info)
	if ok && c.known[f.path] == id && f.info.Mode().IsRegular() && f.info.Size() > 0 {
		c.seen[f.path] = id
		return nil
	}
	problem := inspect(f.path, f.info)
	if problem == nil && ok {
		c.seen[f.path] = id
	}
	return problem
}

// miss finds the tables that were backed up and are gone.
func (c *scan) miss(source Source, seen sight) {
	for _, dir := range seen.dirs {
		for base := range c.keptIn(dir).records {
			path := filepath.Join(dir, base)
			if seen.kind != folder && !source.covers(path) {
				continue
			}
			c.missing = append(c.missing, candidate{
				found: found{path: path}, name: source.nameFor(found{path: path, captures: source.capturesOf(path)}),
				explicit: source.Name != "", recorded: true, kind: seen.kind, settings: source.Settings.Over(c.defaults),
			})
		}
	}
}

func (c *scan) keptIn(dir string) kept {
	if k, ok := c.kept[dir]; ok {
		return k
	}
	k, err := keptIn(dir)
	if err != nil {
		c.problem(Problem{Path: filepath.Join(dir, table.StateFolder), Reason: ReasonBadState, Detail: causeOf(err), Hint: "let tablekeeper read it"})
	}
	c.kept[dir] = k
	return k
}

func (c *scan) problem(p Problem) { c.problems = append(c.problems, p) }

// settle makes tables of the candidates: one for each file and one for each name.
func (c *scan) settle() {
	files := c.oneAFile(c.candidates)
	there := map[string]bool{}
	for _, file := range files {
		there[file.path] = true
	}
	for _, gone := range c.oneAFile(c.missing) {
		if !there[gone.path] {
			files = append(files, gone)
		}
	}
	for _, file := range c.oneAName(c.named(files)) {
		c.tables = append(c.tables, c.table(file, there[file.path]))
	}
	slices.SortFunc(c.tables, func(a, b Table) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(c.problems, comparePlace)
	c.problems = slices.CompactFunc(c.problems, func(a, b Problem) bool { return comparePlace(a, b) == 0 })
}

func comparePlace(a, b Problem) int {
	return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Reason, b.Reason))
}

// named keeps the candidates whose name is valid.
func (c *scan) named(files []candidate) []candidate {
	return slices.DeleteFunc(files, func(file candidate) bool {
		if ValidName(file.name) {
			return false
		}
		hint := "give it one: `name:` in the configuration"
		if near := SuggestName(file.name); near != "" {
			hint = fmt.Sprintf("give it one: `name: %s` in the configuration", near)
		}
		c.problem(Problem{Path: file.path, Reason: ReasonBadName, Detail: fmt.Sprintf("%q cannot be the name of a table", file.name), Hint: hint})
		return true
	})
}

func (c *scan) table(file candidate, there bool) Table {
	t := Table{Name: file.name, Path: file.path, Settings: file.settings, Condition: Condition{State: Healthy}, Missing: !there}
	if !there {
		c.problem(Problem{Path: file.path, Reason: ReasonMissing, Detail: "it was backed up, and is gone",
			Hint: "restore it, or remove " + beside(file.path, recordSuffix) + " if it was deleted on purpose"})
	}
	if c.keptIn(filepath.Dir(file.path)).states[filepath.Base(file.path)] {
		condition, err := ReadCondition(file.path)
		if err != nil {
			c.problem(Problem{Path: beside(file.path, stateSuffix), Reason: ReasonBadState, Detail: causeOf(err), Hint: "the next check of the table writes it anew"})
		}
		t.Condition = condition
	}
	return t
}
