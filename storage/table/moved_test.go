package table

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"tablekeeper/storage/ledger"
)

// A row in a page by which the table has grown. The next one is in the same page.
const (
	stays        = "a row that stays as it is, in the same page as another one that is written to"
	rowThatStays = 250
)

// unsettled is a table that has grown, with the pages by which it has moved into the main file, and a reader of another program that keeps
// the checkpoint from its end: nothing of it is settled.
func unsettled(t *testing.T) (s *stray, settled uint32) {
	s = newStray(t, 1)
	t.Cleanup(func() {
		s.release()
		must(t, s.table.Close())
	})
	settled = s.table.gate.current().ledger.Pages()
	s.grow(200)
	writeOwned(t, s.table, "UPDATE t SET v = ? WHERE id = ?", stays, rowThatStays)
	s.hold()
	writeOwned(t, s.table, "UPDATE t SET v = 'after the reader' WHERE id = 1")
	if done, err := s.table.Checkpoint(t.Context()); done || err != nil {
		t.Fatalf("checkpoint beside a reader: settled %v, %v", done, err)
	}
	return s, settled
}

// A page by which the table has grown, and that a checkpoint has moved without coming to its end, is damaged. The scrub finds it, and the
// table has it back from the WAL, when its files are closed.
func TestScrubFindsDamageInPagesThatAreNotSettled(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(page []byte)
		reader bool // is there until the end
	}{
		{"a bit", func(page []byte) { page[1234] ^= 4 }, false},
		{"zeros", func(page []byte) { clear(page) }, false},
		{"garbage", func(page []byte) { copy(page[100:], slices.Repeat([]byte("garbage!"), 99)) }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, settled := unsettled(t)
			truth, pages := s.truth(), s.read()
			pages = slices.DeleteFunc(pages, func(p uint32) bool { return p <= settled })
			if len(pages) < 5 {
				t.Fatalf("the main file has %v beyond %d settled pages", pages, settled)
			}
			scrubClean(t, s.table)
			last := pages[len(pages)-1]
			for _, p := range []uint32{pages[0], pages[3], last} {
				damagePages(t, s.path, func(page func(int) []byte) { tc.damage(page(int(p))) })
			}
			found, err := s.table.Scrub(t.Context(), ScrubOptions{})
			if want := []uint32{pages[0], pages[3], last}; err != nil || !slices.Equal(found.Bad, want) {
				t.Fatalf("scrub: bad pages %v, want %v: %v", found.Bad, want, err)
			}
			if !tc.reader {
				s.release()
			}
			must(t, s.table.Detach(t.Context()))
			must(t, s.agree(s.path, truth, nil))
			if c, err := CompareLedger(t.Context(), s.path); err != nil || len(c.Bad) > 0 || len(s.table.Findings().Carried) > 0 {
				t.Fatalf("closed: %v, %v, %+v", c.Bad, err, s.table.Findings())
			}
			s.release()
			must(t, s.table.Attach(t.Context(), AttachOptions{}))
			if n := ownedInt(t, s.table, "SELECT count(*) FROM t"); n != s.rows {
				t.Fatalf("%d rows of %d", n, s.rows)
			}
			settleOwned(t, s.table)
			scrubClean(t, s.table)
		})
	}
}

// Nobody scrubs: when the reader has gone, the checkpoint looks at what it had moved before, while the WAL still has it.
func TestCheckpointFindsDamageInWhatItHadMoved(t *testing.T) {
	s, settled := unsettled(t)
	truth := s.truth()
	pages := slices.DeleteFunc(s.read(), func(p uint32) bool { return p <= settled })
	flipOwned(t, s.path, int64(pages[1]-1)*4096*8+777)
	s.release()
	var found *damage
	if done, err := s.table.checkpoint(t.Context(), s.table.gate.current()); done || !errors.As(err, &found) || !slices.Equal(found.Pages, pages[1:2]) {
		t.Fatalf("page %d is damaged: settled %v, %v", pages[1], done, err)
	}
	s.table.Suspect(t.Context(), found.Pages, found)
	must(t, s.table.Detach(t.Context()))
	must(t, s.agree(s.path, truth, nil))
	must(t, s.table.Attach(t.Context(), AttachOptions{}))
	settleOwned(t, s.table)
	scrubClean(t, s.table)
}

