package ledger

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestCorrect(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{512, 4096, 65536} {
		page := make([]byte, size)
		for i := range page {
			page[i] = byte(random.Uint32())
		}
		good, sum := bytes.Clone(page), Sum(page)
		step := max(size*8/4096, 1)
		for bit := 0; bit < size*8; bit += step {
			page[bit/8] ^= 1 << (bit % 8)
			if at, ok := Correct(page, sum); !ok || at != int64(bit) || !bytes.Equal(page, good) {
				t.Fatalf("bit %d of %d: %v, %v", bit, size*8, at, ok)
			}
		}
		if _, ok := Correct(page, sum); ok {
			t.Error("a sound page was corrected")
		}
		// Damage of more bits is hardly ever taken for one bit of another page.
		wrong := 0
		for range 1000 {
			copy(page, good)
			for range 2 + random.IntN(20) {
				bit := random.IntN(size * 8)
				page[bit/8] ^= 1 << (bit % 8)
			}
			damaged := bytes.Clone(page)
			switch _, ok := Correct(page, sum); {
			case ok && !bytes.Equal(page, good):
				wrong++
			case !ok && !bytes.Equal(page, damaged):
				t.Fatal("a page that cannot be corrected was changed")
			}
		}
		if wrong > 2 {
			t.Errorf("%d of 1000 were corrected into something else", wrong)
		}
	}
}
