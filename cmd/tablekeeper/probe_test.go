package main

import (
	"slices"
	"testing"
	"time"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/dir"
	"tablekeeper/storage/bucket/faulty"
)

func failures(steps []probeStep) (names []string) {
	for _, s := range steps {
		if s.Err != nil {
			names = append(names, s.Name)
		}
	}
	return names
}

func leftovers(t *testing.T, b bucket.Bucket) (n int) {
	t.Helper()
	for _, err := range b.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func TestProbe(t *testing.T) {
	b, err := dir.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := newProbe(b, time.Now)
	p.large = probeParts
	if bad := failures(p.run(t.Context())); bad != nil {
		t.Errorf("failed: %q", bad)
	}
	if n := leftovers(t, b); n > 0 {
		t.Errorf("%d objects stayed", n)
	}
}

// Every call goes wrong once: that must be told.
func TestProbeFindsEveryFault(t *testing.T) {
	every := []string{"get", "head", "list", "tags", "put", "delete", "set tags"}
	for kind, ops := range map[faulty.Kind][]string{
		faulty.Fail: every, faulty.Denied: every, faulty.Temporary: every,
		faulty.Lie: {"put", "delete", "set tags"}, faulty.Flip: {"get", "put"}, faulty.Short: {"get"}, faulty.Zeros: {"get"}, faulty.Half: {"put"},
	} {
		t.Run(kind.String(), func(t *testing.T) {
			b, err := dir.Create(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			for n := 0; ; n++ {
				f := faulty.Wrap(b)
				f.At(n, faulty.Fault{Kind: kind})
				steps := newProbe(f, time.Now).run(t.Context())
				if f.Hits() == 0 {
					break
				}
				if calls := f.Calls(); failures(steps) == nil && slices.Contains(ops, calls[n].Op) && !aside(calls, n) {
					t.Errorf("call %d (%s) went wrong, and nobody noticed", n, calls[n].Op)
				}
			}
		})
	}
}

// aside are the calls that try no ability: the two of the cleanup, and the second put, which is to be refused.
func aside(calls []faulty.Call, n int) bool {
	puts := 0
	for _, c := range calls[:n+1] {
		if c.Op == "put" {
			puts++
		}
	}
	const cleanup = 2
	return n >= len(calls)-cleanup || (calls[n].Op == "put" && puts == 2)
}

func TestProbeSeesClocksThatDiffer(t *testing.T) {
	b, err := dir.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	steps := newProbe(b, func() time.Time { return time.Now().Add(time.Hour) }).run(t.Context())
	if bad := failures(steps); len(bad) != 1 || bad[0] != "clock" {
		t.Errorf("failed: %q", bad)
	}
}
