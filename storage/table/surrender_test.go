package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"

	"tablekeeper/storage/ledger"
)

// In whatever order commits, checkpoints and readers of others have come: when the main file is damaged, the ledger and the WAL together
// know what every page was after the last commit, both when the files are closed in order and when the process dies before it notices.
// TABLEKEEPER_ORDERS sets how many orders are tried.
func TestDamagedInAnyOrder(t *testing.T) {
	for seed := range orders(t) {
		s := newStray(t, seed)
		var did []string
		for range 1 + s.random.IntN(12) {
			did = append(did, s.step())
		}
		truth := s.truth()
		how, partly := s.damage()
		did = append(did, how)
		if err := s.agree(s.copyTo(t.TempDir()), truth, nil); err != nil {
			t.Fatalf("seed %d, killed after %v: %v", seed, did, err)
		}
		s.table.Suspect(t.Context(), nil, errors.New("test"))
		must(t, s.table.Detach(t.Context()))
		found := s.table.Findings()
		if err := s.agree(s.path, truth, found.Carried); err != nil {
			t.Fatalf("seed %d, closed after %v: %v", seed, did, err)
		}
		// Of a page that still looks like one it cannot be told whether it was damaged before or after the next version was made.
		if found.ShortWAL || len(found.Carried) > partly {
			t.Fatalf("seed %d, closed after %v: %+v", seed, did, found)
		}
		s.release()
		must(t, s.table.Close())
	}
}

// A page is damaged and then written to. If SQLite made the new version from the damaged one, it has taken the damage over, and its sum is
// right all the same: it must not pass for sound. If the old one was still in memory, the new version is sound, and must not be lost.
func TestDamageThatIsCarriedOver(t *testing.T) {
	for name, tc := range map[string]carriedOver{
		"one bit, read again":   {false, []byte{1}, true},
		"one bit, in memory":    {true, []byte{1}, false},
		"20 bytes, read again":  {false, bytes.Repeat([]byte{7}, 20), true},
		"20 bytes, in memory":   {true, bytes.Repeat([]byte{7}, 20), true}, // it cannot be told
		"whole page, in memory": {true, make([]byte, 4096), false},
	} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, killed %v", name, killed), func(t *testing.T) { tc.run(t, killed) })
		}
	}
}

type carriedOver struct {
	warm    bool
	damage  []byte
	carried bool
}

func (tc carriedOver) run(t *testing.T, killed bool) {
	s := newStray(t, 1)
	defer func() { must(t, s.table.Close()) }()
	const mark = "a row that stays as it is, in the same page as another one that is written to"
	writeOwned(t, s.table, "UPDATE t SET v = ? WHERE id = 41", mark)
	settleOwned(t, s.table)
	if !tc.warm {
		must(t, s.table.Detach(t.Context()))
		must(t, s.table.Attach(t.Context(), AttachOptions{}))
	}
	file, err := os.ReadFile(s.path)
	must(t, err)
	at := bytes.Index(file, []byte(mark)) + 30
	page := uint32(at/4096 + 1)
	switch {
	case len(tc.damage) == 1:
		scribble(t, s.path, int64(at), []byte{file[at] ^ 1})
	case len(tc.damage) == 4096:
		scribble(t, s.path, int64(page-1)*4096, tc.damage)
	default:
		scribble(t, s.path, int64(at), tc.damage)
	}
	writeOwned(t, s.table, "UPDATE t SET v = randomblob(200) WHERE id = 42")
	path := s.path
	if killed {
		path = s.copyTo(t.TempDir())
	}
	s.table.Suspect(t.Context(), nil, errors.New("test"))
	must(t, s.table.Detach(t.Context()))
	c, err := CompareLedger(t.Context(), path)
	must(t, err)
	if got := slices.Contains(c.Bad, page); got != tc.carried {
		t.Errorf("page %d is bad: %v, of %v", page, got, c.Bad)
	}
	if got := slices.Contains(s.table.Findings().Carried, page); got != tc.carried {
		t.Errorf("page %d is found: %v", page, got)
	}
}

