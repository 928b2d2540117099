package table

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// crashed returns the files of a database whose process died: with everything in its WAL, or in a transaction that has
// reached the file. extra is run before.
func crashed(t *testing.T, dir, mode string, extra ...string) string {
	t.Helper()
	live, path := filepath.Join(dir, "live.db"), filepath.Join(dir, "a.db")
	words := []string{"hold", live, "PRAGMA synchronous=OFF", "PRAGMA journal_mode=" + mode, "PRAGMA wal_autocheckpoint=0", "CREATE TABLE content(word TEXT)",
		"INSERT INTO content VALUES ('old')", "CREATE TABLE filler(x)", "INSERT INTO filler SELECT zeroblob(300000)"}
	words = append(words, extra...)
	if mode != "WAL" {
		words = append(words, "PRAGMA cache_size=2", "PRAGMA cache_spill=2", "BEGIN", "UPDATE content SET word = 'half'",
			"INSERT INTO filler SELECT zeroblob(3000)", "UPDATE filler SET x = randomblob(300000)")
	}
	_, end := startChild(t, words...)
	for _, ending := range []string{"", "-wal", "-journal"} {
		if _, err := os.Stat(live + ending); err == nil {
			copyFile(t, live+ending, path+ending)
		}
	}
	end()
	removeAll(t, live)
	return path
}

func word(t *testing.T, path string) string {
	t.Helper()
	c, err := open(t.Context(), path, openOptions{})
	if err != nil {
		return err.Error()
	}
	defer func() { must(t, c.close()) }()
	var got string
	must(t, c.row(t.Context(), "SELECT word FROM content", &got))
	return got
}

// A table's own journal is recovered, as any program would.
func TestOwnJournalIsRecovered(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE", "PERSIST", "TRUNCATE"} {
		for _, extra := range [][]string{nil, {"INSERT INTO content SELECT 'old' FROM filler", "DELETE FROM filler", "INSERT INTO filler SELECT zeroblob(500000)"}} {
			path := crashed(t, t.TempDir(), mode, extra...)
			if got := word(t, path); got != "old" {
				t.Errorf("%s: %s", mode, got)
			}
			soundAtEnd(t, path)
		}
	}
}

// foreignFile replaces the file at path by another one, and keeps its journal.
func foreignFile(t *testing.T, path, setup string) []byte {
	t.Helper()
	other := path + ".other"
	shell(t, other, setup, "CREATE TABLE content(word TEXT); INSERT INTO content VALUES ('other');")
	for range 20 { // each process that changes page 1 raises the counter
		shell(t, other, "CREATE TABLE b(x);", "DROP TABLE b;")
	}
	removeAll(t, other+"-wal")
	must(t, os.Rename(other, path))
	content, err := os.ReadFile(path)
	must(t, err)
	return content
}

// Somebody put another file there, and the journal stayed: SQLite would destroy it.
func TestForeignJournalIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ mode, setup string }{
		"rollback journal":                     {"DELETE", ""},
		"rollback journal of other pages":      {"DELETE", "PRAGMA page_size=1024;"},
		"rollback journal beside WAL":          {"DELETE", "PRAGMA journal_mode=WAL;"},
		"persistent journal":                   {"PERSIST", ""},
		"WAL beside a file of rollback mode":   {"WAL", ""},
		"WAL of other pages":                   {"WAL", "PRAGMA page_size=1024; PRAGMA journal_mode=WAL;"},
		"WAL that is older than the file":      {"WAL", "PRAGMA journal_mode=WAL;"},
		"WAL beside a file with another order": {"WAL", "PRAGMA page_size=8192; PRAGMA encoding='UTF-16be'; PRAGMA journal_mode=WAL;"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := crashed(t, dir, c.mode)
			content := foreignFile(t, path, c.setup)
			before := tree(t, dir)
			for range 2 {
				if _, err := open(t.Context(), path, openOptions{}); !errors.Is(err, ErrForeignJournal) {
					t.Errorf("open: %v", err)
				}
				if _, err := Stat(t.Context(), path); !errors.Is(err, ErrForeignJournal) {
					t.Errorf("stat: %v", err)
				}
				if _, err := Compact(t.Context(), path, CompactOptions{Force: true}); !errors.Is(err, ErrForeignJournal) {
					t.Errorf("compact: %v", err)
				}
			}
			if now, _ := os.ReadFile(path); !bytes.Equal(now, content) {
				t.Error("the file was changed")
			}
			if after := tree(t, dir); len(after) != len(before) {
				t.Errorf("%v became %v", before, after)
			}
			must(t, os.RemoveAll(path+"-journal"))
			must(t, os.RemoveAll(path+"-wal"))
			if got := word(t, path); got != "other" {
				t.Errorf("without the journal: %s", got)
			}
			soundAtEnd(t, path)
		})
	}
}

