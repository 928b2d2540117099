package table

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tablekeeper/storage/ledger"
)

// clinic is an OnCorrupt that restores a good copy, by the swap.
type clinic struct {
	t       *testing.T
	table   chan *Table
	good    string
	reports atomic.Int32
	causes  chan Cause
	before  func() // while the table is out of service
}

func newClinic(t *testing.T) *clinic {
	return &clinic{t: t, table: make(chan *Table, 1), causes: make(chan Cause, 8)}
}

// keep makes the copy that later incidents are healed from.
func (c *clinic) keep(table *Table) {
	c.t.Helper()
	settleOwned(c.t, table)
	b, err := os.ReadFile(table.Path())
	if err != nil {
		c.t.Fatal(err)
	}
	c.good = filepath.Join(c.t.TempDir(), "good.db")
	if err := os.WriteFile(c.good, b, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *clinic) recover(ctx context.Context, r Report) {
	c.reports.Add(1)
	table := <-c.table
	c.table <- table
	if err := c.heal(ctx, table); err != nil {
		c.t.Errorf("recover from %s: %v", r.Cause, err)
		table.Fail(err)
	}
	c.causes <- r.Cause
}

func (c *clinic) heal(ctx context.Context, table *Table) error {
	if err := table.Detach(ctx); err != nil {
		return err
	}
	if c.before != nil {
		c.before()
	}
	_ = os.Remove(table.Path() + "-journal")
	b, err := os.ReadFile(c.good)
	if err != nil {
		return err
	}
	fresh := Temporary(table.Path(), "restore")
	if err := os.WriteFile(fresh, b, 0o600); err != nil {
		return err
	}
	if _, err := StageLedger(ctx, table.Path(), fresh, nil); err != nil {
		return err
	}
	if _, err := Swap(ctx, table.Path(), fresh, SwapOptions{Reason: "corrupt"}); err != nil {
		return err
	}
	return table.Attach(ctx, AttachOptions{Trusted: true})
}

// patient opens a table that heals itself.
func patient(t *testing.T, path string, opts Options) (*Table, *clinic) {
	c := newClinic(t)
	opts.OnCorrupt = c.recover
	table := openOwned(t, path, opts)
	c.table <- table
	return table, c
}

func scribble(t *testing.T, path string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// Everything that can happen to a file beneath its users: the next look at it starts one recovery, and the operations of that time
// go on afterwards.
func TestDamageIsHealedBeneathItsUsers(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, path string)
		want   []Cause
	}{
		{"page zeroed", func(t *testing.T, path string) { scribble(t, path, 3*4096, make([]byte, 4096)) }, []Cause{CausePage}},
		{"bit flipped", func(t *testing.T, path string) { flipOwned(t, path, (5*4096+99)*8) }, []Cause{CausePage}},
		{"truncated", func(t *testing.T, path string) { must(t, os.Truncate(path, 2*4096)) }, []Cause{CauseTruncated}},
		{"emptied", func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) }, []Cause{CauseTruncated}},
		{"garbage", func(t *testing.T, path string) {
			info, err := os.Stat(path)
			must(t, err)
			scribble(t, path, 0, slices.Repeat([]byte("garbage!"), int(info.Size()/8)))
		}, []Cause{CausePage, CauseHeader}},
		{"header destroyed", func(t *testing.T, path string) { scribble(t, path, 0, make([]byte, 100)) }, []Cause{CausePage, CauseHeader}},
		{"deleted", func(t *testing.T, path string) { must(t, os.Remove(path)) }, []Cause{CauseMissing}},
		{"replaced", func(t *testing.T, path string) {
			must(t, os.WriteFile(path+".other", []byte("not the table"), 0o600))
			must(t, os.Rename(path+".other", path))
		}, []Cause{CauseReplaced}},
		{"hot journal of another table", func(t *testing.T, path string) {
			b := make([]byte, 512+4096+8)
			copy(b, journalMagic)
			copy(b[8:], []byte{0, 0, 0, 1, 1, 2, 3, 4, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 16, 0})
			must(t, os.WriteFile(path+"-journal", b, 0o600))
		}, []Cause{CauseJournal}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.db")
			table, clinic := patient(t, path, quietOwned)
			fillOwned(t, table, 300)
			clinic.keep(table)
			tc.damage(t, path)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					if _, err := table.Scrub(t.Context(), ScrubOptions{}); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrRecovering) {
						t.Errorf("scrub: %v", err)
					}
					if n := ownedInt(t, table, "SELECT count(*) FROM t"); n != 300 {
						t.Errorf("%d rows", n)
					}
				})
			}
			wg.Wait()
			if cause := <-clinic.causes; !slices.Contains(tc.want, cause) {
				t.Errorf("cause %s, want %v", cause, tc.want)
			}
			writeOwned(t, table, "INSERT INTO t(v) VALUES(x'00')")
			settleOwned(t, table)
			if done := scrubClean(t, table); done.Unproven != 0 {
				t.Errorf("%d pages unproven", done.Unproven)
			}
			if n := clinic.reports.Load(); n != 1 {
				t.Errorf("%d reports", n)
			}
		})
	}
}

