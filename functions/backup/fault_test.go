package backup

import (
	"sync"
	"testing"
	"time"

	"tablekeeper/functions"
	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/bucket/faulty"
	"tablekeeper/storage/shelf"
)

func TestEachFailingCallOfTheBucketSurfaces(t *testing.T) {
	kinds := []faulty.Kind{faulty.Fail, faulty.Temporary, faulty.Denied, faulty.LostReply, faulty.Lie, faulty.Half, faulty.Flip, faulty.BreakList}
	if functionstest.Race {
		kinds = kinds[:2]
	}
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			f := functionstest.New(t)
			f.Make("app", 20)
			run(t, f, Event{}, "app", functions.BackedUp, "")
			for n := 0; ; n++ {
				f.Fill("app", 1)
				hits := f.Bucket.Hits()
				f.Bucket.At(len(f.Bucket.Calls())+n, faulty.Fault{Kind: kind, Byte: 20})
				entry, err := function(f).Run(t.Context(), Event{}, "app", functions.Progress{})
				f.Bucket.Decide(func(faulty.Call) faulty.Fault { return faulty.Fault{} })
				if (err == nil) != (entry.Status == functions.BackedUp) {
					t.Errorf("call %d: %+v, %v", n, entry, err)
				}
				if left := f.Litter(); len(left) > 0 {
					t.Errorf("call %d leaves %v", n, left)
				}
				if next, err := function(f).Run(t.Context(), Event{}, "app", functions.Progress{}); err != nil {
					t.Errorf("after call %d failed: %+v, %v", n, next, err)
				}
				if restored := restorable(t, f, "app"); restored != f.Rows(f.Path("app")) {
					t.Errorf("call %d: the newest backup is not the table", n)
				}
				if f.Bucket.Hits() == hits {
					t.Logf("clean after %d calls", n)
					break
				}
			}
		})
	}
}

func TestTwoTablekeepers(t *testing.T) {
	f := functionstest.New(t)
	f.Make("app", 50)
	other, err := shelf.Open([]shelf.Source{{Path: f.Dir}}, shelf.Options{Now: f.Now})
	f.Must(err)
	_, err = other.Refresh(t.Context())
	f.Must(err)
	config := function(f).Config
	config.Shelf = other
	config.Now = func() time.Time { return time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC) } // the very same millisecond
	two := []*Function{New(config), New(config)}
	var group sync.WaitGroup
	for i := range 6 {
		group.Go(func() {
			if entry, err := two[i%2].Run(t.Context(), Event{Force: true}, "app", functions.Progress{}); err != nil {
				t.Errorf("%+v, %v", entry, err)
			}
		})
	}
	group.Wait()
	if got := f.Backups("app"); len(got) != 6 {
		t.Errorf("%v", got)
	}
	restorable(t, f, "app")
}