// An older copy of the very same table beside a WAL or journal that came after it.
func TestOlderCopyIsRefused(t *testing.T) {
	path := crashed(t, t.TempDir(), "DELETE")
	h, _, err := readHeader(path)
	must(t, err)
	var counter [4]byte
	for _, away := range []uint32{^uint32(2), 3, 1000} { // the transaction before, and others
		binary.BigEndian.PutUint32(counter[:], h.changeCounter+away)
		copyFile(t, path, path+".x")
		copyFile(t, path+"-journal", path+".x-journal")
		patchFile(t, path+".x", 24, string(counter[:]))
		if _, err := open(t.Context(), path+".x", openOptions{}); !errors.Is(err, ErrForeignJournal) {
			t.Errorf("%d away: %v", int32(away), err)
		}
	}
}

func TestDamagedJournalIsNotLost(t *testing.T) {
	wal := crashed(t, t.TempDir(), "WAL")
	patchFile(t, wal+"-wal", 13, "x") // a flipped header makes SQLite forget every commit, and delete the file
	if _, err := open(t.Context(), wal, openOptions{}); !errors.Is(err, ErrForeignJournal) {
		t.Errorf("WAL: %v", err)
	}
	journal := crashed(t, t.TempDir(), "DELETE")
	patchFile(t, journal+"-journal", 12, "x") // another nonce: SQLite would cut the file and roll nothing back
	if _, err := open(t.Context(), journal, openOptions{}); !errors.Is(err, ErrForeignJournal) {
		t.Errorf("journal: %v", err)
	}
	fifo := crashed(t, t.TempDir(), "DELETE")
	must(t, os.Remove(fifo+"-journal"))
	must(t, os.Symlink("/etc/passwd", fifo+"-journal"))
	if _, err := open(t.Context(), fifo, openOptions{}); !errors.Is(err, ErrForeignJournal) {
		t.Errorf("link: %v", err)
	}
}

// A live writer's files look odd from moment to moment. None of it may look foreign.
func TestLiveWriterIsNotSuspect(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE", "PERSIST", "TRUNCATE"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "a.db")
			shell(t, path, "PRAGMA journal_mode="+mode+"; CREATE TABLE log(n INTEGER PRIMARY KEY, filler BLOB);")
			w := startWriter(t, path, "PRAGMA wal_autocheckpoint=5; PRAGMA cache_size=3; PRAGMA synchronous=OFF")
			looks := 3000
			if raceEnabled {
				looks = 300
			}
			for range looks {
				if _, _, err := besides(t.Context(), path); err != nil {
					t.Fatal(err)
				}
			}
			w.verify(t)
		})
	}
}

func FuzzJournals(f *testing.F) {
	path := filepath.Join(f.TempDir(), "a.db")
	makeHot(f, path)
	journal, err := os.ReadFile(path + "-journal")
	must(f, err)
	makeCrashed(f, path, "PRAGMA journal_mode=WAL")
	wal, err := os.ReadFile(path + "-wal")
	must(f, err)
	f.Add(journal[:2048], wal[:4096+56])
	f.Add(journal[:28], wal[:32])
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, journal, wal []byte) {
		path := filepath.Join(t.TempDir(), "a.db")
		must(t, os.WriteFile(path, append([]byte(headerMagic+"\x10\x00\x02\x02"), make([]byte, 4076)...), 0o644))
		must(t, os.WriteFile(path+"-journal", journal, 0o644))
		must(t, os.WriteFile(path+"-wal", wal, 0o644))
		if _, _, err := besides(t.Context(), path); err != nil && !errors.Is(err, ErrForeignJournal) {
			t.Error(err)
		}
	})
}
