package table

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"tablekeeper/storage/ledger"
)

// A bit of page 5 was flipped in the main file, and the WAL has newer versions of this page and of another one.
func TestWhetherANewerPageWasMadeFromAFlippedOne(t *testing.T) {
	const size, at, empty = 4096, 3000, 1000 // empty: among zeros
	random := rand.New(rand.NewPCG(1, 2))
	sound := make([]byte, size)
	for i := 2000; i < size; i++ {
		sound[i] = byte(random.Uint32())
	}
	sound[0], sound[50] = 13, 4 // a leaf; a number among zeros that looks like the flip
	other := make([]byte, size)
	put := func(page []byte, at int, content []byte) []byte {
		page = bytes.Clone(page)
		copy(page[at:], content)
		return page
	}
	flipped := func(page []byte, at int) []byte { return put(page, at, []byte{page[at] ^ 4}) }
	row := sound[at-50 : at+50]
	carried := flipped(sound, at)[at-50 : at+50]
	without := put(sound, at-50, make([]byte, 100))
	for name, c := range map[string]struct {
		at          int
		made, other []byte
		want        bool
	}{
		"a row was added":                                {at, put(sound, 1500, []byte("row")), other, false},
		"a row was added to the damaged page":            {at, put(flipped(sound, at), 1500, []byte("row")), other, true},
		"the row has moved":                              {at, put(without, 1500, row), other, false},
		"the damaged row has moved":                      {at, put(without, 1500, carried), other, true},
		"the row was copied, and one of them damaged":    {at, put(sound, 1500, carried), other, true},
		"the row went to another page":                   {at, without, put(other, 700, row), false},
		"the damaged row went to another page":           {at, without, put(other, 700, carried), true},
		"the row is in two pages, and one is damaged":    {at, put(without, 1500, carried), put(other, 700, row), true},
		"the row is gone":                                {at, without, other, true},
		"zeros stay zeros":                               {empty, put(sound, 1500, []byte("row")), other, false},
		"what was flipped among zeros stays":             {empty, put(flipped(sound, empty), 1500, []byte("row")), other, true},
		"what was flipped among zeros has moved":         {empty, put(sound, 500, []byte{4}), other, true},
		"the zeros were written to":                      {empty, put(sound, empty-20, row), other, true},
		"the last bytes":                                 {size - 1, put(sound, 1500, []byte("row")), other, false},
		"the first bytes, by which it is no page at all": {0, sound, other, false},
	} {
		t.Run(name, func(t *testing.T) {
			o := overlayOf(map[uint32][]byte{5: c.made, 6: c.other})
			if got := o.carries(5, flipped(sound, c.at), c.made, []uint32{1, ledger.Sum(sound)}); got != c.want {
				t.Errorf("carries = %v, want %v", got, c.want)
			}
		})
	}
}

// overlayOf is a WAL with one frame for each page.
func overlayOf(pages map[uint32][]byte) *overlay {
	var file bytes.Buffer
	o := &overlay{newest: map[uint32]int{}}
	file.Write(make([]byte, walHeaderSize))
	for p, content := range pages {
		o.newest[p] = len(o.frames)
		o.frames = append(o.frames, ledger.Frame{Page: p, Sum: ledger.Sum(content)})
		o.pageSize = int64(len(content))
		file.Write(slices.Concat(make([]byte, walFrameSize), content))
	}
	o.file = bytes.NewReader(file.Bytes())
	return o
}
