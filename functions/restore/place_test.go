package restore

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/needtest"
)

// hold opens the table in another process, which then waits for words on the writer that it gives.
func hold(t *testing.T, path string) (say func(query string) string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), needtest.Program(t, "sqlite3"), path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	say = func(query string) string {
		if _, err := in.Write([]byte(query + ";\n.print end\n")); err != nil {
			t.Fatal(err)
		}
		var answer []byte
		for buffer := make([]byte, 4096); !strings.HasSuffix(string(answer), "end\n"); {
			n, err := out.Read(buffer)
			if err != nil {
				t.Fatalf("%s: %v", answer, err)
			}
			answer = append(answer, buffer[:n]...)
		}
		return strings.TrimSpace(strings.TrimSuffix(string(answer), "end\n"))
	}
	return say
}

func TestATableInUseIsWrittenInto(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 20)
	want := f.Rows(f.Path("app"))
	f.Backup("app")
	f.Fill("app", 5)
	user := hold(t, f.Path("app"))
	if got := user("SELECT count(*) FROM items"); got != "25" {
		t.Fatal(got)
	}
	entry, _ := run(t, f, inPlace, functions.Restored, "")
	if entry.Method != Overwrite || len(entry.Processes) != 1 || entry.Processes[0].Name != "sqlite3" || entry.Quarantine == "" {
		t.Errorf("%+v", entry)
	}
	if got := user("SELECT count(*) FROM items"); got != "20" {
		t.Errorf("the user of the table sees %s rows", got)
	}
	user("INSERT INTO items (label) VALUES ('after')")
	if got := shell(t, f.Path("app"), "SELECT count(*) FROM items"); got != "21" {
		t.Errorf("%s rows: what the user wrote went elsewhere", got)
	}
	user("DELETE FROM items WHERE label = 'after'")
	if f.Rows(f.Path("app")) != want {
		t.Error("the content is another")
	}
}

func TestADamagedTableInUseIsRefused(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 20)
	f.Backup("app")
	user := hold(t, f.Path("app"))
	user("SELECT count(*) FROM items")
	f.Damage(f.Path("app"), 0, strings.Repeat("no database ", 10))
	before, err := os.ReadFile(f.Path("app"))
	f.Must(err)
	entry, err := run(t, f, inPlace, functions.Failed, "in_use")
	var hinted interface{ Hint() string }
	if len(entry.Processes) != 1 || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "stop the programs") || !strings.Contains(err.Error(), "sqlite3") {
		t.Errorf("%+v, %v", entry, err)
	}
	if after, err := os.ReadFile(f.Path("app")); err != nil || string(after) != string(before) {
		t.Errorf("it was touched: %v", err)
	}
}

func TestOutput(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 20)
	want := f.Rows(f.Path("app"))
	f.Backup("app")
	out := filepath.Join(t.TempDir(), "copy.db")
	event := Event{Table: "app", Output: out}
	entry, _ := run(t, f, event, functions.Restored, "")
	if entry.Method != NewFile || f.Rows(out) != want {
		t.Errorf("%+v", entry)
	}
	if entries, err := os.ReadDir(filepath.Dir(out)); err != nil || len(entries) != 1 {
		t.Errorf("beside it: %v, %v", entries, err)
	}
	_, err := run(t, f, event, functions.Failed, "destination_exists")
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	event.Force = true
	entry, _ = run(t, f, event, functions.Restored, "")
	if entry.Method != Swap || entry.Quarantine == "" || f.Rows(out) != want {
		t.Errorf("%+v", entry)
	}
	run(t, f, Event{Table: "app", Output: filepath.Join(t.TempDir(), "no", "folder.db")}, functions.Failed, "not_found")
	run(t, f, Event{Table: "app", Output: t.TempDir(), Force: true}, functions.Failed, "destination_exists")
	if entry, err := function(f).Run(t.Context(), Event{Table: "stranger", Output: out + "2"}, "stranger", functions.Progress{}); entry.Reason != "no_backup" {
		t.Errorf("%+v, %v", entry, err)
	}
}

// What comes to the place while the backup is fetched is not replaced either, unless it may be.
func TestAFileThatComesMeanwhileStays(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 10)
	f.Backup("app")
	for _, force := range []bool{false, true} {
		out := filepath.Join(t.TempDir(), "out.db")
		p := functions.Progress{Phase: func(phase string) func(int64) {
			if phase == "check" {
				f.Must(os.WriteFile(out, []byte("somebody's"), 0o600))
			}
			return func(int64) {}
		}}
		entry, err := function(f).Run(t.Context(), Event{Table: "app", Output: out, Force: force}, "app", p)
		text, readErr := os.ReadFile(out)
		f.Must(readErr)
		switch {
		case force && (err != nil || entry.Quarantine == ""):
			t.Errorf("%+v, %v", entry, err)
		case !force && (entry.Reason != "destination_exists" || string(text) != "somebody's"):
			t.Errorf("%+v, %v; the file has %.20q now", entry, err, text)
		}
		if entries, err := os.ReadDir(filepath.Dir(out)); !force && (err != nil || len(entries) != 1) {
			t.Errorf("beside it: %v, %v", entries, err)
		}
	}
}
