package recover

import (
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
)

// Random flips, in one page at a time, of a table that is unchanged since its backup: each is found by the scrub, and repaired with nothing
// lost. One bit, or three, which the sum alone cannot tell.
func TestFlipsAreRepaired(t *testing.T) {
	flips := 400
	if functionstest.Race {
		flips = 20
	}
	w := newWard(t, 300)
	good := w.hash()
	w.Backup(owned)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	found, repaired := 0, 0
	by := map[string]int{}
	for i := range flips {
		w.Jump(perWindow)
		info, err := os.Stat(w.Path(owned))
		w.Must(err)
		bit := random.Int64N(info.Size() * 8)
		w.flip(bit)
		if i%2 == 1 {
			page := bit / 8 / 4096 * 4096 * 8
			w.flip(page + (bit-page+11)%(4096*8))
			w.flip(page + (bit-page+5000)%(4096*8))
		}
		bad := w.scrub()
		if len(bad) == 1 && int64(bad[0]) == bit/8/4096+1 {
			found++
		}
		entry, err := w.next()
		if err != nil || entry.Status != functions.Repaired || entry.Lost != "" {
			t.Fatalf("seed %d, bit %d: %v: %+v", seed, bit, err, entry)
		}
		by[entry.Rung]++
		if w.hash() != good {
			t.Fatalf("seed %d, bit %d: the content is another one", seed, bit)
		}
		repaired++
		if entry.Rung == RungReindex { // the pages have moved
			w.Backup(owned)
		}
		for _, q := range w.quarantined() { // a thousand copies are more than a test needs
			w.Must(os.RemoveAll(q.Path))
		}
	}
	w.sound()
	t.Logf("%d of %d flips found, %d repaired with nothing lost: %v", found, flips, repaired, by)
	if found != flips {
		t.Error("not all flips were found by the scrub, one at a time")
	}
}

// Pages that are whole and yet not those that were written: swapped with another, or their own older version.
func TestSwappedAndStalePagesAreRepaired(t *testing.T) {
	w := newWard(t, 300)
	read := func(page int64) []byte {
		f, err := os.Open(w.Path(owned))
		w.Must(err)
		b := make([]byte, 4096)
		_, err = f.ReadAt(b, page*4096)
		w.Must(errors.Join(err, f.Close()))
		return b
	}
	old := read(4)
	w.write("UPDATE items SET body = randomblob(200)")
	w.settle()
	good := w.hash()
	w.Backup(owned)
	for name, damage := range map[string]func(){
		"swapped": func() {
			a, b := read(4), read(5)
			w.scribble(4*4096, b)
			w.scribble(5*4096, a)
		},
		"stale": func() { w.scribble(4*4096, old) },
	} {
		damage()
		if len(w.scrub()) == 0 {
			t.Fatalf("%s: not found", name)
		}
		entry, err := w.next()
		if err != nil || entry.Status != functions.Repaired || w.hash() != good {
			t.Fatalf("%s: %v: %+v", name, err, entry)
		}
		w.sound()
	}
}

// Pages that were written since the backup are not the backup's to give: the rest of the ladder is for them, unless they have no rows.
func TestPagesWrittenSinceTheBackup(t *testing.T) {
	w := newWard(t, 300)
	w.Backup(owned)
	w.write("UPDATE items SET label = 'since ' || id WHERE id % 3 = 0") // touches the index and many rows
	w.settle()
	good := w.hash()
	info, err := os.Stat(w.Path(owned))
	w.Must(err)
	for page := info.Size()/4096 - 1; page > 1; page-- {
		w.Jump(perWindow)
		w.scribble(page*4096+500, []byte("sixteen bytes of"))
		w.scrub()
		entry, err := w.next()
		if err != nil {
			t.Fatalf("page %d: %v: %+v", page+1, err, entry)
		}
		switch entry.Status {
		case functions.Repaired:
			if w.hash() != good {
				t.Fatalf("page %d was repaired by %s into something else", page+1, entry.Rung)
			}
		case functions.Restored:
			if entry.Lost == "" {
				t.Fatalf("nobody is told of a loss: %+v", entry)
			}
			return
		default:
			t.Fatalf("%+v", entry)
		}
	}
	t.Error("no page had rows")
}
