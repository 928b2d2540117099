//go:build linux

package shelf

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func TestHostileFolder(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("x", 240) + ".db"
	write(t, dir+"/good.db", database)
	write(t, dir+"/good.db-wal", []byte("wal"))
	write(t, dir+"/good.db-shm", []byte("shm"))
	write(t, dir+"/gone.db-wal", []byte("wal"))
	write(t, dir+"/gone.db-journal", nil)
	write(t, dir+"/table-wal", database)
	write(t, dir+"/text.db", []byte("this is a text that calls itself a database"))
	write(t, dir+"/short.db", []byte(header[:7]))
	write(t, dir+"/empty.db", nil)
	write(t, dir+"/notes.txt", []byte("notes"))
	write(t, dir+"/Upper.db", database)
	write(t, dir+"/new\nline.db", database)
	write(t, dir+"/два.db", database)
	write(t, dir+"/sp ace.db", database)
	write(t, dir+"/..db", database)
	write(t, dir+"/.db", database)
	write(t, dir+"/"+long, database)
	write(t, dir+"/folder.db/inside.db", database)
	write(t, dir+"/.tablekeeper/x.db", database)
	must(t, os.Symlink("good.db", dir+"/link.db"))
	must(t, os.Symlink("link-b", dir+"/link-a"))
	must(t, os.Symlink("link-a", dir+"/link-b"))
	must(t, os.Symlink("/dev/zero", dir+"/zero.db"))
	must(t, syscall.Mkfifo(dir+"/fifo.db", 0o644))
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(dir, "socket.db"))
	must(t, err)
	defer listener.Close()

	s, problems := refreshed(t, Source{Path: dir})
	if got := names(s.Tables()); got != "good table-wal" {
		t.Errorf("tables %q", got)
	}
	want := map[string]Reason{
		"gone.db-wal": ReasonStray, "gone.db-journal": ReasonStray, "text.db": ReasonNotDatabase, "short.db": ReasonNotDatabase,
		"empty.db": ReasonEmpty, "notes.txt": ReasonNotDatabase, "Upper.db": ReasonBadName, "new\nline.db": ReasonBadName, "два.db": ReasonBadName,
		"sp ace.db": ReasonBadName, "..db": ReasonBadName, ".db": ReasonBadName, long: ReasonBadName, "folder.db": ReasonDirectory,
		"link.db": ReasonSymlink, "link-a": ReasonSymlink, "link-b": ReasonSymlink, "zero.db": ReasonSymlink, "fifo.db": ReasonNotRegular, "socket.db": ReasonNotRegular,
	}
	for _, p := range problems {
		base := filepath.Base(p.Path)
		if want[base] != p.Reason {
			t.Errorf("%q: %s, want %q", base, p.Reason, want[base])
		}
		delete(want, base)
		if strings.ContainsRune(p.String(), '\n') {
			t.Errorf("%q breaks the line", p.String())
		}
		if p.Ignorable() != (base == "notes.txt" || strings.HasPrefix(base, "link-")) {
			t.Errorf("%q: Ignorable is %v", base, p.Ignorable())
		}
	}
	for base, reason := range want {
		t.Errorf("%q was not reported as %s", base, reason)
	}
}

func TestSingleHostilePaths(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/real/good.db", database)
	must(t, os.Symlink("real/good.db", dir+"/link.db"))
	must(t, os.Symlink("nowhere", dir+"/dangling.db"))
	must(t, syscall.Mkfifo(dir+"/fifo.db", 0o644))

	s, problems := refreshed(t, Source{Path: dir + "/link.db", Name: "app"})
	if got, err := s.Get("app"); err != nil || filepath.Base(filepath.Dir(got.Path)) != "real" || len(problems) != 0 {
		t.Errorf("a link that was named is followed: %+v, %v, %v", got, err, problems)
	}
	for base, want := range map[string]Reason{"dangling.db": ReasonMissing, "fifo.db": ReasonNotRegular} {
		if _, problems := refreshed(t, Source{Path: dir + "/" + base}); len(problems) != 1 || problems[0].Reason != want {
			t.Errorf("%s: %v", base, problems)
		}
	}
	for _, path := range []string{"/dev/zero", "/dev/null", "/proc/self/mem"} {
		if s, problems := refreshed(t, Source{Path: path}); len(s.Tables()) != 0 || len(problems) != 1 {
			t.Errorf("%s: %v, %v", path, s.Tables(), problems)
		}
	}
}

// TestUnreadable looks as another user would, on a thread of its own that is thrown away: root may read everything.
func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/closed/x.db", database)
	write(t, dir+"/secret.db", database)
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	must(t, os.Chmod(dir+"/closed", 0))
	must(t, os.Chmod(dir+"/secret.db", 0))
	done := make(chan string)
	go func() {
		runtime.LockOSThread()
		if os.Getuid() == 0 {
			if err := syscall.Setfsuid(65534); err != nil {
				done <- err.Error()
				return
			}
		}
		s, err := Open([]Source{{Path: dir}, {Path: dir + "/closed"}, {Path: dir + "/*/*.db"}}, Options{})
		if err != nil {
			done <- err.Error()
			return
		}
		problems, err := s.Refresh(t.Context())
		if err != nil {
			done <- err.Error()
			return
		}
		done <- reasons(problems)
	}()
	got := <-done
	must(t, os.Chmod(dir+"/closed", 0o755))
	if got != "closed: directory, closed: unreadable, .tablekeeper: bad_state, secret.db: unreadable" {
		t.Error(got)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