// Another program moves what a reader had kept from us, and empties the WAL: there is nothing left to do, and that is said.
func TestCheckpointOfAWALThatOthersHaveEmptied(t *testing.T) {
	s, _ := unsettled(t)
	s.release()
	s.stranger("PRAGMA wal_checkpoint(PASSIVE)")
	scrubClean(t, s.table) // the pin needs the WAL no more
	s.stranger("PRAGMA wal_checkpoint(TRUNCATE)")
	if info, err := os.Stat(s.path + "-wal"); err != nil || info.Size() > 0 {
		t.Fatalf("the WAL is not empty: %v, %v", info, err)
	}
	settleOwned(t, s.table)
	scrubClean(t, s.table)
}

// Another program moves what was staged, all of it or a part, and would empty the WAL, but for the pin: what it has moved is compared at the
// next scrub.
func TestScrubFindsDamageInWhatOthersHaveMoved(t *testing.T) {
	for _, mode := range []string{"PASSIVE", "TRUNCATE"} {
		for _, beside := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, beside a reader %v", mode, beside), func(t *testing.T) {
				s := newStray(t, 1)
				t.Cleanup(func() {
					s.release()
					must(t, s.table.Close())
				})
				settled := s.table.gate.current().ledger.Pages()
				s.grow(100)
				_, err := s.table.Expect(t.Context()) // stages
				must(t, err)
				if beside {
					s.hold()
					writeOwned(t, s.table, "UPDATE t SET v = 'after the reader' WHERE id = 1")
				}
				s.stranger("PRAGMA wal_checkpoint(" + mode + ")")
				bad := settled + 2
				if !slices.Contains(s.read(), bad) {
					t.Fatalf("page %d was not moved", bad)
				}
				flipOwned(t, s.path, int64(bad-1)*4096*8+777)
				wantBad(t, s.table, bad)
				s.release()
				must(t, s.table.Detach(t.Context()))
				if c, err := CompareLedger(t.Context(), s.path); err != nil || len(c.Bad) > 0 {
					t.Fatalf("closed: %v, %v", c.Bad, err)
				}
			})
		}
	}
}

// The same while somebody writes all the time.
func TestScrubFindsThemBesideAWriter(t *testing.T) {
	s, settled := unsettled(t)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			err := s.table.Write(ctx, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, "UPDATE t SET v = ? WHERE id = 2", fmt.Sprint(n))
				return err
			})
			if err != nil && ctx.Err() == nil && !errors.Is(err, ErrRecovering) {
				t.Errorf("write: %v", err)
				return
			}
		}
	})
	defer wg.Wait()
	defer stop()
	for range 3 {
		scrubClean(t, s.table)
	}
	bad := settled + 3
	flipOwned(t, s.path, int64(bad-1)*4096*8+777)
	if found, err := s.table.Scrub(t.Context(), ScrubOptions{}); err != nil || !slices.Equal(found.Bad, []uint32{bad}) {
		t.Fatalf("scrub: bad pages %v, want %d: %v", found.Bad, bad, err)
	}
	stop()
	wg.Wait()
	must(t, s.table.Detach(t.Context()))
	if c, err := CompareLedger(t.Context(), s.path); err != nil || len(c.Bad) > 0 {
		t.Fatalf("closed: %v, %v", c.Bad, err)
	}
}

