package functions

import (
	"math/rand/v2"
	"testing"
)

// Every write but the last few is in a range that the kernel is told of, and it is told seldom.
func TestStretchHasAllWrites(t *testing.T) {
	const page, pages = 4096, 16384
	rnd := rand.New(rand.NewPCG(1, 2))
	order := make([]int64, pages)
	for i := range order {
		order[i] = int64(i)
	}
	for i := range order { // as several workers write: not quite in order
		j := min(i+rnd.IntN(300), pages-1)
		order[i], order[j] = order[j], order[i]
	}
	var s stretch
	told, waiting := 0, map[int64]bool{}
	for _, p := range order {
		if p%5 == 0 {
			continue // a free page
		}
		waiting[p] = true
		whole, enough := s.add(p*page, page)
		if !enough {
			continue
		}
		told++
		for p := range waiting {
			if p*page < whole.first || (p+1)*page > whole.end {
				t.Fatalf("page %d is not in the range from %d to %d", p, whole.first, whole.end)
			}
		}
		clear(waiting)
	}
	if want := pages * 4 / 5 * page / sendBytes; told < want-1 || told > want+1 {
		t.Errorf("the kernel is told %d times, want about %d", told, want)
	}
	if int64(len(waiting)*page) != s.bytes || s.bytes >= sendBytes {
		t.Errorf("%d bytes are untold, the stretch says %d", len(waiting)*page, s.bytes)
	}
}
