package table

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tablekeeper/storage/childtest"
)

func init() { children["surrender"] = surrenderDamaged }

// What is damaged, and who reads, in a table that is surrendered.
const (
	besideReader = "beside a reader" // a checkpoint has stopped at a reader, who is there until the end
	afterReader  = "after a reader"  // who has gone when the files are closed
	movedByOther = "moved by others" // another program has moved all of it
	lostToo      = "lost too"        // a page is damaged besides that is not in the WAL
)

// rowsAtFirst are settled, rowsInWAL are behind them.
const (
	rowsAtFirst = 150
	rowsInWAL   = 200
)

// surrenderDamaged has a table grow, has that moved and not settled, damages pages of it, and gives up the table's files. What the pages
// should be is in a file before.
func surrenderDamaged(words []string) error {
	ctx := context.Background()
	opts := quietOwned
	opts.OnCorrupt = func(context.Context, Report) {}
	table, err := Open(ctx, words[0], opts)
	if err != nil {
		return err
	}
	end, err := moveUnsettled(ctx, table, words[2])
	if err != nil {
		return err
	}
	if err := damageMoved(table, words[1], slices.Contains(words, lostToo)); err != nil {
		return err
	}
	if words[2] == afterReader {
		if err := end(); err != nil {
			return err
		}
	}
	if err := os.Mkdir(filepath.Join(filepath.Dir(words[1]), fromHere), 0o700); err != nil {
		return err
	}
	table.Suspect(ctx, nil, errors.New("test"))
	return errors.Join(table.Detach(ctx), table.Close()) // the process ends before its reader does
}

// moveUnsettled moves what it commits, and leaves it unsettled. end ends the reader.
func moveUnsettled(ctx context.Context, table *Table, how string) (end func() error, err error) {
	write := func(query string, args ...any) error {
		return table.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, query, args...)
			return err
		})
	}
	err = write(`WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < ?) INSERT INTO t(v) SELECT randomblob(200) FROM c`, rowsInWAL)
	if err == nil {
		_, err = table.Expect(ctx) // stages
	}
	if err != nil {
		return nil, err
	}
	reader, err := connect(ctx, table.Path(), openOptions{})
	if err != nil {
		return nil, err
	}
	if how == movedByOther {
		frames, moved, err := reader.walCheckpoint(ctx, "PASSIVE")
		if err == nil && moved != frames {
			err = fmt.Errorf("%d of %d frames were moved", moved, frames)
		}
		return nil, errors.Join(err, reader.close())
	}
	if err := reader.hold(ctx); err != nil {
		return nil, err
	}
	if err := write("UPDATE t SET v = 'after the reader' WHERE id = 1"); err != nil {
		return nil, err
	}
	if settled, err := table.Checkpoint(ctx); settled || err != nil {
		return nil, fmt.Errorf("checkpoint beside a reader: settled %v, %w", settled, err)
	}
	return func() error { return errors.Join(reader.letGo(ctx), reader.close()) }, nil
}

