//go:build unix

package table

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"modernc.org/sqlite"

	"tablekeeper/storage/childtest"
)

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	shell(t, at("good.db"), "CREATE TABLE a(x);")
	must(t, os.WriteFile(at("empty.db"), nil, 0o644))
	must(t, os.WriteFile(at("text.db"), []byte(strings.Repeat("id,name\n1,a\n", 100)), 0o644))
	must(t, os.WriteFile(at("short.db"), []byte(headerMagic), 0o644))
	must(t, os.Symlink("good.db", at("link.db")))
	must(t, os.Mkdir(at("dir.db"), 0o755))
	must(t, syscall.Mkfifo(at("fifo.db"), 0o644))
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", at("sock.db"))
	must(t, err)
	defer listener.Close()
	copyFile(t, at("good.db"), at("pages.db"))
	patchFile(t, at("pages.db"), 16, "\x03\xe8")
	for name, want := range map[string]error{
		"missing.db": fs.ErrNotExist, "empty.db": ErrEmpty, "text.db": ErrNotDatabase, "short.db": ErrNotDatabase,
		"link.db": ErrNotDatabase, "dir.db": ErrNotDatabase, "fifo.db": ErrNotDatabase, "sock.db": ErrNotDatabase,
		"pages.db": ErrNotDatabase, "no/such/folder.db": fs.ErrNotExist, "nul\x00.db": fs.ErrInvalid, "": fs.ErrInvalid,
	} {
		path := at(name)
		if name == "" {
			path = ""
		}
		before := tree(t, dir)
		for what, call := range map[string]func() error{
			"open":  func() error { _, err := open(t.Context(), path, openOptions{}); return err },
			"stat":  func() error { _, err := Stat(t.Context(), path); return err },
			"token": func() error { _, err := ReadToken(path); return err },
			"check": func() error { _, err := Check(t.Context(), path, CheckOptions{}); return err },
			"snapshot": func() error {
				return TakeSnapshot(t.Context(), path, SnapshotOptions{}, func(context.Context, *Snapshot) error { return nil })
			},
			"compact": func() error { _, err := Compact(t.Context(), path, CompactOptions{Force: true}); return err },
		} {
			if err := call(); !errors.Is(err, want) {
				t.Errorf("%s of %s: %v, want %v", what, name, err, want)
			}
		}
		if after := tree(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("%s: %v became %v", name, before, after)
		}
	}
	if !errors.Is(ErrEmpty, ErrNotDatabase) {
		t.Error("an empty file is a database")
	}
}

// Every name that a file can have is that file's, and no part of a URI.
func TestOpenAnyName(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a b.db", "a?mode=memory", "a#b", "a%41.db", "100%", "ü-日本語.db", "a&b=c;d", "a'b\"c", "a\nb", "\xff\xfe.db",
		":memory:", "file:x.db", "~", "a\\b", strings.Repeat("n", 240)} {
		path := filepath.Join(dir, name)
		copied := filepath.Join(dir, "tmp")
		shell(t, copied, "CREATE TABLE IF NOT EXISTS a(x); INSERT INTO a VALUES (1);")
		must(t, os.Rename(copied, path))
		c, err := open(t.Context(), path, openOptions{})
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		var n int
		if err := c.row(t.Context(), "SELECT count(*) FROM a", &n); err != nil || n != 1 {
			t.Errorf("%q: %d rows, %v", name, n, err)
		}
		must(t, c.close())
		must(t, os.Remove(path))
	}
	if left := tree(t, dir); len(left) > 0 {
		t.Errorf("litter: %q", left)
	}
}

func TestConnectionTrustsNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	shell(t, path, "CREATE TABLE a(x);")
	c, err := open(t.Context(), path, openOptions{})
	must(t, err)
	defer func() { must(t, c.close()) }()
	for pragma, want := range map[string]int{"trusted_schema": 0, "cell_size_check": 1, "mmap_size": 0, "busy_timeout": 0} {
		var got int
		if err := c.row(t.Context(), "PRAGMA "+pragma, &got); err != nil || got != want {
			t.Errorf("%s is %d, %v", pragma, got, err)
		}
	}
	must(t, c.exec(t.Context(), "PRAGMA writable_schema=ON"))
	if err := c.exec(t.Context(), "DELETE FROM sqlite_schema"); err == nil {
		t.Error("the schema can be written")
	}
	if !sqlite.OFDLockingEnabled() {
		t.Error("POSIX locks are in use")
	}
}

// Hashing or copying a file that we work on must not unlock it.
func TestLocksSurviveAClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	shell(t, path, "CREATE TABLE a(x);")
	c, err := open(t.Context(), path, openOptions{})
	must(t, err)
	must(t, c.exec(t.Context(), "BEGIN EXCLUSIVE"))
	_, err = ReadToken(path)
	must(t, err)
	cmd := childtest.Command(t, "hold", path, "INSERT INTO a VALUES (1)")
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("another process wrote under our lock: %s", out)
	}
	must(t, c.close())
	soundAtEnd(t, path)
}

func TestOpenGivesUpWaiting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	shell(t, path, "CREATE TABLE a(x);")
	_, end := startChild(t, "hold", path, "BEGIN EXCLUSIVE")
	defer end()
	if _, err := open(t.Context(), path, openOptions{wait: time.Millisecond}); !errors.Is(err, ErrBusy) {
		t.Errorf("open: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := open(ctx, path, openOptions{wait: time.Hour}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("open with a deadline: %v", err)
	}
}

func TestWALOnNetworkFileSystem(t *testing.T) {
	for kind, refused := range map[string]bool{"nfs": true, "NFS4": true, "cifs": true, "fuse.sshfs": true, "9p": true,
		"ext4": false, "": false, "fuse": false, "fuse.ntfs-3g": false, "tmpfs": false} {
		err := refuseNetworkFS("/t/a.db", func(string) (string, error) { return kind, nil })
		if errors.Is(err, ErrNetworkFS) != refused {
			t.Errorf("%s: %v", kind, err)
		}
		if refused && !strings.Contains(err.Error(), "journal_mode=DELETE") {
			t.Errorf("%v does not say the way out", err)
		}
	}
	if err := refuseNetworkFS("/t/a.db", func(string) (string, error) { return "", ErrUnsupported }); err != nil {
		t.Error(err)
	}
}

func TestOldSQLiteIsRefused(t *testing.T) {
	for version, ok := range map[string]bool{"3.51.3": true, "3.54.1": true, "3.51.10": true, "4.0.0": true,
		"3.51.2": false, "3.46.0": false, "2.99.99": false, "": false, "new": false} {
		if err := checkVersion(version); (err == nil) != ok {
			t.Errorf("%q: %v", version, err)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	path := filepath.Join(f.TempDir(), "a.db")
	shell(f, path, "CREATE TABLE a(x);")
	content, err := os.ReadFile(path)
	must(f, err)
	f.Add(content[:headerSize])
	f.Add([]byte(headerMagic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeader(b)
		if err == nil && (!validPageSize(h.pageSize) || h.pageCount(1<<20) < 0) {
			t.Errorf("%+v", h)
		}
	})
}
