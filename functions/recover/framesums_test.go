package recover

import (
	"testing"

	"tablekeeper/functions"
)

// The checksums of zstd's frames are none of the content: a recovery takes pages, and the whole, from a backup of which only one of those is
// damaged, rather than from an older one.
func TestADamagedChecksumOfAFrameLosesNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		damage func(w *ward)
		rung   string
		status functions.Status
	}{
		"pages": {func(w *ward) { w.scribble(0, make([]byte, 100)) }, RungPages, functions.Repaired},
		"whole": {(*ward).ruin, RungRestore, functions.Restored},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWard(t, 400)
			want := w.hash()
			backup := w.Backup(owned)
			w.SpoilFrameSum(backup)
			tc.damage(w)
			w.scrub()
			entry, err := w.next()
			if err != nil || entry.Rung != tc.rung || entry.Status != tc.status || entry.BackupUsed != backup.String() {
				t.Fatalf("%v: %+v", err, entry)
			}
			if w.hash() != want {
				t.Error("other content")
			}
			w.sound()
		})
	}
}
