package recover

import (
	"os"
	"slices"
	"strings"
	"testing"

	"tablekeeper/functions"
	"tablekeeper/storage/shelf"
)

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// Whatever happens to the file of an owned table that is unchanged since its backup: nothing is lost.
func TestNothingIsLost(t *testing.T) {
	for name, tc := range map[string]struct {
		damage func(w *ward)
		rungs  []string
	}{
		"page zeroed":   {func(w *ward) { w.scribble(4*4096, make([]byte, 4096)) }, []string{RungPages, RungReindex}},
		"page torn":     {func(w *ward) { w.scribble(5*4096+512, slices.Repeat([]byte{7}, 3584)) }, []string{RungPages, RungReindex}},
		"bit flipped":   {func(w *ward) { w.flip((3*4096 + 1000) * 8) }, []string{RungBit}},
		"truncated":     {func(w *ward) { w.Must(os.Truncate(w.Path(owned), 3*4096+100)) }, []string{RungPages}},
		"emptied":       {func(w *ward) { w.Must(os.Truncate(w.Path(owned), 0)) }, []string{RungPages}},
		"header":        {func(w *ward) { w.scribble(0, make([]byte, 100)) }, []string{RungPages}},
		"garbage":       {func(w *ward) { w.scribble(0, []byte(strings.Repeat("garbage!", int(size(w.T, w.Path(owned))/8)))) }, []string{RungPages}},
		"deleted":       {func(w *ward) { w.Must(os.Remove(w.Path(owned))) }, []string{RungReopen}},
		"replaced":      {func(w *ward) { w.Must(os.Rename(w.other("not a table at all"), w.Path(owned))) }, []string{RungReopen}},
		"other journal": {func(w *ward) { w.Must(os.WriteFile(w.Path(owned)+"-journal", foreignJournal(), 0o600)) }, []string{RungNone}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWard(t, 400)
			before := w.hash()
			w.Backup(owned)
			tc.damage(w)
			w.scrub()
			entry, err := w.next()
			if err != nil || entry.Status != functions.Repaired || !slices.Contains(tc.rungs, entry.Rung) {
				t.Fatalf("%s by %s, %v: %+v", entry.Status, entry.Rung, err, entry)
			}
			if entry.LostRows == nil || *entry.LostRows != 0 || entry.Lost != "" || !entry.LostSince.IsZero() {
				t.Errorf("it is said that something is lost: %+v", entry)
			}
			if got := w.hash(); got != before {
				t.Error("the content is another one")
			}
			w.sound()
			if w.state() != shelf.Healthy || len(w.quarantined()) == 0 || entry.Quarantine == "" {
				t.Errorf("state %s, quarantine %v", w.state(), w.quarantined())
			}
			if entry.Rung != RungNone && (entry.RecordCount != 400 || entry.FileSize != size(t, w.Path(owned))) {
				t.Errorf("%d rows, %d bytes", entry.RecordCount, entry.FileSize)
			}
			w.write("INSERT INTO items (label) VALUES ('after')")
		})
	}
}

// other writes a file beside the table.
func (w *ward) other(content string) string {
	path := w.Path("other") + ".txt"
	w.Must(os.WriteFile(path, []byte(content), 0o600))
	return path
}

// foreignJournal is a hot rollback journal of no table of ours.
func foreignJournal() []byte {
	b := make([]byte, 512+4096+8)
	copy(b, "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7")
	copy(b[8:], []byte{0, 0, 0, 1, 1, 2, 3, 4, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 16, 0})
	return b
}
