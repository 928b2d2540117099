// Package cmd holds no code: its tests enforce the rules of the whole house.
package cmd

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "tablekeeper/"

// source is one Go file of the repository: its folder below the root, and what it imports.
type source struct {
	name    string
	folder  string
	doc     bool
	imports []string
}

// mayImport tells for each part of the house which of our own packages it may import.
// A rule is a prefix of a folder; the longest that fits decides.
var mayImport = map[string]func(from, to string) bool{
	"cmd":       func(_, _ string) bool { return true },
	"infra":     func(from, to string) bool { return under(to, "jobs", "functions", "storage") || sameRoom(from, to) },
	"functions": func(from, to string) bool { return under(to, "storage") || to == "functions" || sameRoom(from, to) },
	"jobs":      func(_, to string) bool { return under(to, "jobs") },
	"storage":   storageMayImport,
}

// storageDown lists, for each package of storage, those of its neighbours it stands on.
var storageDown = map[string][]string{
	"stores":    {"shelf", "table"},
	"shelf":     {"table", "bucket"},
	"table":     {"btree", "ledger"},
	"archive":   {"bucket", "ledger"},
	"bucket":    {},
	"btree":     {},
	"ledger":    {},
	"salvage":   {},
	"privatedb": {},
	"childtest": {"needtest"},
	"disktest":  {"needtest"},
	"needtest":  {},
}

func storageMayImport(from, to string) bool {
	if !under(to, "storage") {
		return false
	}
	return sameRoom(from, to) || slices.Contains(storageDown[room(from)], room(to))
}

// room is the second element of a folder: "storage/bucket/dir" is in the room "bucket".
func room(folder string) string {
	parts := strings.SplitN(folder, "/", 3)
	if len(parts) < 2 {
		return ""
	}
	return parts[1]
}

// sameRoom tells whether both are the same package or in the same room of the same part.
func sameRoom(from, to string) bool {
	part := func(folder string) string { return strings.SplitN(folder, "/", 2)[0] }
	return part(from) == part(to) && room(from) == room(to)
}

func under(folder string, tops ...string) bool {
	return slices.ContainsFunc(tops, func(top string) bool { return folder == top || strings.HasPrefix(folder, top+"/") })
}

func TestImportsFollowTheHouse(t *testing.T) {
	for _, file := range sources(t) {
		if strings.HasSuffix(file.name, "_test.go") {
			continue
		}
		allowed := mayImport[strings.SplitN(file.folder, "/", 2)[0]]
		for _, to := range file.imports {
			own, isOwn := strings.CutPrefix(to, module)
			if isOwn && allowed != nil && !allowed(file.folder, own) {
				t.Errorf("%s imports %s: docs/architecture.md has who may import whom", file.name, to)
			}
		}
	}
}

func TestFunctionsKnowNoAWSAndNoHTTP(t *testing.T) {
	for _, file := range sources(t) {
		if !under(file.folder, "functions") || strings.HasSuffix(file.name, "_test.go") {
			continue
		}
		for _, to := range file.imports {
			if to == "net/http" || strings.HasPrefix(to, "github.com/aws/") {
				t.Errorf("%s imports %s: functions are plain Go", file.name, to)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	documented := map[string]bool{}
	for _, file := range sources(t) {
		if strings.HasSuffix(file.name, "_test.go") {
			continue
		}
		documented[file.folder] = documented[file.folder] || file.doc
	}
	for folder, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", folder)
		}
	}
}

// sources parses the imports and the package comment of every Go file of this module.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir("..", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name != ".." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || entry.Name() == "node_modules" || entry.Name() == "localstack") {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("..", name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		s := source{name: rel, folder: path.Dir(rel), doc: file.Doc != nil}
		for _, spec := range file.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, to)
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no Go file found")
	}
	return all
}
