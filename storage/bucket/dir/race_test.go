package dir_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/dir"
)

// TestProcessesExclude: buckets opened apart share nothing but the folder, as processes do: their locks are of different descriptors. Of those that
// replace one version exactly one succeeds, and what comes and goes at once does not trip over folders that others empty.
func TestProcessesExclude(t *testing.T) {
	first, path := open(t)
	etag := putText(t, first, "lease", "start").ETag
	buckets := make([]*dir.Bucket, 6)
	for i := range buckets {
		b, err := dir.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		buckets[i] = b
	}
	for round := range 5 {
		var won atomic.Int32
		var next atomic.Value
		var all sync.WaitGroup
		for i, b := range buckets {
			all.Go(func() {
				info, err := b.Put(t.Context(), "lease", strings.NewReader(fmt.Sprintf("round %d of %d", round, i)), bucket.PutOptions{IfMatch: etag})
				switch {
				case err == nil:
					won.Add(1)
					next.Store(info.ETag)
				case !errors.Is(err, bucket.ErrPrecondition):
					t.Errorf("process %d: %v", i, err)
				}
				key := fmt.Sprintf("folder/%d", i%2)
				if _, err := b.Put(t.Context(), key, strings.NewReader("x"), bucket.PutOptions{}); err != nil {
					t.Errorf("process %d: %v", i, err)
				}
				if err := b.Delete(t.Context(), key); err != nil {
					t.Errorf("process %d: %v", i, err)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Fatalf("round %d: %d processes replaced one version", round, won.Load())
		}
		etag = next.Load().(string)
	}
	if left := litter(t, path); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
