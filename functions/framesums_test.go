package functions_test

import (
	"testing"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/functions/restore"
	"tablekeeper/functions/verify"
)

// A backup of which only zstd's own checksum is damaged restores, since its content is as the sums of pages and the SHA-256 say; a drill
// refuses it, since the zstd program would.
func TestADamagedChecksumOfAFrame(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 300)
	want := f.Rows(f.Path("app"))
	f.SpoilFrameSum(f.Backup("app"))

	drills := verify.New(verify.Config{Shelf: f.Shelf, Catalogue: f.Catalogue, Bucket: functionstest.BucketName, Now: f.Now})
	drill, err := drills.Run(t.Context(), verify.Event{}, "app", functions.Progress{})
	if err == nil || drill.Outcome != verify.Failed || drill.Reason != "backup_damaged" {
		t.Errorf("a drill: %+v, %v", drill, err)
	}
	bring := restore.New(restore.Config{Shelf: f.Shelf, Catalogue: f.Catalogue, Bucket: functionstest.BucketName, Now: f.Now})
	out := restore.Event{Table: "app", Output: f.Dir + "/out.db"}
	entry, err := bring.Run(t.Context(), out, "app", functions.Progress{})
	if err != nil || entry.Status != functions.Restored || entry.Checked != "full" || f.Rows(out.Output) != want {
		t.Errorf("a restore: %+v, %v", entry, err)
	}
}
