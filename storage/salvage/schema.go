package salvage

import (
	"strings"
)

// object is one row of sqlite_schema.
type object struct {
	kind, name, table string
	root              int64
	sql               string
}

// How the schema was found.
const (
	fromFile  = "file"
	fromScan  = "scan"
	fromGiven = "given"
)

// toObject reads a row of sqlite_schema; not ok if it is none.
func toObject(r row) (o object, ok bool) {
	if len(r.values) != 5 {
		return o, false
	}
	kind, ok1 := r.values[0].(string)
	name, ok2 := r.values[1].(string)
	table, ok3 := r.values[2].(string)
	root, ok4 := r.values[3].(int64)
	sql, ok5 := r.values[4].(string)
	if !ok5 && r.values[4] == nil {
		ok5 = strings.HasPrefix(name, "sqlite_autoindex_")
	}
	if !ok4 && r.values[3] == nil {
		ok4 = true
	}
	o = object{kind: kind, name: name, table: table, root: root, sql: sql}
	return o, ok1 && ok2 && ok3 && ok4 && ok5 && knownKind(kind)
}

func knownKind(kind string) bool {
	return kind == "table" || kind == "index" || kind == "view" || kind == "trigger"
}

// readSchema reads sqlite_schema, whose root is page 1. Where nothing leads to it any more, the rows that look like its own
// are taken from whatever pages they are on; where there are none, the schema that the caller knows.
func (s *salvager) readSchema() error {
	add := func(r row) error {
		if o, ok := toObject(r); ok {
			s.schema = append(s.schema, o)
		}
		return nil
	}
	s.report.SchemaFrom = fromFile
	l, err := s.source.walk(1, false, add)
	if err != nil || len(s.schema) > 0 && l == (lost{}) {
		return err
	}
	if l != (lost{}) {
		s.report.problem("schema: %d pages and %d rows of it cannot be read", l.pages, l.cells)
	}
	if err := s.scanSchema(); err != nil || len(s.schema) > 0 {
		return err
	}
	s.report.SchemaFrom = fromGiven
	for _, sql := range s.opts.Schema {
		s.schema = append(s.schema, object{kind: kindOfSQL(sql), sql: sql})
	}
	return nil
}

// scanSchema looks for rows of sqlite_schema on every page. It leaves no page marked as seen.
func (s *salvager) scanSchema() error {
	known := map[string]bool{}
	for _, o := range s.schema {
		known[o.kind+" "+o.name] = true
	}
	blank := s.source
	blank.seen = make([]bool, len(s.source.seen))
	blank.done = func(int64) {}
	_, err := blank.orphans(func(r row) error {
		o, ok := toObject(r)
		if ok && !known[o.kind+" "+o.name] && (o.sql == "" || kindOfSQL(o.sql) == o.kind) {
			known[o.kind+" "+o.name] = true
			s.schema = append(s.schema, o)
			s.report.SchemaFrom = fromScan
		}
		return nil
	})
	return err
}

// kindOfSQL tells what a CREATE statement makes.
func kindOfSQL(sql string) string {
	words := strings.Fields(strings.ToLower(sql))
	if len(words) < 2 || words[0] != "create" {
		return ""
	}
	for _, w := range words[1:min(len(words), 4)] {
		if knownKind(w) {
			return w
		}
	}
	return ""
}

// virtual tells whether an object is a virtual table: its content is in its shadow tables.
func (o object) virtual() bool {
	words := strings.Fields(strings.ToLower(o.sql))
	return len(words) > 1 && words[0] == "create" && words[1] == "virtual"
}

// internal tells whether SQLite makes the object by itself.
func (o object) internal() bool { return strings.HasPrefix(o.name, "sqlite_") }