// damageMoved damages, durably, three of the last pages, and one among the first if it is to be lost. Before, it writes down what the pages
// should be.
func damageMoved(table *Table, truth string, lost bool) error {
	raw, err := OpenRaw(table.Path())
	if err != nil {
		return err
	}
	defer func() { _ = raw.Close() }() // only read
	var pages []byte
	for n := range raw.PageCount() {
		page, err := raw.Page(n + 1)
		if err != nil {
			return err
		}
		pages = append(pages, page...)
	}
	last := raw.PageCount()
	main, err := os.OpenFile(table.Path(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	spoil := func(page int64, at int, b ...byte) error {
		_, err := main.WriteAt(b, (page-1)*4096+int64(at))
		return err
	}
	err = errors.Join(os.WriteFile(truth, pages, 0o600),
		spoil(last-1, 0, make([]byte, 4096)...),
		spoil(last-2, 3000, pages[(last-3)*4096+3000]^4),
		spoil(last-3, 500, []byte("scratched")...))
	if lost {
		err = errors.Join(err, spoil(lostPage, 3000, pages[(lostPage-1)*4096+3000]^4))
	}
	return errors.Join(err, main.Sync(), main.Close())
}

// lostPage has rows that were settled, and that nobody has written to since. SQLite finds nothing wrong with it.
const lostPage = 5

// toSurrender makes the table. Another program has it open if somebody is to know what was moved when its owner has died.
func toSurrender(t *testing.T, open bool) (path, truth string) {
	t.Helper()
	dir := t.TempDir()
	path, truth = filepath.Join(dir, "tables", "x.db"), filepath.Join(dir, "tables", "truth")
	must(t, os.Mkdir(filepath.Dir(path), 0o700))
	table, err := Open(t.Context(), path, quietOwned)
	must(t, err)
	fillOwned(t, table, rowsAtFirst)
	must(t, table.Close())
	if open {
		c, err := connect(t.Context(), path, openOptions{})
		must(t, err)
		t.Cleanup(func() { must(t, c.close()) })
	}
	return path, truth
}

func readPages(t *testing.T, path string) [][]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return slices.Collect(slices.Chunk(b, 4096))
}

// afterSurrender is what must be true however far the owner has come: what each page should be is known, and so is each that is another
// one. With those from elsewhere the table is whole. It returns how many they were.
func afterSurrender(t *testing.T, path, truth string, maybe []uint32, at string) (lost int) {
	t.Helper()
	want := readPages(t, truth)
	s := &stray{t: t}
	if err := s.agree(path, want, nil); err != nil {
		t.Fatalf("%s: %v", at, err)
	}
	opts, reported := quietOwned, make(chan Report, 1)
	opts.OnCorrupt = func(_ context.Context, r Report) { reported <- r }
	table, err := Open(t.Context(), path, opts)
	if err != nil {
		t.Fatalf("%s: open: %v", at, err)
	}
	defer func() { must(t, table.Close()) }()
	if table.gate.current() == nil {
		<-reported
		lost = mendFrom(t, table, want, maybe, at)
	}
	if n := ownedInt(t, table, "SELECT count(*) FROM t"); n != rowsAtFirst+rowsInWAL {
		t.Fatalf("%s: %d rows", at, n)
	}
	settleOwned(t, table)
	if done := scrubClean(t, table); done.Unproven > 0 {
		t.Fatalf("%s: %d pages are unproven", at, done.Unproven)
	}
	if !slices.EqualFunc(readPages(t, path), want, slices.Equal) {
		t.Fatalf("%s: the pages are not what was committed", at)
	}
	return lost
}

// mendFrom has a table that was found to be damaged mended with pages from elsewhere, which must be among those that may be lost.
func mendFrom(t *testing.T, table *Table, good [][]byte, maybe []uint32, at string) (lost int) {
	t.Helper()
	must(t, table.Detach(t.Context()))
	c, err := CompareLedger(t.Context(), table.Path())
	if err != nil || !c.Certain || c.Short {
		t.Fatalf("%s: %+v, %v", at, c, err)
	}
	for _, p := range c.Bad {
		if !slices.Contains(maybe, p) {
			t.Fatalf("%s: bad pages %v of %v", at, c.Bad, maybe)
		}
		scribble(t, table.Path(), int64(p-1)*4096, good[p-1])
	}
	if err := table.Attach(t.Context(), AttachOptions{LedgerHolds: true}); err != nil {
		t.Fatalf("%s: attach: %v", at, err)
	}
	return len(c.Bad)
}

// eachSurrender calls test for each way of it.
func eachSurrender(t *testing.T, test func(t *testing.T, open bool, words ...string)) {
	needStrace(t)
	for _, how := range []string{besideReader, afterReader, movedByOther} {
		for _, open := range []bool{false, true} {
			for _, also := range []string{"", lostToo} {
				t.Run(fmt.Sprintf("%s, open elsewhere %v, %s", how, open, also), func(t *testing.T) {
					t.Parallel()
					test(t, open, how, also)
				})
			}
		}
	}
}

// TestSurrenderKilledAtEachCall tries every eighth call. Pages of the main file that were moved, and are damaged, come from the WAL, however
// often that is begun.
func TestSurrenderKilledAtEachCall(t *testing.T) {
	eachSurrender(t, func(t *testing.T, open bool, words ...string) {
		var path, truth string
		var lost []uint32
		if slices.Contains(words, lostToo) {
			lost = []uint32{lostPage}
		}
		all, _, kills := killAtSomeCalls(t, 8, func(t *testing.T) (string, []string) {
			path, truth = toSurrender(t, open)
			return filepath.Dir(path), append([]string{"surrender", path, truth}, words...)
		}, func(t *testing.T, _, at string) {
			if n := afterSurrender(t, path, truth, lost, at); n != len(lost) {
				t.Fatalf("%s: %d pages were not known to be lost", at, len(lost)-n)
			}
		})
		t.Logf("%d kills at %d calls", kills, all)
		if all < 4 {
			t.Error("it was not seen how three pages were written and synced")
		}
	})
}

// TestSurrenderMeetsErrorAtEachCall tries every eighth of the calls that write, sync, or remove: it fails once. A page that could not be written
// is known to be bad.
func TestSurrenderMeetsErrorAtEachCall(t *testing.T) {
	eachSurrender(t, func(t *testing.T, open bool, words ...string) {
		chosen, tried, lost := today(8), 0, 0
		path, truth := toSurrender(t, open)
		calls := traceChild(t, filepath.Dir(path), append([]string{"surrender", path, truth}, words...)...)
		if len(calls["pwrite64"]) < 3 {
			t.Fatal("it was not seen how three pages were written")
		}
		for name, errno := range map[string]string{"pwrite64": "ENOSPC", "fsync": "EIO", "fdatasync": "EIO", "ftruncate": "EIO", "unlink": "EIO", "unlinkat": "EIO"} {
			for i, n := range calls[name] {
				if !chosen(i) {
					continue
				}
				tried++
				path, truth = toSurrender(t, open)
				// It may end in an error, or not.
				cmd := childtest.Strace(t, append([]string{"surrender", path, truth}, words...), "-o", os.DevNull, "-e", "trace="+name,
					"-e", fmt.Sprintf("inject=%s:error=%s:when=%d", name, errno, n))
				cmd.Stderr = io.Discard
				_ = cmd.Run()
				pages := uint32(len(readPages(t, truth)))
				if afterSurrender(t, path, truth, []uint32{lostPage, pages - 3, pages - 2, pages - 1}, fmt.Sprintf("%s %d fails", name, n)) > 0 {
					lost++
				}
			}
		}
		t.Logf("%d calls failed; after %d of them some pages were lost", tried, lost)
	})
}

// The power is cut once the files of the damaged table are closed: the WAL is gone, and the pages that came from it must be on the disk.
func TestSurrenderSurvivesRealPowerCut(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		for _, how := range []string{afterReader, movedByOther} {
			// Not in parallel: a child that is being started has copies of our descriptors, and the disk could not be taken away.
			t.Run(kind+", "+how, func(t *testing.T) {
				image := makeFileSystem(t, kind)
				dir := mount(t, "-o", "loop", image)
				opts := quietOwned
				opts.OnCorrupt = func(context.Context, Report) {}
				table, err := Open(t.Context(), filepath.Join(dir, "x.db"), opts)
				must(t, err)
				fillOwned(t, table, rowsAtFirst)
				settleOwned(t, table)
				end, err := moveUnsettled(t.Context(), table, how)
				must(t, err)
				syncAll(t, dir)
				truth := filepath.Join(t.TempDir(), "truth")
				must(t, damageMoved(table, truth, true))
				if end != nil {
					must(t, end())
				}
				table.Suspect(t.Context(), nil, errors.New("test"))
				must(t, errors.Join(table.Detach(t.Context()), table.Close()))
				shutdown(t, dir)
				unmount(t, dir)
				dir = mount(t, "-o", "loop", image)
				if afterSurrender(t, filepath.Join(dir, "x.db"), truth, []uint32{lostPage}, "after a power cut") != 1 {
					t.Error("the damage that was not in the WAL is not known")
				}
				unmount(t, dir)
			})
		}
	}
}
