package table

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var swapTime = time.Date(2026, 3, 4, 5, 6, 7, 8e6, time.UTC)

// makeContent makes a closed database whose content is known by a word.
func makeContent(t testing.TB, path, word string, setup ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	db.SetMaxOpenConns(1)
	setup = append([]string{"PRAGMA synchronous=OFF"}, setup...)
	setup = append(setup, "CREATE TABLE content(word TEXT)",
		fmt.Sprintf("INSERT INTO content VALUES ('%s')", word), "CREATE TABLE filler(b BLOB)", "INSERT INTO filler VALUES (randomblob(9000))")
	for _, statement := range setup {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// contentOf reads the word and checks the whole.
func contentOf(t testing.TB, path string) string {
	t.Helper()
	word, err := readContent(path)
	if err != nil {
		t.Fatal(err)
	}
	return word
}

func readContent(path string) (word string, err error) {
	if _, err := os.Lstat(path); err != nil {
		return "", err
	}
	db, err := sql.Open("sqlite", "file:"+path+"?mode=rw")
	if err != nil {
		return "", err
	}
	defer func() { _ = db.Close() }()
	var result string
	if err := db.QueryRowContext(context.Background(), "PRAGMA integrity_check").Scan(&result); err != nil || result != "ok" {
		return "", fmt.Errorf("%s: integrity_check: %s %w", path, result, err)
	}
	err = db.QueryRowContext(context.Background(), "SELECT word FROM content").Scan(&word)
	return word, err
}

// scene is a folder with a table and a new file for it.
type scene struct {
	table, fresh string
}

// variety is a kind of table to be swapped.
type variety struct {
	name  string
	old   bool // there is a table
	build func(t testing.TB, path string)
}

var varieties = []variety{
	{"rollback", true, func(t testing.TB, path string) { makeContent(t, path, "old") }},
	{"wal", true, func(t testing.TB, path string) { makeContent(t, path, "old", "PRAGMA journal_mode=WAL") }},
	{"wal left over", true, func(t testing.TB, path string) { makeCrashed(t, path, "PRAGMA journal_mode=WAL") }},
	{"hot journal", true, func(t testing.TB, path string) { makeHot(t, path) }},
	{"missing", false, func(testing.TB, string) {}},
}

func stage(t testing.TB, v variety) scene { return stageIn(t, t.TempDir(), v) }

func stageIn(t testing.TB, dir string, v variety) scene {
	t.Helper()
	s := scene{table: filepath.Join(dir, "a.db")}
	place(t, v, s.table)
	must(t, MakeStateDir(s.table))
	s.fresh = Temporary(s.table, "restore")
	place(t, variety{name: "new", build: func(t testing.TB, path string) { makeContent(t, path, "new") }}, s.fresh)
	return s
}

// built has the files of each variety, by ending: to make them once is enough.
var built sync.Map

func place(t testing.TB, v variety, path string) {
	t.Helper()
	files, ok := built.Load(v.name)
	if !ok {
		model := filepath.Join(t.TempDir(), "model")
		v.build(t, model)
		contents := make(map[string][]byte)
		for _, ending := range append([]string{""}, sidecars...) {
			if content, err := os.ReadFile(model + ending); err == nil {
				contents[ending] = content
			}
		}
		files, _ = built.LoadOrStore(v.name, contents)
	}
	for ending, content := range files.(map[string][]byte) {
		must(t, os.WriteFile(path+ending, content, 0o644))
	}
}

// makeCrashed makes a table as a process leaves it that dies with everything in its WAL.
func makeCrashed(t testing.TB, path, mode string) {
	t.Helper()
	live := path + ".live"
	db, err := sql.Open("sqlite", live)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	for _, statement := range []string{"PRAGMA synchronous=OFF", mode, "PRAGMA wal_autocheckpoint=0", "CREATE TABLE content(word TEXT)", "INSERT INTO content VALUES ('old')"} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	for _, ending := range []string{"", "-wal"} {
		copyFile(t, live+ending, path+ending)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	removeAll(t, live)
}

// makeHot makes a table as a process leaves it that dies in a transaction which has reached the file.
func makeHot(t testing.TB, path string) {
	t.Helper()
	live := path + ".live"
	makeContent(t, live, "old")
	db, err := sql.Open("sqlite", live)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	for _, statement := range []string{"PRAGMA synchronous=OFF", "PRAGMA cache_size=2", "PRAGMA cache_spill=2", "BEGIN", "UPDATE content SET word='half'",
		"INSERT INTO filler SELECT randomblob(3000) FROM (VALUES(1),(2),(3),(4),(5),(6),(7),(8))"} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	for _, ending := range []string{"", "-journal"} {
		copyFile(t, live+ending, path+ending)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	removeAll(t, live)
	if !hotJournal(path + "-journal") {
		t.Fatal("the journal is not hot")
	}
}

func removeAll(t testing.TB, base string) {
	t.Helper()
	for _, ending := range append([]string{""}, sidecars...) {
		if err := os.RemoveAll(base + ending); err != nil {
			t.Fatal(err)
		}
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, content, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// tree lists the names in a folder, with those in quarantine.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// checkLitter fails the test for every file that has no business in the folder of a table at rest.
func checkLitter(t testing.TB, s scene, but ...string) {
	t.Helper()
	for _, name := range tree(t, filepath.Dir(s.table)) {
		switch {
		case name == "a.db", name == ".tablekeeper/a.db.lock", slices.Contains(but, name):
		case strings.HasPrefix(name, ".tablekeeper/quarantine/a.db/") && (strings.HasSuffix(name, "/a.db") || strings.HasSuffix(name, "/a.db-wal") || strings.HasSuffix(name, "/a.db-journal")):
		default:
			t.Errorf("litter: %s", name)
		}
	}
}

// keptContent reads what is in quarantine, on a copy, so that nothing is changed there. "" if there is nothing.
func keptContent(t testing.TB, s scene) string {
	t.Helper()
	list, err := QuarantineList(filepath.Dir(s.table))
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		return ""
	}
	if len(list) > 1 {
		t.Fatalf("%d tables in quarantine", len(list))
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(list[0].Path)); err != nil {
		t.Fatal(err)
	}
	return contentOf(t, filepath.Join(dir, "a.db"))
}

// checkWhole fails the test unless the table is the old or the new one, whole, and the old one is kept if it was replaced.
func checkWhole(t testing.TB, s scene, v variety) string {
	t.Helper()
	word, err := readContent(s.table)
	kept := keptContent(t, s)
	switch {
	case !v.old && isGone(err):
		word = "old"
	case err != nil:
		t.Fatal(err)
	case word == "new" && v.old && kept != "old":
		t.Fatalf("the old table is not kept: %q", kept)
	case word == "old" && kept != "":
		t.Fatalf("nothing was replaced, and %q is in quarantine", kept)
	}
	if word != "old" && word != "new" {
		t.Fatalf("the table is neither old nor new: %q", word)
	}
	return word
}
