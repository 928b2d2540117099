package table

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tablekeeper/storage/ledger"
)

// A bit of page 2 was flipped in the main file, and the WAL has newer versions of this page and of another one.
func TestWhetherANewerPageWasMadeFromAFlippedOne(t *testing.T) {
	const mark = "some text in the middle of a row"
	sound := leafWith(t, mark)
	at := bytes.Index(sound, []byte(mark)) + 15
	number := at - 15 + len(mark)    // too short to be known again if what is beside it was changed
	const row, gap = 4096 - 150, 500 // within the first row; behind the pointers, before the cells
	other := make([]byte, len(sound))
	put := func(page []byte, at int, content string) []byte {
		page = bytes.Clone(page)
		copy(page[at:], content)
		return page
	}
	flipped := func(page []byte, at int) []byte { return put(page, at, string(page[at]^4)) }
	without := put(sound, at-15, strings.Repeat(".", len(mark)))
	bad := string(flipped(sound, at)[at-15 : at-15+len(mark)])
	for name, c := range map[string]struct {
		at          int
		made, other []byte
		carried     bool
		right       []byte // what the page should be; nil: nobody knows
	}{
		"another row was changed":                      {at, put(sound, row, "other"), other, false, nil},
		"another row was changed, and damage read":     {at, put(flipped(sound, at), row, "other"), other, true, put(sound, row, "other")},
		"the row has moved":                            {at, put(without, row, mark), other, false, nil},
		"the damaged row has moved":                    {at, put(without, row, bad), other, true, put(without, row, mark)},
		"the row was copied, and one of them damaged":  {at, put(sound, row, bad), other, true, nil},
		"both copies of the row are damaged":           {at, put(flipped(sound, at), row, bad), other, true, nil},
		"the row went to another page":                 {at, without, put(other, 700, mark), false, nil},
		"the damaged row went to another page":         {at, without, put(other, 700, bad), true, nil},
		"it went there, and left its bytes behind":     {at, put(without, gap, bad), put(other, 700, bad), true, nil},
		"it was copied there":                          {at, flipped(sound, at), put(other, 700, bad), true, nil},
		"the row is in two pages, and one is damaged":  {at, put(without, row, bad), put(other, 700, mark), true, put(without, row, mark)},
		"the row is gone":                              {at, without, other, false, nil},
		"the row is gone, and left its bytes behind":   {at, put(without, gap, bad), other, false, nil},
		"the row is gone, with a number in it":         {number, put(sound, number-2, "......."), other, true, nil},
		"the page is another one now":                  {at, put(other, row, bad), other, true, nil},
		"what nobody reads stays":                      {gap, put(flipped(sound, gap), row, "other"), other, false, nil},
		"what nobody reads was written to":             {gap, put(sound, gap-5, "a row is there now"), other, false, nil},
		"a number of cells, and a row was changed":     {4, put(flipped(sound, 4), row, "other"), other, true, nil},
		"a number of cells, which was in memory still": {4, put(sound, row, "other"), other, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			o := overlayOf(map[uint32][]byte{2: c.made, 6: c.other})
			want := uint32(0)
			if c.right != nil {
				want = ledger.Sum(c.right)
			}
			if carried, right := o.carries(2, flipped(sound, c.at), c.made, []uint32{1, ledger.Sum(sound)}); carried != c.carried || right != want {
				t.Errorf("carries = %v, %x, want %v, %x", carried, right, c.carried, want)
			}
		})
	}
}

// leafWith is page 2 of a table with some rows, one of which is text.
func leafWith(t *testing.T, text string) []byte {
	path := filepath.Join(t.TempDir(), "x.db")
	table, err := Open(t.Context(), path, quietOwned)
	must(t, err)
	writeOwned(t, table, "CREATE TABLE t(id INTEGER PRIMARY KEY, v, n)")
	writeOwned(t, table, "INSERT INTO t(v, n) VALUES (randomblob(200), 1), (randomblob(200), 1), (?, 70000), (randomblob(200), 1)", text)
	settleOwned(t, table)
	must(t, table.Close())
	file, err := os.ReadFile(path)
	must(t, err)
	return file[4096:8192]
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
