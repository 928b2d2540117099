package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/faulty"
)

func (s *suite) lists(t *testing.T) {
	b := s.Open(t)
	// In the order of their bytes: "-" and "." sort before "/", letters after it.
	all := []string{"a-b", "a.c/x", "a/1", "a/2", "a/b-c", "a/b/1", "a/b/2", "a/b0", "a0", "b", "é/x"}
	for i := range all {
		key := all[(i*7)%len(all)]
		put(t, b, key, []byte(key), bucket.PutOptions{})
	}
	for _, test := range []struct{ prefix, after string }{
		{"", ""}, {"a", ""}, {"a/", ""}, {"a/b", ""}, {"a/b/", ""}, {"a/b/1", ""}, {"a/b/1/", ""}, {"c", ""}, {"a/2", ""}, {"é", ""}, {"b/", ""},
		{"", "a-b"}, {"", "a/b/1"}, {"", "a/b"}, {"", "a/b/"}, {"", "zzz"}, {"", "é/x"}, {"a/", "a/2"}, {"a/", "a-"}, {"a/", "b"}, {"a/b", "a/b-c"},
	} {
		var want []string
		for _, key := range all {
			if strings.HasPrefix(key, test.prefix) && key > test.after {
				want = append(want, key)
			}
		}
		if got := keys(t, b, test.prefix, test.after); !slices.Equal(got, want) {
			t.Errorf("List(%q, %q) = %q, want %q", test.prefix, test.after, got, want)
		}
	}
	for info, err := range b.List(t.Context(), "", "") {
		if err != nil || info.Size != int64(len(info.Key)) || info.Modified.IsZero() {
			t.Errorf("List: %+v, %v", info, err)
		}
	}
	seen := 0
	for _, err := range b.List(t.Context(), "", "") {
		if err != nil {
			t.Error(err)
		}
		if seen++; seen == 3 {
			break
		}
	}
	// A short listing may end before it sees that its context has; an error must say so.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, err := range b.List(ctx, "", "") {
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("List with an ended context: %v, want %v", err, context.Canceled)
		}
	}
}

