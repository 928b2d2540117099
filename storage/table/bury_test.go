package table

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestNextBury(t *testing.T) {
	for _, c := range []struct {
		step int64
		took time.Duration
		want int64
	}{
		{4 << 20, time.Millisecond, 8 << 20},
		{mostBury, time.Millisecond, mostBury},
		{4 << 20, 5 * time.Millisecond, 4 << 20},
		{4 << 20, 60 * time.Millisecond, 2 << 20},
		{1 << 20, time.Second, 1 << 20},
	} {
		if got := nextBury(c.step, c.took); got != c.want {
			t.Errorf("after %d bytes in %v: %d, want %d", c.step, c.took, got, c.want)
		}
	}
}

// What is left for the removal is no more than a step.
func TestShrink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.Truncate(path, 300<<20))
	must(t, shrink(path))
	info, err := os.Stat(path)
	must(t, err)
	if info.Size() == 0 || info.Size() > mostBury {
		t.Errorf("%d bytes are left", info.Size())
	}
}
