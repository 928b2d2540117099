package dir

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tablekeeper/storage/bucket"
)

// TestListInBatches lists folders that are larger than a batch, at every size of it.
func TestListInBatches(t *testing.T) {
	b := start(t)
	want := []string{"t/old"}
	for i := range 23 {
		for _, key := range []string{fmt.Sprintf("many/%02d", i), fmt.Sprintf("many/%02d-x/y", i)} {
			want = append(want, key)
			if _, err := b.Put(t.Context(), key, strings.NewReader(key), bucket.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	slices.Sort(want)
	for batch := 1; batch < 50; batch += 3 {
		for _, after := range []string{"", "many/03", "many/22-x/y"} {
			var got []string
			l := &lister{b: b, ctx: t.Context(), after: after, batch: batch, each: func(info bucket.Info) error {
				got = append(got, info.Key)
				return nil
			}}
			if err := l.run(); err != nil {
				t.Fatal(err)
			}
			i, found := slices.BinarySearch(want, after)
			if found {
				i++
			}
			if !slices.Equal(got, want[i:]) {
				t.Errorf("batch of %d after %q: %q", batch, after, got)
			}
		}
	}
}

// TestStale: only files that are old and that nobody holds are removed, and those of other machines only when they are very old.
func TestStale(t *testing.T) {
	b := start(t)
	d, err := openRoot(b.path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	foreign := tempName + "/put-00000000-OTHER"
	kept := []string{newTemp("put"), newTemp("young"), foreign}
	gone := []string{newTemp("put"), tempName + "/put-00000000-OLDER"}
	for _, name := range append(kept, gone...) {
		f, err := d.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if name == kept[0] {
			if held, err := f.Hold(); !held || err != nil {
				t.Fatalf("Hold = %v, %v", held, err)
			}
			defer f.Close()
			continue
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	base := func(name string) string { return strings.TrimPrefix(name, tempName+"/") }
	age(t, b, base(kept[0]), 100*staleElsewhere)
	age(t, b, base(kept[1]), staleHere/2)
	age(t, b, base(foreign), staleElsewhere/2)
	age(t, b, base(gone[0]), 2*staleHere)
	age(t, b, base(gone[1]), 2*staleElsewhere)
	if _, err := b.Put(t.Context(), "next", strings.NewReader("x"), bucket.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	left := temps(t, b)
	for i, name := range kept {
		if !slices.Contains(left, base(name)) {
			t.Errorf("kept[%d] is gone", i)
		}
	}
	for i, name := range gone {
		if slices.Contains(left, base(name)) {
			t.Errorf("gone[%d] is still there", i)
		}
	}
}

// TestCoarseTimes: two versions of one size and one time of change still have records of their own.
func TestCoarseTimes(t *testing.T) {
	b := start(t)
	d, err := openRoot(b.path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	current, err := d.Lstat("t/old")
	if err != nil {
		t.Fatal(err)
	}
	s, err := spoolTo(t.Context(), d, strings.NewReader("OLD CONTENT"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Chtimes(s.name, current.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := s.finish(d); err != nil {
		t.Fatal(err)
	}
	if !s.record.describes(current) {
		t.Fatal("the test has not made the versions alike")
	}
	if err := replace(d, "t/old", s, current); err != nil {
		t.Fatal(err)
	}
	if got := content(t, b); got["t/old"] != "OLD CONTENT v=" {
		t.Errorf("the bucket holds %v", got)
	}
}
