package ledger

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

var (
	genA = Generation{7, 70}
	genB = Generation{8, 81}
)

func noGrowth(uint32) (uint32, error) { return 0, errors.New("no page grows in this test") }

func create(t *testing.T, opts Options) (*Ledger, string) {
	t.Helper()
	if opts.PageSize == 0 {
		opts.PageSize = 4096
	}
	path := filepath.Join(t.TempDir(), "x.ledger")
	l, err := Create(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, path
}

func reopen(t *testing.T, path string) *Ledger {
	t.Helper()
	l, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// accepted lists which of the sums 1..9 the ledger accepts for a page.
func accepted(l *Ledger, page uint32) []uint32 {
	var out []uint32
	for sum := uint32(1); sum <= 9; sum++ {
		if l.Accepts(page, sum) {
			out = append(out, sum)
		}
	}
	return out
}

func wantAccepted(t *testing.T, l *Ledger, page uint32, want ...uint32) {
	t.Helper()
	if got := accepted(l, page); !slices.Equal(got, want) {
		t.Fatalf("page %d: accepts %v, want %v", page, got, want)
	}
}

func TestOldAndStagedSumsAreAcceptedUntilSettled(t *testing.T) {
	l, path := create(t, Options{Sums: Sums{1, 2, 3}})
	must(t, l.Stage(genA, 1, []Frame{{Page: 2, Sum: 4}, {Page: 3, Sum: 5, Pages: 3}}))
	must(t, l.Stage(genA, 3, []Frame{{Page: 2, Sum: 6, Pages: 3}}))
	for _, l := range []*Ledger{l, reopen(t, path)} {
		wantAccepted(t, l, 1, 1)
		wantAccepted(t, l, 2, 2, 4, 6)
		wantAccepted(t, l, 3, 3, 5)
	}
	must(t, l.Settle(noGrowth))
	for _, l := range []*Ledger{l, reopen(t, path)} {
		wantAccepted(t, l, 2, 6)
		wantAccepted(t, l, 3, 5)
		if gen, staged := l.Position(); gen != genA || staged != 3 || len(l.Staged()) != 0 {
			t.Fatalf("position %v %d", gen, staged)
		}
	}
}

func TestShrinkAndGrow(t *testing.T) {
	l, path := create(t, Options{Sums: Sums{1, 2, 3, 4, 5}})
	// One transaction cuts the table to two pages, the next brings it to five; page 4 is never written.
	must(t, l.Stage(genA, 1, []Frame{{Page: 1, Sum: 6, Pages: 2}, {Page: 3, Sum: 7}, {Page: 5, Sum: 8, Pages: 5}}))
	if n, _ := l.Certain(); n != 2 || !l.Accepts(3, 12345) || l.Accepts(2, 12345) {
		t.Fatalf("%d pages are certain while a cut is staged", n)
	}
	var asked []uint32
	must(t, l.Settle(func(page uint32) (uint32, error) { asked = append(asked, page); return 9, nil }))
	if !slices.Equal(asked, []uint32{4}) {
		t.Fatalf("asked for pages %v", asked)
	}
	for _, l := range []*Ledger{l, reopen(t, path)} {
		if got := l.Sums(); !slices.Equal(got, Sums{6, 2, 7, 9, 8}) {
			t.Fatalf("sums %v", got)
		}
	}
	must(t, l.Stage(genA, 4, []Frame{{Page: 1, Sum: 1, Pages: 1}}))
	must(t, l.Settle(noGrowth))
	if got := reopen(t, path).Sums(); !slices.Equal(got, Sums{1}) {
		t.Fatalf("sums after the cut %v", got)
	}
}

func TestGenerations(t *testing.T) {
	l, path := create(t, Options{Sums: Sums{1}})
	must(t, l.Stage(genA, 1, []Frame{{Page: 1, Sum: 2, Pages: 1}}))
	if err := l.Stage(genB, 1, nil); !errors.Is(err, ErrGeneration) {
		t.Fatalf("a new generation over unsettled frames: %v", err)
	}
	must(t, l.Settle(noGrowth))
	must(t, l.Stage(genB, 1, nil))
	if gen, _ := reopen(t, path).Position(); gen != genB {
		t.Fatalf("generation %v was not kept", gen)
	}
	must(t, l.Stage(genB, 1, []Frame{{Page: 1, Sum: 3, Pages: 1}}))
	if err := l.Stage(genB, 3, []Frame{{Page: 1, Sum: 3}}); err == nil {
		t.Fatal("a frame was left out and nobody minded")
	}
	wantAccepted(t, reopen(t, path), 1, 2, 3)
}

func TestUnprovenPages(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	l, path := create(t, Options{Sums: make(Sums, 10), Unproven: true, Now: at})
	must(t, l.Stage(genA, 1, []Frame{{Page: 4, Sum: 2, Pages: 10}}))
	must(t, l.Settle(noGrowth))
	for _, l := range []*Ledger{l, reopen(t, path)} {
		if n, since := l.Unproven(); n != 9 || !since.Equal(at) || l.Proven(3) || !l.Proven(4) {
			t.Fatalf("%d pages unproven since %v", n, since)
		}
	}
	must(t, l.Fold(Clean{WALInode: 5}))
	l = reopen(t, path)
	if n, _ := l.Unproven(); n != 9 || l.Clean() != (Clean{WALInode: 5}) {
		t.Fatalf("after folding: %d unproven, clean %v", n, l.Clean())
	}
	must(t, l.Stage(genA, 1, nil))
	if c := reopen(t, path).Clean(); c != (Clean{}) {
		t.Fatalf("still clean after a new generation: %v", c)
	}
}

// What a table was like just before it was closed is known beside its place in the WAL, until something happens to it again.
func TestClosing(t *testing.T) {
	l, path := create(t, Options{Sums: Sums{1, 2, 3}})
	must(t, l.Stage(genA, 1, []Frame{{Page: 1, Sum: 9, Pages: 3}, {Page: 2, Sum: 8, Pages: 3}}))
	clean := Clean{MainTime: 7}
	if err := l.Closing(clean); err == nil {
		t.Fatal("frames are not settled, and nobody minds")
	}
	must(t, l.Settle(noGrowth))
	must(t, l.Closing(clean))
	l = reopen(t, path)
	if gen, staged := l.Position(); l.Clean() != clean || gen != genA || staged != 2 {
		t.Fatalf("clean %v at frame %d of %v", l.Clean(), staged, gen)
	}
	must(t, l.Stage(genA, 3, []Frame{{Page: 1, Sum: 4, Pages: 3}}))
	if c := reopen(t, path).Clean(); c != (Clean{}) {
		t.Fatalf("still clean after another frame: %v", c)
	}
	must(t, l.Settle(noGrowth))
	must(t, l.Closing(clean))
	must(t, l.Stage(genB, 1, nil))
	if c := reopen(t, path).Clean(); c != (Clean{}) {
		t.Fatalf("still clean after a new generation: %v", c)
	}
}

func TestReadopt(t *testing.T) {
	l, path := create(t, Options{Sums: Sums{1, 2, 3}})
	must(t, l.Stage(genA, 1, []Frame{{Page: 1, Sum: 9}}))
	must(t, l.Readopt(map[uint32]uint32{2: 5, 4: 6}, 4, genB, []Frame{{Page: 3, Sum: 7, Pages: 4}}, time.UnixMilli(9)))
	l = reopen(t, path)
	wantAccepted(t, l, 1, 1)
	wantAccepted(t, l, 2, 5)
	wantAccepted(t, l, 3, 3, 7)
	wantAccepted(t, l, 4, 6)
	if n, _ := l.Unproven(); n != 2 || !l.InFlight(3) || l.InFlight(1) {
		t.Fatalf("%d unproven", n)
	}
}

func TestDamagedLedgerIsRefused(t *testing.T) {
	l, path := create(t, Options{Sums: Sums{1, 2, 3}})
	must(t, l.Stage(genA, 1, []Frame{{Page: 1, Sum: 9, Pages: 3}}))
	whole, err := os.ReadFile(path)
	must(t, err)
	for bit := range len(whole) * 8 {
		b := slices.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		must(t, os.WriteFile(path, b, 0o600))
		l, err := Open(path, nil)
		switch {
		case errors.Is(err, ErrDamaged) || errors.Is(err, ErrNewer):
		case err != nil:
			t.Fatalf("bit %d: %v", bit, err)
		case !l.LostTail():
			t.Fatalf("bit %d was flipped and nobody saw it", bit)
		default:
			must(t, l.Close())
		}
	}
	if _, err := Open(path+"x", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("missing: %v", err)
	}
}

// The settled ledger costs its header and four bytes a page.
func TestSizeOnDisk(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	l, err := Create("x", Options{Disk: newMemDisk(rng), PageSize: 4096, Sums: make(Sums, 1000)})
	must(t, err)
	largest := int64(0)
	for n := uint32(1); n < 2500; n++ {
		must(t, l.Stage(genA, n, []Frame{{Page: n%1000 + 1, Sum: n, Pages: 1000}}))
		must(t, l.Settle(noGrowth))
		largest = max(largest, l.size)
	}
	if largest < logSlack || largest > headerSize+4000+logSlack+2000+200 {
		t.Fatalf("the log grew to %d bytes", largest)
	}
	must(t, l.Fold(Clean{MainTime: 1}))
	if l.size != headerSize+4000 {
		t.Fatalf("folded: %d bytes", l.size)
	}
}

func TestRangesStayFew(t *testing.T) {
	var s pageSet
	for p := uint32(1); p <= 10_000; p += 2 {
		s.add(p)
	}
	runs := s.ranges(maxRanges)
	if len(runs) > maxRanges || runs[0].first != 1 || runs[len(runs)-1].last != 9999 {
		t.Fatalf("%d ranges", len(runs))
	}
	var again pageSet
	again.addRanges(runs, 10_000)
	for p := uint32(1); p <= 10_000; p += 2 {
		if !again.has(p) {
			t.Fatalf("page %d lost its mark", p)
		}
	}
}

func FuzzLedger(f *testing.F) {
	im := image{pageSize: 512, inode: 3, sums: Sums{1, 2}, unproven: []pageRange{{1, 2}}}
	b := im.append(nil)
	f.Add(b)
	r := record{kind: kindStage, gen: genA, first: 1, frames: []Frame{{1, 5, 2}}}
	b, chain := r.append(b, chainOf(b))
	r = record{kind: kindSettle, gen: genA, first: 1, frames: []Frame{{2, 6, 0}}}
	b, _ = r.append(b, chain)
	f.Add(b)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		var l Ledger
		if err := l.parse(b); err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
				t.Fatal(err)
			}
			return
		}
		l.im.unproven = l.unproven.ranges(maxRanges)
		var again Ledger
		if err := again.parse(l.im.append(nil)); err != nil {
			t.Fatalf("written again: %v", err)
		}
		if !slices.Equal(again.im.sums, l.im.sums) {
			t.Fatal("the sums changed")
		}
	})
}

