// Package buckettest holds buckets to the law of package bucket: Run is the one suite that every implementation passes, and
// StartMinIO and StartVersityGW run real S3 servers for it, as child processes on loopback ports. It is for tests, also those of other
// packages that want a real store.
//
// The servers are built, once, from the nested module localstack/, into a cache of their own; see Tool.
package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"tablekeeper/storage/bucket"
)

// Options say how to get at the buckets under test. Open and Missing are required.
type Options struct {
	// Open returns an empty bucket.
	Open func(t *testing.T) bucket.Bucket

	// Missing returns a bucket that is not there.
	Missing func(t *testing.T) bucket.Bucket

	// Denied and Unreachable return buckets that refuse us and that do not answer; none where no such state can be made.
	Denied, Unreachable []func(t *testing.T) bucket.Bucket

	// Litter lists what calls on the last opened bucket left behind that is no object: temporary files, unfinished uploads.
	Litter func(t *testing.T) []string

	// Large is a size in bytes that takes the bucket several internal steps, such as the parts of an upload; 0 means 3 MiB.
	Large int

	// Many is how many objects make a listing of several pages; 0 means 30.
	Many int
}

// Run runs the whole suite as subtests.
func Run(t *testing.T, o Options) {
	if o.Large == 0 {
		o.Large = 3 << 20
	}
	if o.Many == 0 {
		o.Many = 30
	}
	s := &suite{o}
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"Missing object", s.missingObject},
		{"Missing bucket", s.missingBucket},
		{"Refused and unreachable", s.refused},
		{"Round trip", s.roundTrip},
		{"Ranges", s.ranges},
		{"Versions", s.versions},
		{"Body closed early", s.closedEarly},
		{"Hostile keys", s.hostileKeys},
		{"Unusual keys", s.unusualKeys},
		{"Put replaces", s.replaces},
		{"Put if absent", s.ifAbsent},
		{"Put if match", s.ifMatch},
		{"Put fails with its reader", s.failingReader},
		{"Put ends with its context", s.cancelled},
		{"Put proved", s.proved},
		{"Delete", s.deletes},
		{"Tags", s.tags},
		{"List", s.lists},
		{"List pages", s.pages},
		{"Race if absent", s.raceIfAbsent},
		{"Race if match", s.raceIfMatch},
		{"Race of readers and a writer", s.raceReaders},
		{"Steady", s.steady},
	} {
		t.Run(test.name, test.run)
	}
}

type suite struct{ Options }

// random is the same bytes for the same seed.
func random(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	p := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(p) // never fails
	return p
}

func put(t *testing.T, b bucket.Bucket, key string, content []byte, opts bucket.PutOptions) bucket.Info {
	t.Helper()
	info, err := b.Put(t.Context(), key, bytes.NewReader(content), opts)
	if err != nil {
		t.Fatalf("Put(%q, %d bytes, %+v): %v", key, len(content), opts, err)
	}
	if info.Key != key || info.Size != int64(len(content)) || info.ETag == "" {
		t.Fatalf("Put(%q, %d bytes) = %+v, want key, size and an ETag", key, len(content), info)
	}
	return info
}

func get(t *testing.T, b bucket.Reader, key string, off, n int64) []byte {
	t.Helper()
	rc, err := b.Get(t.Context(), key, off, n)
	if err != nil {
		t.Fatalf("Get(%q, %d, %d): %v", key, off, n, err)
	}
	content, err := io.ReadAll(rc)
	if err := errors.Join(err, rc.Close()); err != nil {
		t.Fatalf("read Get(%q, %d, %d): %v", key, off, n, err)
	}
	return content
}

func holds(t *testing.T, b bucket.Reader, key string, want []byte) {
	t.Helper()
	if got := get(t, b, key, 0, -1); !bytes.Equal(got, want) {
		t.Fatalf("%q holds %d bytes that differ from the %d expected", key, len(got), len(want))
	}
}

func keys(t *testing.T, b bucket.Reader, prefix, after string) []string {
	t.Helper()
	var keys []string
	for info, err := range b.List(t.Context(), prefix, after) {
		if err != nil {
			t.Fatalf("List(%q, %q): %v", prefix, after, err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func (s *suite) clean(t *testing.T) {
	t.Helper()
	if s.Litter == nil {
		return
	}
	if litter := s.Litter(t); len(litter) > 0 {
		t.Errorf("left behind: %q", litter)
	}
}

// everyCall makes each call on key once and returns the errors by name.
func everyCall(ctx context.Context, b bucket.Bucket, key string) map[string]error {
	calls := map[string]error{}
	rc, err := b.Get(ctx, key, 0, -1)
	if err == nil {
		err = rc.Close()
	}
	calls["Get"] = err
	_, calls["Head"] = b.Head(ctx, key)
	_, calls["Tags"] = b.Tags(ctx, key)
	calls["SetTags"] = b.SetTags(ctx, key, map[string]string{"a": "b"})
	calls["Delete"] = b.Delete(ctx, key)
	_, calls["Put"] = b.Put(ctx, key, strings.NewReader("x"), bucket.PutOptions{})
	calls["List"] = nil
	for _, err := range b.List(ctx, "", "") {
		calls["List"] = err
	}
	return calls
}

func (s *suite) refused(t *testing.T) {
	for want, opens := range map[error][]func(*testing.T) bucket.Bucket{bucket.ErrDenied: s.Denied, bucket.ErrUnreachable: s.Unreachable} {
		for i, open := range opens {
			for op, err := range everyCall(t.Context(), open(t), "a/b") {
				wantError(t, fmt.Sprintf("%s (%d)", op, i), err, want)
			}
		}
	}
}