func (s *suite) pages(t *testing.T) {
	b := s.Open(t)
	want := make([]string, s.Many)
	var g errgroup.Group
	g.SetLimit(8)
	for i := range want {
		want[i] = fmt.Sprintf("p%d/%03d", i%2, i)
		g.Go(func() error {
			_, err := b.Put(t.Context(), want[i], strings.NewReader(want[i]), bucket.PutOptions{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	if got := keys(t, b, "", ""); !slices.Equal(got, want) {
		t.Errorf("List gave %d of %d keys, or not in order: %q", len(got), len(want), got)
	}
	for i := 0; i < len(want); i += 7 {
		if got := keys(t, b, "", want[i]); !slices.Equal(got, want[i+1:]) {
			t.Errorf("List after %s gave %q", want[i], got)
		}
	}
}

// winners counts who succeeded in a race of n, and fails on errors other than lost.
func winners(t *testing.T, n int, lost error, run func(i int) error) []int {
	t.Helper()
	start := make(chan struct{})
	results := make([]error, n)
	var g errgroup.Group
	for i := range n {
		g.Go(func() error {
			<-start
			results[i] = run(i)
			return nil
		})
	}
	close(start)
	_ = g.Wait() // the errors are in results
	var won []int
	for i, err := range results {
		if err == nil {
			won = append(won, i)
		} else if !errors.Is(err, lost) && !errors.Is(err, bucket.ErrUnreachable) {
			t.Errorf("racer %d: %v, want %v", i, err, lost)
		}
	}
	return won
}

func (s *suite) raceIfAbsent(t *testing.T) {
	b := s.Open(t)
	for round, size := range []int{100, 100, 100, s.Large} {
		key := fmt.Sprintf("race/%d", round)
		won := winners(t, 8, bucket.ErrExists, func(i int) error {
			_, err := b.Put(t.Context(), key, bytes.NewReader(random(uint64(i), size)), bucket.PutOptions{IfAbsent: true, Tags: map[string]string{"by": fmt.Sprint(i)}})
			return err
		})
		if len(won) != 1 {
			t.Fatalf("%d racers of size %d created %s, want 1", len(won), size, key)
		}
		holds(t, b, key, random(uint64(won[0]), size))
		if tags, err := b.Tags(t.Context(), key); err != nil || tags["by"] != fmt.Sprint(won[0]) {
			t.Errorf("Tags = %v, %v: not those of racer %d", tags, err, won[0])
		}
	}
	s.clean(t)
}

func (s *suite) raceIfMatch(t *testing.T) {
	b := s.Open(t)
	etag := put(t, b, "k", []byte("start"), bucket.PutOptions{}).ETag
	for round := range 4 {
		won := winners(t, 8, bucket.ErrPrecondition, func(i int) error {
			_, err := b.Put(t.Context(), "k", bytes.NewReader(random(uint64(round*8+i), 50)), bucket.PutOptions{IfMatch: etag})
			return err
		})
		if len(won) != 1 {
			t.Fatalf("%d racers replaced version %s, want 1", len(won), etag)
		}
		holds(t, b, "k", random(uint64(round*8+won[0]), 50))
		head, err := b.Head(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		etag = head.ETag
	}
	s.clean(t)
}

// raceReaders: versions are of one byte value each, so that a mixture shows.
func (s *suite) raceReaders(t *testing.T) {
	b := s.Open(t)
	version := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 200_000+i) }
	put(t, b, "k", version(0), bucket.PutOptions{})
	ctx, stop := context.WithCancel(t.Context())
	var g errgroup.Group
	for range 4 {
		g.Go(func() error {
			for ctx.Err() == nil {
				if err := readOneVersion(t.Context(), b); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		defer stop()
		for i := range 15 {
			if _, err := b.Put(t.Context(), "k", bytes.NewReader(version(i)), bucket.PutOptions{Tags: map[string]string{"i": fmt.Sprint(i)}}); err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	s.clean(t)
}

func readOneVersion(ctx context.Context, b bucket.Bucket) error {
	rc, err := b.Get(ctx, "k", 0, -1)
	if err != nil {
		return err
	}
	defer rc.Close()
	content, err := io.ReadAll(rc)
	if err != nil {
		return err
	}
	if first := int(content[0]); len(content) != 200_000+first || bytes.Count(content, content[:1]) != len(content) {
		return fmt.Errorf("a reader got a mixture of versions: %d bytes, first %d", len(content), first)
	}
	return nil
}

// mended are the faults that no caller of Steady gets to see.
func mended(k faulty.Kind) bool {
	switch k {
	case faulty.Temporary, faulty.LostReply, faulty.Stall, faulty.Cut, faulty.Short, faulty.Empty, faulty.BreakList:
		return true
	default:
		return false
	}
}

// steady: what Steady mends, it mends on this store too; what it cannot mend, it sees.
func (s *suite) steady(t *testing.T) {
	content := random(5, s.Large)
	f := faulty.Wrap(s.Open(t))
	b := bucket.Steady(f, bucket.SteadyOptions{
		Backoff:     bucket.Backoff{First: time.Millisecond, Max: time.Millisecond},
		CallTimeout: 2 * time.Second, IdleTimeout: 2 * time.Second,
	})
	put(t, f, "k", content, bucket.PutOptions{Tags: map[string]string{"a": "b"}})
	put(t, f, "l", nil, bucket.PutOptions{})
	for _, kind := range faulty.Kinds() {
		if kind == faulty.Stall {
			continue // waits in real time here; steady_test.go has it in a bubble
		}
		for n := 0; ; n++ {
			hits := f.Hits()
			f.At(len(f.Calls())+n, faulty.Fault{Kind: kind, Byte: 1})
			err := errors.Join(compare(t, b, content, 0, -1), compare(t, b, content, 1000, 200_000), compareTags(t, b), listBoth(t, b))
			if f.Hits() == hits {
				break
			}
			if mended(kind) && err != nil {
				t.Errorf("%s at call %d is not mended: %v", kind, n, err)
			}
		}
	}
	for _, kind := range []faulty.Kind{faulty.Flip, faulty.Zeros} {
		f.Always("get", faulty.Fault{Kind: kind, Byte: int64(s.Large / 2)})
		wantError(t, "Get with "+kind.String(), compare(t, b, content, 0, -1), bucket.ErrBody)
	}
}

func compare(t *testing.T, b bucket.Reader, content []byte, off, n int64) error {
	rc, err := b.Get(t.Context(), "k", off, n)
	if err != nil {
		return err
	}
	defer rc.Close()
	got, err := io.ReadAll(rc)
	if err != nil {
		return err
	}
	from, to := bucket.Span(int64(len(content)), off, n)
	if !bytes.Equal(got, content[from:to]) {
		return errors.New("other bytes, and no error")
	}
	return nil
}

func compareTags(t *testing.T, b bucket.Reader) error {
	tags, err := b.Tags(t.Context(), "k")
	if err == nil && !maps.Equal(tags, map[string]string{"a": "b"}) {
		err = fmt.Errorf("tags %v", tags)
	}
	return err
}

func listBoth(t *testing.T, b bucket.Reader) error {
	var got []string
	for info, err := range b.List(t.Context(), "", "") {
		if err != nil {
			return err
		}
		got = append(got, info.Key)
	}
	if !slices.Equal(got, []string{"k", "l"}) {
		return fmt.Errorf("listed %q", got)
	}
	return nil
}