// Such a page does not become a backup, and no newer version is made from it unseen.
func TestDamageInPagesThatAreNotSettledGoesNowhere(t *testing.T) {
	t.Run("snapshot", func(t *testing.T) {
		s, settled := unsettled(t)
		accepts, err := s.table.Expect(t.Context())
		must(t, err)
		for _, p := range s.read() {
			page := s.truth()[p-1]
			if !accepts(p, ledger.Sum(page)) {
				t.Errorf("page %d is refused", p)
			}
			page[99] ^= 1
			if accepts(p, ledger.Sum(page)) {
				t.Errorf("page %d of %d settled ones is accepted with a flipped bit", p, settled)
			}
		}
	})
	t.Run("write", func(t *testing.T) {
		s, settled := unsettled(t)
		s.release()
		file, err := os.ReadFile(s.path)
		must(t, err)
		at := bytes.Index(file, []byte(stays)) + 30
		bad := uint32(at/4096 + 1)
		if bad <= settled || !slices.Contains(s.read(), bad) {
			t.Fatalf("row %d is in page %d", rowThatStays, bad)
		}
		stranger, err := connect(t.Context(), s.path, openOptions{})
		must(t, err)
		// SQLite forgets what it has in memory.
		must(t, errors.Join(stranger.exec(t.Context(), "UPDATE t SET v = 'a stranger was here' WHERE id = 2"), stranger.close()))
		flipOwned(t, s.path, int64(at)*8)
		writeOwned(t, s.table, "UPDATE t SET v = randomblob(200) WHERE id = ?", rowThatStays+1)
		_, err = s.table.checkpoint(t.Context(), s.table.gate.current()) // nobody waits for a recovery
		var found *damage
		if !errors.As(err, &found) || !slices.Equal(found.Pages, []uint32{bad}) || !slices.Equal(found.InFlight, []uint32{bad}) {
			t.Fatalf("checkpoint over damaged page %d: %v", bad, err)
		}
		s.table.Suspect(t.Context(), found.Pages, err)
		must(t, s.table.Detach(t.Context()))
		if carried := s.table.Findings().Carried; !slices.Equal(carried, []uint32{bad}) {
			t.Fatalf("carried over: %v", carried)
		}
	})
}

// In whatever order commits, checkpoints and readers have come, ours and others': no page is called damaged that is not, and every page that
// whoever begins to read gets from the main file is compared. One that is damaged is found, and comes from the WAL if it is not settled.
// TABLEKEEPER_ORDERS sets how many orders are tried.
func TestScrubInAnyOrder(t *testing.T) {
	compared, back := 0, 0
	for seed := range orders(t) {
		s := newShrinking(t, seed)
		session := s.table.gate.current()
		at := fmt.Sprintf("seed %d, after %v", seed, s.scrubBetween(seed))
		must(t, session.catchUp(t.Context()))
		pages, truth := s.read(), s.truth()
		for _, p := range pages {
			sum := ledger.Sum(truth[p-1])
			if !session.ledger.Accepts(p, sum) || session.ledger.Accepts(p, sum^1) || p > session.ledger.Pages() {
				t.Fatalf("%s: page %d of %d is not compared", at, p, len(truth))
			}
			compared++
		}
		if len(pages) == 0 {
			continue // all of them are in the WAL, and none was moved
		}
		unsettled := slices.DeleteFunc(slices.Clone(pages), func(p uint32) bool {
			return !slices.ContainsFunc(session.ledger.Staged(), func(f ledger.Frame) bool { return f.Page == p })
		})
		if len(unsettled) > 0 {
			pages = unsettled
		}
		bad := pages[s.random.IntN(len(pages))]
		flipOwned(t, s.path, (int64(bad-1)*4096+s.random.Int64N(4096))*8+s.random.Int64N(8))
		found, err := s.table.Scrub(t.Context(), ScrubOptions{})
		if err != nil || !slices.Equal(found.Bad, []uint32{bad}) {
			t.Fatalf("%s: bad pages %v, want %d: %v", at, found.Bad, bad, err)
		}
		o, err := readOverlay(session.tail.file, 4096, math.MaxInt64)
		must(t, err)
		_, inWAL := o.newest[bad] // or a stranger has emptied it
		inWAL = inWAL && len(unsettled) > 0
		if inWAL {
			back++
		}
		s.release()
		must(t, s.table.Detach(t.Context()))
		must(t, s.agree(s.path, truth, nil))
		if c, err := CompareLedger(t.Context(), s.path); err != nil || len(c.Bad) > 0 == inWAL {
			t.Fatalf("%s: page %d, in the WAL %v: bad pages %v, %v", at, bad, inWAL, c.Bad, err)
		}
	}
	t.Logf("%d pages compared, %d damaged ones came from the WAL", compared, back)
	if back == 0 {
		t.Error("none came from the WAL")
	}
}