// FuzzRecords reads logs whose checksums are right, which random bytes never are.
func FuzzRecords(f *testing.F) {
	f.Add(byte(1), uint32(7), uint32(1), uint32(1), uint32(9), uint32(2), uint32(1))
	f.Add(byte(1), uint32(7), uint32(1), uint32(1<<31), uint32(9), uint32(1<<31), uint32(0))
	f.Add(byte(2), uint32(7), uint32(0), uint32(9), uint32(9), uint32(2), uint32(3))
	f.Fuzz(func(t *testing.T, kind byte, salt, first, page, sum, pages, upTo uint32) {
		im := image{pageSize: 512, sums: Sums{1, 2}}
		b := im.append(nil)
		chain := chainOf(b)
		r := record{kind: kind, gen: Generation{salt, 1}, first: first, frames: []Frame{{page, sum, pages}}}
		b, chain = r.append(b, chain)
		r = record{kind: kindSettle, gen: r.gen, first: upTo, frames: r.frames}
		b, _ = r.append(b, chain)
		var l Ledger
		if err := l.parse(b); err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
	})
}

// What Final foretells is what Settle makes.
func TestFinalIsWhatSettleMakes(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		l, _ := create(t, Options{Sums: Sums{11, 12, 13, 14}})
		size := uint32(4)
		var all []Frame
		for range random.IntN(6) {
			size = max(1, size+uint32(random.IntN(3))-1)
			for range random.IntN(3) {
				all = append(all, Frame{Page: 1 + random.Uint32N(size), Sum: random.Uint32()})
			}
			all = append(all, Frame{Page: size, Sum: random.Uint32(), Pages: size})
		}
		staged := random.IntN(len(all) + 1)
		must(t, l.Stage(genA, 1, all[:staged]))
		want := l.Final(uint32(staged), all[staged:])
		early := l.Final(0, nil)
		must(t, l.Stage(genA, uint32(staged)+1, all[staged:]))
		if !slices.Equal(want, l.Final(1000, nil)) || !slices.Equal(early, l.Sums()) {
			t.Fatal("what is staged and what follows differ")
		}
		must(t, l.Settle(noGrowth))
		if !slices.Equal(want, l.Sums()) {
			t.Fatalf("%v became %v, not %v", all, l.Sums(), want)
		}
	}
}

// A page that is distrusted has no content that is right, in flight or not, and stays so after a crash, until it is written again.
func TestDistrust(t *testing.T) {
	l, path := create(t, Options{Sums: Sums{11, 12, 13}})
	must(t, l.Stage(genA, 1, []Frame{{Page: 2, Sum: 22, Pages: 3}}))
	must(t, l.Distrust([]uint32{3, 2, 3}))
	must(t, l.Distrust([]uint32{2}))
	for _, l := range []*Ledger{l, reopen(t, path)} {
		if !l.Accepts(1, 11) || l.Accepts(2, 12) || l.Accepts(2, 22) || l.Accepts(3, 13) {
			t.Errorf("%v", l.Final(9, nil))
		}
	}
	must(t, l.Stage(genA, 2, []Frame{{Page: 2, Sum: 32, Pages: 3}}))
	must(t, l.Settle(noGrowth))
	if !l.Accepts(2, 32) || l.Accepts(2, 22) {
		t.Errorf("%v", l.Sums())
	}
}
