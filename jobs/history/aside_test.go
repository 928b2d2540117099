package history

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestDamagedHistoryIsSetAside damages the file in several ways, before it is opened and while it is open.
func TestDamagedHistoryIsSetAside(t *testing.T) {
	damage := map[string]func(path string) error{
		"text": func(path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("not a database ", 500)), 0o600)
		},
		"truncated": func(path string) error { return os.Truncate(path, 5000) },
		"zeros inside": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(make([]byte, 30_000), 4096)
			return errors.Join(err, f.Close())
		},
	}
	for name, harm := range damage {
		t.Run(name, func(t *testing.T) {
			path := temp(t)
			first, err := Open(t.Context(), path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			done(t, first, newRun("backup", epoch, "a"), Succeeded, entries("backed_up", "a"))
			if err := errors.Join(first.Close(), harm(path)); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			s := open(t, path, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			done(t, s, newRun("backup", epoch, "a"), Succeeded, entries("backed_up", "a"))
			aside, err := filepath.Glob(path + ".corrupt-*")
			if err != nil || len(aside) == 0 || !strings.Contains(log.String(), "level=ERROR") {
				t.Errorf("set aside %v, %v; log %s", aside, err, &log)
			}
		})
	}
}

func TestDamageWhileOpen(t *testing.T) {
	path := temp(t)
	a, b := open(t, path, Options{}), open(t, path, Options{})
	done(t, a, newRun("backup", epoch, "a"), Succeeded, entries("backed_up", "a"))
	// Only for a test is it right to write into a live database file.
	for _, name := range []string{path, path + "-wal"} {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, 200_000), 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	fresh := open(t, path, Options{}) // finds the damage
	r := done(t, a, newRun("backup", epoch, "a"), Succeeded, entries("backed_up", "a"))
	q := done(t, b, newRun("backup", epoch, "a"), Succeeded, entries("backed_up", "a"))
	for _, id := range []string{r.ID, q.ID} {
		if _, err := fresh.Get(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// The folder goes away under an open history, and comes back: empty, or with a file that is damaged.
func TestTheFolderIsAwayForAWhile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("NOT TESTED: a folder with open files stays there")
	}
	for name, content := range map[string]string{"empty": "", "damaged": strings.Repeat("not a database ", 500)} {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "state")
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(folder, File)
			s := open(t, path, Options{})
			r := done(t, s, newRun("backup", epoch, "a"), Succeeded, entries("backed_up", "a"))
			if err := os.RemoveAll(folder); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := s.Save(t.Context(), Change{Run: r}); err == nil {
					t.Fatal("a history without a folder is written")
				}
			}
			if _, err := s.Get(t.Context(), r.ID); err == nil {
				t.Error("a history without a folder is read")
			}
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			if content != "" {
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			begun := begin(t, s, newRun("backup", epoch, "a"))
			if _, err := s.Get(t.Context(), begun.ID); err != nil {
				t.Error(err)
			}
			if lost, err := open(t, path, Options{}).Reap(t.Context()); err != nil || len(lost) != 0 {
				t.Errorf("a run of a live process is lost: %+v, %v", lost, err)
			}
		})
	}
}

func TestForeignAndNewerFilesAreLeftAlone(t *testing.T) {
	for statement, want := range map[string]error{
		`CREATE TABLE notes (x)`:    ErrForeign,
		`PRAGMA application_id = 7`: ErrForeign,
		fmt.Sprintf(`PRAGMA application_id = %d; PRAGMA user_version = 99`, applicationID): ErrNewer,
	} {
		path := temp(t)
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
		db.Close()
		if s, err := Open(t.Context(), path, Options{}); !errors.Is(err, want) {
			t.Errorf("%s: %v", statement, err)
			s.Close()
		}
	}
}

func TestReaderChangesNothing(t *testing.T) {
	path := temp(t)
	if _, err := OpenReader(t.Context(), path, Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading what is not there: %v", err)
	}
	s := open(t, path, Options{})
	r := done(t, s, newRun("backup", epoch, "a"), Succeeded, entries("backed_up", "a"))
	reader, err := OpenReader(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if _, err := reader.Get(t.Context(), r.ID); err != nil {
		t.Error(err)
	}
	if _, _, err := reader.Begin(t.Context(), newRun("backup", epoch)); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a reader writes: %v", err)
	}
}