// scrubBetween does anything, and scrubs now and then.
func (s *stray) scrubBetween(seed uint64) (did []string) {
	s.t.Helper()
	for range 1 + s.random.IntN(16) {
		did = append(did, s.anything())
		if s.random.IntN(2) > 0 {
			continue
		}
		if done, err := s.table.Scrub(s.t.Context(), ScrubOptions{}); err != nil || len(done.Bad) > 0 {
			s.t.Fatalf("seed %d, after %v: bad pages %v, %v", seed, did, done.Bad, err)
		}
		did = append(did, "scrub")
	}
	return did
}

// No page is called damaged while the table grows and shrinks, and everybody checkpoints and reads at once.
func TestScrubBesideEverybody(t *testing.T) {
	scrubs := 30
	if raceEnabled {
		scrubs = 8
	}
	s := newShrinking(t, 1)
	stop := s.everybody()
	defer stop()
	for n := range scrubs {
		if done, err := s.table.Scrub(t.Context(), ScrubOptions{}); err != nil || len(done.Bad) > 0 {
			t.Fatalf("scrub %d: bad pages %v, %v", n, done.Bad, err)
		}
	}
	stop()
	settleOwned(t, s.table)
	scrubClean(t, s.table)
}

// everybody writes, checkpoints and reads, we and others, until they are stopped, and have.
func (s *stray) everybody() (stop func()) {
	t := s.t
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	whole := context.WithoutCancel(ctx) // what has begun ends, or a transaction is left open
	var others sync.WaitGroup
	again := func(what string, do func() error) {
		others.Go(func() {
			for ctx.Err() == nil {
				if err := do(); err != nil && ctx.Err() == nil && !errors.Is(err, ErrBusy) {
					t.Errorf("%s: %v", what, err)
					return
				}
			}
		})
	}
	rows := 150
	again("write", func() error {
		rows = (rows + 37) % 400
		return s.table.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "DELETE FROM t WHERE id > ?", rows)
			if err == nil {
				_, err = tx.ExecContext(ctx, `WITH RECURSIVE c(n) AS (SELECT (SELECT count(*) + 1 FROM t) UNION ALL SELECT n+1 FROM c WHERE n < ?)
					INSERT OR REPLACE INTO t SELECT n, randomblob(200) FROM c`, rows)
			}
			return err
		})
	})
	again("checkpoint", func() error { _, err := s.table.Checkpoint(ctx); return err })
	for _, work := range []string{"PRAGMA wal_checkpoint(PASSIVE)", "UPDATE t SET v = randomblob(200) WHERE id = 3"} {
		c, err := connect(t.Context(), s.path, openOptions{wait: time.Second})
		must(t, err)
		t.Cleanup(func() { must(t, c.close()) })
		again(work, func() error { return c.exec(whole, work) })
	}
	reader, err := connect(t.Context(), s.path, openOptions{readOnly: true})
	must(t, err)
	t.Cleanup(func() { must(t, reader.close()) })
	again("read", func() error {
		err := reader.hold(whole)
		if err == nil {
			err = errors.Join(reader.list(whole, new([]string), "SELECT json_group_array(hex(substr(v, 1, 1))) FROM t"), reader.letGo(whole))
		}
		return err
	})
	return func() {
		cancel()
		others.Wait()
	}
}