// The WAL is removed while nobody has the table open, with commits in it that had not been moved. They cannot be had back: that is said, until
// whoever opens the table knows.
func TestTheWALIsGone(t *testing.T) {
	for _, staged := range []bool{true, false} {
		t.Run(fmt.Sprintf("staged %v", staged), func(t *testing.T) {
			s := newStray(t, 2)
			defer func() { must(t, s.table.Close()) }()
			s.hold() // so that staging is all that happens
			writeOwned(t, s.table, "UPDATE t SET v = 'lost' WHERE id = 7")
			if staged {
				_, err := s.table.Expect(t.Context())
				must(t, err)
			}
			path := s.copyTo(t.TempDir())
			must(t, os.Remove(path+"-wal"))
			s.release()
			c, err := CompareLedger(t.Context(), path)
			must(t, err)
			if c.Short != staged || len(c.Bad) > 0 || c.Certain {
				t.Errorf("%+v", c)
			}
			must(t, ledgerIsOf(path))
			_, err = Open(t.Context(), path, quietOwned)
			var found *damage
			if is := errors.As(err, &found) && found.Cause == CauseWAL; is != staged {
				t.Fatalf("%v", err)
			}
			if !staged {
				return // nothing tells
			}
			opts, reported := quietOwned, make(chan Report, 1)
			opts.OnCorrupt = func(_ context.Context, r Report) { reported <- r }
			table := openOwned(t, path, opts)
			if r := <-reported; r.Cause != CauseWAL {
				t.Fatalf("%+v", r)
			}
			must(t, table.Detach(t.Context()))
			must(t, table.Attach(t.Context(), AttachOptions{LossTold: true}))
			if n := ownedInt(t, table, "SELECT count(*) FROM t WHERE v = 'lost'"); n != 0 {
				t.Error("the row is there")
			}
			settleOwned(t, table)
			scrubClean(t, table)
		})
	}
}

// ledgerIsOf has the ledger of a table that was copied say that it is of the copy.
func ledgerIsOf(path string) error {
	id, err := identify(path)
	if err != nil {
		return err
	}
	l, err := ledger.Open(ledgerPath(path), nil)
	if err != nil {
		return err
	}
	return errors.Join(l.Rebind(id.Ino), l.Close())
}

// The main file is damaged and the WAL is, too: what cannot be read any more is known to be lost.
func TestAShortWALIsFound(t *testing.T) {
	s := newStray(t, 3)
	defer func() { must(t, s.table.Close()) }()
	writeOwned(t, s.table, "UPDATE t SET v = randomblob(200) WHERE id = 7")
	writeOwned(t, s.table, "UPDATE t SET v = randomblob(200) WHERE id = 90")
	truth := s.truth()
	scribble(t, s.path, 0, make([]byte, 100))
	scribble(t, s.path+"-wal", walHeaderSize+2*(walFrameSize+4096)-1000, bytes.Repeat([]byte{9}, 50)) // the second frame
	s.table.Suspect(t.Context(), nil, errors.New("test"))
	must(t, s.table.Detach(t.Context()))
	if found := s.table.Findings(); !found.ShortWAL || found.Settled {
		t.Errorf("%+v", found)
	}
	c, err := CompareLedger(t.Context(), s.path)
	must(t, err)
	for i, sum := range c.Sums {
		if ledger.Sum(truth[i]) == sum {
			continue
		}
		if !slices.Contains(c.Bad, uint32(i+1)) {
			t.Errorf("page %d is lost, and passes for sound", i+1)
		}
	}
	if !slices.Contains(c.Bad, 1) {
		t.Errorf("bad pages %v", c.Bad)
	}
}

// fullDisk has no space while it is full.
type fullDisk struct {
	ledger.Disk
	full bool
}

type fullFile struct {
	ledger.File
	disk *fullDisk
}

func (d *fullDisk) Open(name string) (ledger.File, error) {
	f, err := d.Disk.Open(name)
	return fullFile{f, d}, err
}

func (d *fullDisk) Create(name string) (ledger.File, error) {
	if d.full {
		return nil, syscall.ENOSPC
	}
	return d.Disk.Create(name)
}

func (f fullFile) WriteAt(b []byte, off int64) (int, error) {
	if f.disk.full {
		return 0, syscall.ENOSPC
	}
	return f.File.WriteAt(b, off)
}

// The ledger cannot be written: the table stays as it is, so that what is only in its WAL is not lost, and is closed as soon as it can be.
func TestDetachOnAFullDisk(t *testing.T) {
	s := newStray(t, 4)
	defer func() { must(t, s.table.Close()) }()
	writeOwned(t, s.table, "UPDATE t SET v = randomblob(200) WHERE id = 7")
	truth := s.truth()
	scribble(t, s.path, 0, make([]byte, 100))
	s.table.Suspect(t.Context(), nil, errors.New("test"))
	session := s.table.gate.current()
	disk := &fullDisk{Disk: ledger.OS(), full: true}
	must(t, session.ledger.Close())
	var err error
	session.ledger, err = ledger.Open(ledgerPath(s.path), disk)
	must(t, err)
	if err := s.table.Detach(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("detached: %v", err)
	}
	if info, err := os.Stat(s.path + "-wal"); err != nil || info.Size() == 0 {
		t.Fatalf("the WAL: %v, %v", info, err)
	}
	disk.full = false
	must(t, s.table.Detach(t.Context()))
	must(t, s.agree(s.path, truth, nil))
}
