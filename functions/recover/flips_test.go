package recover

import (
	"bytes"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
)

// injuries that a page can have and still be there. old is the file as it was some commits ago.
var pageInjuries = []struct {
	name            string
	thorough, quick int // how many
	do              func(image, old []byte, random *rand.Rand)
}{
	{"one bit", 1000, 60, func(image, _ []byte, random *rand.Rand) { flipBits(image, random, 1) }},
	{"three bits", 1000, 60, func(image, _ []byte, random *rand.Rand) { flipBits(image, random, 3) }}, // which the sum alone cannot tell
	{"zeroed", 100, 10, func(image, _ []byte, random *rand.Rand) { clear(anyPage(image, random)) }},
	{"torn", 100, 10, func(image, old []byte, random *rand.Rand) {
		page := random.IntN(min(len(image), len(old)) / 4096)
		copy(image[page*4096+512:(page+1)*4096], old[page*4096+512:])
	}},
	{"swapped", 100, 10, func(image, _ []byte, random *rand.Rand) {
		a, b := anyPage(image, random), anyPage(image, random)
		kept := bytes.Clone(a)
		copy(a, b)
		copy(b, kept)
	}},
	{"stale", 100, 10, func(image, old []byte, random *rand.Rand) {
		page := random.IntN(min(len(image), len(old)) / 4096)
		copy(image[page*4096:(page+1)*4096], old[page*4096:])
	}},
}

func anyPage(image []byte, random *rand.Rand) []byte {
	page := random.IntN(len(image) / 4096)
	return image[page*4096 : (page+1)*4096]
}

// flipBits flips so many bits of one page.
func flipBits(image []byte, random *rand.Rand, n int) {
	page := anyPage(image, random)
	for _, bit := range random.Perm(4096 * 8)[:n] {
		page[bit/8] ^= 1 << (bit % 8)
	}
}

// Random damage, to one page at a time, of a table that is unchanged since its backup: each is found by the scrub, and repaired with nothing
// lost: the content has the hash that it had. With RECOVER_TEST_THOROUGH=1 a thousand flips and more.
func TestDamagedPagesAreRepaired(t *testing.T) {
	w := newWard(t, 300)
	old, err := os.ReadFile(w.Path(owned))
	w.Must(err)
	w.write("UPDATE items SET label = 'now ' || id, body = randomblob(200)")
	w.settle()
	good := w.hash()
	w.Backup(owned)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	for _, injury := range pageInjuries {
		n := injury.quick
		switch {
		case os.Getenv("RECOVER_TEST_THOROUGH") != "":
			n = injury.thorough
		case functionstest.Race:
			n /= 5
		}
		found, by := 0, map[string]int{}
		for done := 0; done < n; {
			image, err := os.ReadFile(w.Path(owned))
			w.Must(err)
			damaged := bytes.Clone(image)
			injury.do(damaged, old, random)
			if bytes.Equal(image, damaged) {
				continue // it was swapped with itself, or has not changed since
			}
			done++
			w.Jump(perWindow)
			want := w.damage(image, damaged)
			bad := w.scrub()
			entry, err := w.next()
			if slices.Equal(bad, want) || len(bad) == 0 && entry.BadPages == len(want) { // the look at the first page may have been faster
				found++
			}
			if err != nil || entry.Status != functions.Repaired || entry.Lost != "" {
				t.Fatalf("seed %d, %s %d, pages %v: %v: %+v", seed, injury.name, done, want, err, entry)
			}
			if by[entry.Rung]++; w.hash() != good {
				t.Fatalf("seed %d, %s %d, pages %v: the content is another one", seed, injury.name, done, want)
			}
			if entry.Rung == RungReindex { // the pages have moved
				w.Backup(owned)
			}
			for _, q := range w.quarantined() { // a thousand copies are more than a test needs
				w.Must(os.RemoveAll(q.Path))
			}
		}
		t.Logf("%s: %d of %d found, all repaired with nothing lost: %v", injury.name, found, n, by)
		if found != n {
			t.Errorf("%s: not all were found by the scrub, page by page", injury.name)
		}
	}
	w.sound()
}

// damage writes the pages that differ, and gives their numbers.
func (w *ward) damage(image, damaged []byte) (pages []uint32) {
	w.T.Helper()
	for at := 0; at < len(image); at += 4096 {
		if !bytes.Equal(image[at:at+4096], damaged[at:at+4096]) {
			w.scribble(int64(at), damaged[at:at+4096])
			pages = append(pages, uint32(at/4096+1))
		}
	}
	return pages
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