// A commit into a file that has lost its name is not acknowledged: the write is done again in the file that is restored.
func TestWriteIntoDeletedFileIsDoneAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	table, clinic := patient(t, path, quietOwned)
	fillOwned(t, table, 100)
	clinic.keep(table)
	must(t, os.Remove(path))
	writeOwned(t, table, "INSERT INTO t(v) VALUES(x'01')")
	<-clinic.causes
	if n := ownedInt(t, table, "SELECT count(*) FROM t"); n != 101 {
		t.Fatalf("%d rows", n)
	}
}

// SQLite itself stumbles over a page: the read that met it succeeds after the recovery.
func TestReadThatMeetsDamageSucceeds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	table, clinic := patient(t, path, quietOwned)
	fillOwned(t, table, 2000)
	clinic.keep(table)
	must(t, table.Detach(t.Context())) // empties SQLite's caches
	must(t, table.Attach(t.Context(), AttachOptions{}))
	for p := int64(3); p < 20; p++ {
		scribble(t, path, p*4096, slices.Repeat([]byte{0xff}, 64))
	}
	if n := ownedInt(t, table, "SELECT count(*) FROM t WHERE length(v) = 200"); n != 2000 {
		t.Fatalf("%d rows", n)
	}
	if cause := <-clinic.causes; cause != CauseSQLite {
		t.Fatalf("cause %s", cause)
	}
}

func TestWaitersGetTheirTypedErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	opts := quietOwned
	opts.RecoverWait = time.Nanosecond
	reported := make(chan Report)
	opts.OnCorrupt = func(_ context.Context, r Report) { reported <- r }
	opts.Clock = func() time.Time { return time.Unix(77, 0) }
	table := openOwned(t, path, opts)
	fillOwned(t, table, 10)
	table.Suspect(t.Context(), []uint32{2}, errors.New("the program says so"))
	table.Suspect(t.Context(), []uint32{3}, errors.New("twice"))
	r := <-reported
	if r.Cause != CauseReported || !slices.Equal(r.Pages, []uint32{2}) || !r.At.Equal(time.Unix(77, 0)) || !errors.Is(r.Err, ErrCorrupt) {
		t.Fatalf("report %+v", r)
	}
	nothing := func(*sql.Tx) error { return nil }
	if err := table.Read(t.Context(), nothing); !errors.Is(err, ErrRecovering) {
		t.Fatalf("read: %v", err)
	}
	cause := errors.New("no backup")
	table.Fail(cause)
	if err := table.Write(t.Context(), nothing); !errors.Is(err, ErrDegraded) || !errors.Is(err, cause) {
		t.Fatalf("write: %v", err)
	}
	must(t, table.Detach(t.Context()))
	must(t, table.Attach(t.Context(), AttachOptions{}))
	if err := table.Write(t.Context(), nothing); err != nil {
		t.Fatalf("write after attach: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := table.Write(cancelled, nothing); !errors.Is(err, context.Canceled) {
		t.Fatalf("write with a context that is over: %v", err)
	}
}

// The errors of a table whose operation runs inside that of another are not the other one's.
func TestErrorsOfAnotherTableAreNotOurs(t *testing.T) {
	dir := t.TempDir()
	outer, clinic := patient(t, filepath.Join(dir, "outer.db"), quietOwned)
	inner := openOwned(t, filepath.Join(dir, "inner.db"), quietOwned)
	fillOwned(t, inner, 500)
	settleOwned(t, inner)
	must(t, inner.Detach(t.Context()))
	must(t, inner.Attach(t.Context(), AttachOptions{}))
	damagePages(t, inner.Path(), func(page func(int) []byte) {
		for n := 3; n < 20; n++ {
			copy(page(n), slices.Repeat([]byte{0xff}, 64))
		}
	})
	err := outer.Write(t.Context(), func(*sql.Tx) error {
		return inner.Read(t.Context(), func(tx *sql.Tx) error {
			var n int
			return tx.QueryRowContext(t.Context(), "SELECT count(*) FROM t WHERE length(v) = 200").Scan(&n)
		})
	})
	if !errors.Is(err, ErrCorrupt) || clinic.reports.Load() != 0 {
		t.Fatalf("%d reports, %v", clinic.reports.Load(), err)
	}
}

// Page repair, as recovery does it: the ledger names the bad pages, their content comes from elsewhere, nothing is lost.
func TestPagesAreRepairedInPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	table := openOwned(t, path, quietOwned)
	fillOwned(t, table, 500)
	settleOwned(t, table)
	good, err := os.ReadFile(path)
	must(t, err)
	damagePages(t, path, func(page func(int) []byte) { clear(page(4)); page(9)[17] ^= 4 })
	wantBad(t, table, 4, 9)
	must(t, table.Detach(t.Context()))
	found, err := CompareLedger(t.Context(), path)
	if err != nil || !slices.Equal(found.Bad, []uint32{4, 9}) || !found.Own || found.Unproven != 0 {
		t.Fatalf("%+v, %v", found.Bad, err)
	}
	if err := table.Attach(t.Context(), AttachOptions{}); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("attach of a damaged file: %v", err)
	}
	for _, p := range found.Bad {
		page := good[(p-1)*4096 : p*4096]
		if ledger.Sum(page) != found.Sums[p-1] {
			t.Fatalf("page %d: the good copy is not what the ledger has", p)
		}
		scribble(t, path, int64(p-1)*4096, page)
	}
	must(t, table.Attach(t.Context(), AttachOptions{LedgerHolds: true}))
	scrubClean(t, table)
}

