package ledger

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// world is a table without SQLite: a main file whose pages are numbers (their own sums), a WAL, and the ledger, on a disk that
// fails or loses power at a chosen call.
type world struct {
	rng     *rand.Rand
	disk    *memDisk
	ledger  *Ledger
	main    []uint32 // synced
	moved   map[uint32]uint32
	wal     []Frame // committed, and as durable as synchronous=FULL makes them
	gen     Generation
	next    uint32 // every version of a page is a new number
	known   uint32 // frames staged
	filled  int    // frames moved
	lenient int    // reopenings that could prove nothing
}

func newWorld(seed uint64) (*world, error) {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := &world{rng: rng, disk: newMemDisk(rng), next: 100, gen: Generation{1, 1}, moved: map[uint32]uint32{}}
	w.main = []uint32{w.version(), w.version(), w.version()}
	l, err := Create("x", Options{Disk: w.disk, PageSize: 512, Sums: slices.Clone(w.main)})
	w.ledger = l
	return w, err
}

func (w *world) version() uint32 { w.next++; return w.next }

// commit appends a transaction to the WAL. It may grow or shrink the table.
func (w *world) commit() {
	if len(w.wal) > 0 && w.known == uint32(len(w.wal)) && w.settledAll() && w.rng.IntN(2) == 0 {
		w.gen, w.wal, w.known, w.filled = Generation{w.gen.Salt1 + 1, w.rng.Uint32()}, nil, 0, 0
	}
	size := w.size()
	target := max(1, size+w.rng.IntN(4)-1)
	var frames []Frame
	for p := 1; p <= target; p++ {
		if p > size || w.rng.IntN(3) == 0 {
			frames = append(frames, Frame{Page: uint32(p), Sum: w.version()})
		}
	}
	if len(frames) == 0 {
		frames = []Frame{{Page: 1, Sum: w.version()}}
	}
	frames[len(frames)-1].Pages = uint32(target)
	w.wal = append(w.wal, frames...)
}

func (w *world) settledAll() bool {
	gen, staged := w.ledger.Position()
	return gen == w.gen && staged == uint32(len(w.wal)) && len(w.ledger.Staged()) == 0
}

func (w *world) size() int {
	for _, f := range slices.Backward(w.wal) {
		if f.Pages > 0 {
			return int(f.Pages)
		}
	}
	return len(w.main)
}

// checkpoint is what storage/table does: ledger first, then the main file, then the ledger again.
func (w *world) checkpoint() error {
	if err := w.ledger.Stage(w.gen, w.known+1, w.wal[w.known:]); err != nil {
		return err
	}
	w.known = uint32(len(w.wal))
	// SQLite writes the newest version of each page, once.
	newest := map[uint32]uint32{}
	for _, f := range w.wal {
		newest[f.Page] = f.Sum
	}
	for p := uint32(1); p <= uint32(w.size()); p++ {
		if sum, ok := newest[p]; ok {
			if err := w.disk.step(); err != nil {
				return err
			}
			w.moved[p] = sum
		}
	}
	w.sync(1)
	if n := w.size(); n < len(w.main) {
		w.main = w.main[:n]
	}
	w.filled = len(w.wal)
	return w.ledger.Settle(func(p uint32) (uint32, error) { return w.main[p-1], nil })
}

// partial is a checkpoint that stops at a commit, for a reader's sake, while others commit. Nothing is synced.
func (w *world) partial() error {
	if err := w.ledger.Stage(w.gen, w.known+1, w.wal[w.known:]); err != nil {
		return err
	}
	w.known = uint32(len(w.wal))
	if len(w.ledger.Staged()) == 0 {
		return nil
	}
	mark := int(w.known) - w.rng.IntN(int(w.known)-min(w.filled, int(w.known)-1))
	for mark > w.filled && w.wal[mark-1].Pages == 0 {
		mark--
	}
	for range w.rng.IntN(3) {
		w.commit()
	}
	newest := map[uint32]int{}
	for i, f := range w.wal {
		newest[f.Page] = i + 1
	}
	for p, n := range newest {
		if n > w.filled && n <= mark && int(p) <= w.size() {
			w.moved[p] = w.wal[n-1].Sum
		}
	}
	w.filled = max(w.filled, mark)
	w.ledger.Moved(w.gen, uint32(w.filled), uint32(len(w.wal)), w.wal[w.known:])
	for p, sum := range w.moved {
		if !w.ledger.Accepts(p, sum) {
			return fmt.Errorf("false alarm: page %d was moved as %d", p, sum)
		}
		if newest[p] <= w.filled && int(p) <= w.size() && w.ledger.Accepts(p, sum^1<<7) {
			return fmt.Errorf("a flip in page %d, which was moved, is missed", p)
		}
	}
	return w.check("beside a reader")
}

