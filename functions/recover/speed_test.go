package recover

import (
	"testing"
	"time"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/table"
)

// From the damage that is found to serving again, at 100 MB. The figure is logged: what a machine under load takes is not judged here.
func TestAHundredMegabytes(t *testing.T) {
	if functionstest.Race {
		t.Skip("runs in the pass without the race detector")
	}
	w := newWard(t, 1)
	w.write("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 50000) INSERT INTO items (label, body) SELECT 'label ' || i, randomblob(1900) FROM n")
	w.settle()
	w.Backup(owned)
	w.function.Now = time.Now
	for name, damage := range map[string]func(){
		RungBit:   func() { w.flip((9000*4096 + 77) * 8) },
		RungPages: func() { w.scribble(9000*4096, make([]byte, 4096)) },
	} {
		damage()
		w.handle.Suspect(t.Context(), nil, table.ErrCorrupt)
		start := time.Now()
		entry, err := w.next()
		if err != nil || entry.Status != functions.Repaired || entry.Rung != name {
			t.Fatalf("%v: %+v", err, entry)
		}
		w.write("INSERT INTO items (label) VALUES ('serving')")
		t.Logf("%s: %d MB serve again after %v", name, size(t, w.Path(owned))>>20, time.Since(start).Round(time.Millisecond))
		w.settle()
		w.Backup(owned)
	}
}