// A swap that crashed between the file and whatever comes after leaves a file with its own ledger.
func TestLedgerFollowsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	table, err := Open(t.Context(), path, quietOwned)
	must(t, err)
	fillOwned(t, table, 300)
	copied := func() string {
		fresh := Temporary(path, "vacuum")
		must(t, table.Exclusive(t.Context(), func(ctx context.Context, c *sql.Conn) error {
			_, err := c.ExecContext(ctx, "VACUUM INTO ?", fresh)
			return err
		}))
		return fresh
	}
	fresh := copied()
	sums, err := StageLedger(t.Context(), path, fresh, nil)
	must(t, err)
	if _, err := StageLedger(t.Context(), path, fresh, slices.Repeat(ledger.Sums{1}, len(sums))); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("sums that are wrong: %v", err)
	}
	must(t, table.Close())
	// The swap did not happen: the old ledger holds, and the new one is gone.
	table, err = Open(t.Context(), path, quietOwned)
	must(t, err)
	scrubClean(t, table)
	if _, err := os.Stat(nextLedger(path)); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a ledger without a file: %v", err)
	}
	fresh = copied()
	_, err = StageLedger(t.Context(), path, fresh, sums)
	must(t, err)
	must(t, table.Close())
	_, err = Swap(t.Context(), path, fresh, SwapOptions{})
	must(t, err)
	table = openOwned(t, path, quietOwned)
	if done := scrubClean(t, table); done.Unproven != 0 || int(done.Pages) != len(sums) {
		t.Fatalf("%+v, want %d pages", done, len(sums))
	}
}

// A swap without a ledger is a swap of ours all the same; a file put in place by hand is not.
func TestFileOfUnknownOrigin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	table, err := Open(t.Context(), path, quietOwned)
	must(t, err)
	fillOwned(t, table, 300)
	must(t, table.Close())
	b, err := os.ReadFile(path)
	must(t, err)
	other := openOwned(t, filepath.Join(t.TempDir(), "other.db"), quietOwned)
	fillOwned(t, other, 300)
	settleOwned(t, other)
	theirs, err := os.ReadFile(other.Path())
	must(t, err)

	fresh := Temporary(path, "restore")
	must(t, os.WriteFile(fresh, b, 0o600))
	_, err = Swap(t.Context(), path, fresh, SwapOptions{})
	must(t, err)
	table, err = Open(t.Context(), path, quietOwned)
	must(t, err)
	if done := scrubClean(t, table); done.Unproven != int(done.Pages) {
		t.Fatalf("%+v", done)
	}
	must(t, table.Close())

	// The same table, copied: the ledger goes on.
	must(t, os.WriteFile(path+".copy", b, 0o600))
	must(t, os.Rename(path+".copy", path))
	table, err = Open(t.Context(), path, quietOwned)
	must(t, err)
	scrubClean(t, table)
	must(t, table.Close())

	must(t, os.WriteFile(path+".other", theirs, 0o600))
	must(t, os.Rename(path+".other", path))
	_, err = Open(t.Context(), path, quietOwned)
	var found *damage
	if !errors.As(err, &found) || found.Cause != CauseReplaced {
		t.Fatalf("another table's file: %v", err)
	}
	must(t, Forget(path))
	table = openOwned(t, path, quietOwned)
	if done := scrubClean(t, table); done.Unproven != int(done.Pages) {
		t.Fatalf("%+v", done)
	}
}

// TestScrubGivesWay: its caller may have the lock that the recovery waits for, and the recovery waits for whoever is inside the table.
func TestScrubGivesWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	bulk(t, path, "PRAGMA journal_mode=WAL;", 4000)
	reported := make(chan struct{})
	table := openOwned(t, path, Options{RecoverWait: time.Millisecond, OnCorrupt: func(context.Context, Report) { close(reported) }})
	looks := 0
	_, err := table.Scrub(t.Context(), ScrubOptions{Progress: func(int64, int64) {
		if looks++; looks == 1 {
			table.Suspect(t.Context(), []uint32{3}, errors.New("somebody has met damage"))
		}
	}})
	<-reported
	if !errors.Is(err, ErrRecovering) || looks != 1 {
		t.Errorf("%d looks, %v", looks, err)
	}
	must(t, table.Detach(t.Context()))
	must(t, table.Attach(t.Context(), AttachOptions{}))
	if done, err := table.Scrub(t.Context(), ScrubOptions{}); err != nil || len(done.Bad) > 0 {
		t.Errorf("%+v, %v", done, err)
	}
}