// sync writes each moved page with the given probability: 1 is an fsync, less is a power cut.
func (w *world) sync(chance float64) {
	for p, sum := range w.moved {
		if w.rng.Float64() < chance {
			for int(p) > len(w.main) {
				w.main = append(w.main, 0)
			}
			w.main[p-1] = sum
		}
	}
	clear(w.moved)
}

func (w *world) run(steps int) error {
	for range steps {
		w.commit()
		if err := w.ledger.Stage(w.gen, 1, nil); err != nil && !errors.Is(err, ErrGeneration) {
			return err
		}
		step := []func() error{w.checkpoint, w.partial, func() error { return nil }}[w.rng.IntN(3)]
		if err := step(); err != nil {
			return err
		}
	}
	return w.checkpoint()
}

// reopen is what storage/table does after a crash, and checks what the ledger then says.
func (w *world) reopen() error {
	w.sync(0.5)
	w.filled = 0 // SQLite keeps that in shared memory
	w.disk.reboot()
	l, err := Open("x", w.disk)
	if err != nil {
		return err
	}
	w.ledger = l
	gen, staged := l.Position()
	if l.LostTail() || gen != w.gen && len(w.wal) > 0 {
		w.lenient++
		w.known = uint32(len(w.wal))
		found := map[uint32]uint32{}
		for i, sum := range w.main {
			if want, _ := l.Settled(uint32(i + 1)); want != sum {
				found[uint32(i+1)] = sum
			}
		}
		return l.Readopt(found, uint32(len(w.main)), w.gen, w.wal, time.UnixMilli(1))
	}
	if gen == w.gen {
		w.known = staged
	}
	return w.check("after a crash")
}

func (w *world) check(when string) error {
	for i, sum := range w.main {
		p := uint32(i + 1)
		if moved, ok := w.moved[p]; ok {
			sum = moved
		}
		if !w.ledger.Accepts(p, sum) {
			return fmt.Errorf("false alarm %s: page %d holds %d", when, p, sum)
		}
	}
	return nil
}

// exact is the state after a whole checkpoint: nothing but what the main file holds is accepted.
func (w *world) exact() error {
	if !slices.Equal(w.ledger.Sums(), w.main) {
		return fmt.Errorf("settled sums %v, the file has %v", w.ledger.Sums(), w.main)
	}
	for i, sum := range w.main {
		if p := uint32(i + 1); w.ledger.InFlight(p) || w.ledger.Accepts(p, sum^1<<7) {
			return fmt.Errorf("a flip in page %d is missed", p)
		}
	}
	return nil
}

// Power is cut at write n, for every n of a run, and each time the ledger must accept what is in the main file, and only that
// once the next checkpoint is done.
func TestPowerCutAtEveryWrite(t *testing.T) {
	cuts, lenient := 0, 0
	for seed := range uint64(40) {
		for n := 1; ; n++ {
			w, err := newWorld(seed)
			must(t, err)
			w.disk.fail = w.disk.calls + n
			err = w.run(8)
			clean := err == nil
			if !clean {
				cuts++
				w.disk.dead = true
				must(t, at(seed, n, w.reopen()))
				must(t, at(seed, n, w.run(3)))
			}
			must(t, at(seed, n, w.exact()))
			lenient += w.lenient
			if clean {
				break
			}
		}
	}
	t.Logf("%d power cuts, after %d of them the end of the log was torn", cuts, lenient)
	if lenient*2 > cuts {
		t.Fatal("the ledger gave up too often")
	}
}

// Write n fails with an error, once, and the program goes on.
func TestErrorAtEveryWrite(t *testing.T) {
	for seed := range uint64(40) {
		for n := 1; ; n++ {
			w, err := newWorld(seed)
			must(t, err)
			w.disk.fail = w.disk.calls + n
			failed := false
			for range 8 {
				w.commit()
				failed = w.checkpoint() != nil || failed
				w.sync(0.3)
				must(t, at(seed, n, w.check("after an error")))
			}
			if w.checkpoint() != nil {
				failed = true
				must(t, at(seed, n, w.checkpoint()))
			}
			must(t, at(seed, n, w.exact()))
			must(t, at(seed, n, w.reopen()))
			if !failed {
				break
			}
		}
	}
}

func at(seed uint64, n int, err error) error {
	if err != nil {
		return fmt.Errorf("seed %d, write %d: %w", seed, n, err)
	}
	return nil
}
