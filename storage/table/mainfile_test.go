package table

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"modernc.org/sqlite"
)

func needMain(t *testing.T) {
	t.Helper()
	if !sqlite.OFDLockingEnabled() {
		t.Skip("SKIPPED: without OFD locks SQLite reads every page")
	}
}

// eachWay gives the pages as the main file and the WAL have them, and as SQLite does.
func eachWay(ctx context.Context, t *testing.T, s *Snapshot) (ours, theirs []byte) {
	t.Helper()
	read := func() []byte {
		var b bytes.Buffer
		for page, err := range s.Pages(ctx) {
			must(t, err)
			b.Write(page.Data)
		}
		return b.Bytes()
	}
	if s.main == nil {
		t.Error("SQLite has to read all pages")
	}
	ours = read()
	through := *s
	through.main = nil
	s = &through
	return ours, read()
}

func TestPagesOfTheMainFileAreThoseOfSQLite(t *testing.T) {
	needMain(t)
	eachFixture(t, func(t *testing.T, _ fixture, path string) {
		must(t, TakeSnapshot(t.Context(), path, SnapshotOptions{}, func(ctx context.Context, s *Snapshot) error {
			if ours, theirs := eachWay(ctx, t, s); !bytes.Equal(ours, theirs) {
				t.Error("they differ")
			}
			return nil
		}))
	})
}

// Commits in the WAL, those that are checkpointed beside the snapshot, and those that come later: none changes a page of it.
func TestPagesOfTheMainFileBesideWriters(t *testing.T) {
	needMain(t)
	path := filepath.Join(t.TempDir(), "a.db")
	bulk(t, path, "PRAGMA journal_mode=WAL;", 2000)
	writer, err := open(t.Context(), path, openOptions{wait: time.Minute})
	must(t, err)
	defer func() { must(t, writer.close()) }()
	write := func(sql string) { t.Helper(); must(t, writer.exec(t.Context(), sql)) }
	write("PRAGMA wal_autocheckpoint=0")
	for _, c := range []struct {
		name, change string
		from, to     int // pages that are SQLite's to read
	}{
		{"some in the WAL", "UPDATE item SET body = randomblob(1000) WHERE id % 500 = 150", 1, 20},
		{"all in the main file", "PRAGMA wal_checkpoint(TRUNCATE)", 0, 0},
		{"many of an earlier generation in the WAL", "PRAGMA wal_checkpoint(PASSIVE); UPDATE item SET body = randomblob(1000) WHERE id = 150", 1, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(c.change)
			must(t, TakeSnapshot(t.Context(), path, SnapshotOptions{Beside: true}, func(ctx context.Context, s *Snapshot) error {
				if n := len(s.overlaid); n < c.from || n > c.to {
					t.Errorf("%d pages are SQLite's to read", n)
				}
				before, _ := eachWay(ctx, t, s)
				write("UPDATE item SET body = randomblob(1000) WHERE id % 300 = 170; PRAGMA wal_checkpoint(PASSIVE)")
				write("UPDATE item SET body = randomblob(1000) WHERE id % 3 = 0")
				ours, theirs := eachWay(ctx, t, s)
				if !bytes.Equal(ours, before) || !bytes.Equal(theirs, before) {
					t.Errorf("the snapshot changed: in our eyes %t, in SQLite's %t", !bytes.Equal(ours, before), !bytes.Equal(theirs, before))
				}
				return nil
			}))
		})
	}
}

// SQLite reads where the path leads to another file by now, and where the WAL has a large part of the pages.
func TestPagesAreReadBySQLiteWhereTheyMustBe(t *testing.T) {
	needMain(t)
	path := filepath.Join(t.TempDir(), "a.db")
	bulk(t, path, "PRAGMA journal_mode=WAL;", 500)
	m := openMain(path)
	defer m.close()
	c, err := open(t.Context(), path, openOptions{})
	must(t, err)
	defer func() { must(t, c.close()) }()
	s, err := c.stats(t.Context())
	must(t, err)
	if pages, ok := m.overlaid(path, s); !ok || len(pages) > 0 {
		t.Fatalf("%v %t", pages, ok)
	}
	must(t, c.exec(t.Context(), "PRAGMA wal_autocheckpoint=0; UPDATE item SET body = randomblob(1000)"))
	if pages, ok := m.overlaid(path, s); ok {
		t.Errorf("%d of %d pages to ask for one by one", len(pages), s.PageCount)
	}
	must(t, c.exec(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)"))
	must(t, os.Rename(path, path+".moved"))
	bulk(t, path, "PRAGMA journal_mode=WAL;", 500)
	if _, ok := m.overlaid(path, s); ok {
		t.Error("another file is taken for the one that SQLite has open")
	}
}

// What the main file does not give, SQLite is asked for.
func TestAPageThatCannotBeRead(t *testing.T) {
	needMain(t)
	path := filepath.Join(t.TempDir(), "a.db")
	bulk(t, path, "", 500)
	must(t, TakeSnapshot(t.Context(), path, SnapshotOptions{}, func(ctx context.Context, s *Snapshot) error {
		want, _ := eachWay(ctx, t, s)
		must(t, s.main.file.Close())
		s.main.buffer = nil
		ours, _ := eachWay(ctx, t, s)
		if !bytes.Equal(ours, want) {
			t.Error("they differ")
		}
		var err error
		s.main.file, err = os.Open(path)
		return err
	}))
}
