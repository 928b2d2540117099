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
	put := func(page []byte, at int, content string) []byte {
		page = bytes.Clone(page)
		copy(page[at:], content)
		return page
	}
	flipped := func(page []byte, at int) []byte { return put(page, at, string(page[at]^4)) }
	without := put(sound, at-15, strings.Repeat(".", len(mark)))
	bad := string(flipped(sound, at)[at-15 : at-15+len(mark)])
	other := put(make([]byte, len(sound)), 2000, bad) // it had the like before
	for name, c := range map[string]struct {
		at          int
		made, other []byte
		want        []uint32
	}{
		"another row was changed":                      {at, put(sound, row, "other"), other, nil},
		"another row was changed, and damage read":     {at, put(flipped(sound, at), row, "other"), other, []uint32{2}},
		"the row has moved":                            {at, put(without, row, mark), other, nil},
		"the damaged row has moved":                    {at, put(without, row, bad), other, []uint32{2}},
		"the row was copied, and one of them damaged":  {at, put(sound, row, bad), other, []uint32{2}},
		"the row went to another page":                 {at, without, put(other, 700, mark), nil},
		"the damaged row went to another page":         {at, without, put(other, 700, bad), []uint32{2, 6}},
		"it went there, and left its bytes behind":     {at, put(without, gap, bad), put(other, 700, bad), []uint32{2, 6}},
		"it went there, and its page is free":          {at, other, put(other, 700, bad), []uint32{2, 6}},
		"it was copied there":                          {at, flipped(sound, at), put(other, 700, bad), []uint32{2, 6}},
		"the row is gone, and the like of it, too":     {at, without, make([]byte, len(sound)), nil},
		"the row is gone":                              {at, without, other, nil},
		"the row is gone, and left its bytes behind":   {at, put(without, gap, bad), other, nil},
		"the row is gone, with a number in it":         {number, put(sound, number-2, "......."), other, []uint32{2}},
		"what nobody reads stays":                      {gap, put(flipped(sound, gap), row, "other"), other, nil},
		"what nobody reads was written to":             {gap, put(sound, gap-5, "a row is there now"), other, nil},
		"a number of cells, and a row was changed":     {4, put(flipped(sound, 4), row, "other"), other, []uint32{2}},
		"a number of cells, which was in memory still": {4, put(sound, row, "other"), other, nil},
	} {
		t.Run(name, func(t *testing.T) {
			damaged := flipped(sound, c.at)
			was := map[uint32][]byte{2: damaged, 6: other}
			w := wound{overlayOf(map[uint32][]byte{2: c.made, 6: c.other}), 2, damaged, c.made, []uint32{2, 6}, func(p uint32) ([]byte, bool) {
				return was[p], p == 6
			}}
			got := w.carriers([]uint32{1, ledger.Sum(sound)})
			slices.Sort(got)
			if got = slices.Compact(got); !slices.Equal(got, c.want) {
				t.Errorf("pages %v, want %v", got, c.want)
			}
		})
	}
}

// More than a bit is damaged: where the rows of a page went that has none any more cannot be told.
func TestWhereRowsWentFromADamagedPage(t *testing.T) {
	leaf, index, free := make([]byte, 4096), make([]byte, 4096), make([]byte, 4096)
	leaf[0], index[0] = tableLeaf, 10
	for name, c := range map[string]struct {
		damaged, made []byte
		want          []uint32
	}{
		"a leaf that still is one":    {leaf, leaf, []uint32{2}},
		"a leaf that is free now":     {leaf, free, []uint32{2, 6}},
		"a leaf that is an index now": {leaf, index, []uint32{2, 6}},
		"an index that is free now":   {index, free, []uint32{2, 6}}, // a table without rowid is one, too
		"an index that still is one":  {index, index, []uint32{2}},
		"what SQLite does not read":   {free, leaf, nil},
	} {
		w := wound{overlayOf(map[uint32][]byte{2: c.made, 6: leaf}), 2, c.damaged, c.made, []uint32{2, 6}, nil}
		if got := w.carriers([]uint32{1}); !slices.Equal(got, c.want) {
			t.Errorf("%s: pages %v, want %v", name, got, c.want)
		}
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
