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
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

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

func (s *suite) missingObject(t *testing.T) {
	b := s.Open(t)
	put(t, b, "a/other", []byte("x"), bucket.PutOptions{})
	for _, key := range []string{"a/missing", "missing", "a", "a/other/below"} {
		calls := everyCall(t.Context(), missingOnly{b}, key)
		for _, op := range []string{"Get", "Head", "Tags", "SetTags"} {
			if key == "a" && strings.HasSuffix(op, "Tags") {
				continue
			}
			wantError(t, op+" "+key, calls[op], fs.ErrNotExist)
			if errors.Is(calls[op], bucket.ErrNoBucket) {
				t.Errorf("%s %s: %v: the bucket is there", op, key, calls[op])
			}
		}
		if calls["Delete"] != nil {
			t.Errorf("Delete %s: %v, want none", key, calls["Delete"])
		}
		if rc, err := b.Get(t.Context(), key, 5, 5); err == nil {
			t.Errorf("Get of a range of %s: no error, want %v", key, fs.ErrNotExist)
			rc.Close()
		}
	}
	if got := keys(t, b, "missing", ""); len(got) > 0 {
		t.Errorf("List(missing) = %q", got)
	}
	holds(t, b, "a/other", []byte("x"))
}

// missingOnly leaves keys missing.
type missingOnly struct{ bucket.Bucket }

func (missingOnly) Put(context.Context, string, io.Reader, bucket.PutOptions) (bucket.Info, error) {
	return bucket.Info{}, nil
}

func (s *suite) missingBucket(t *testing.T) {
	for op, err := range everyCall(t.Context(), s.Missing(t), "a/b") {
		wantError(t, op, err, bucket.ErrNoBucket)
		if errors.Is(err, fs.ErrNotExist) && op != "Put" {
			t.Errorf("%s: %v: says that the object is missing, of which nothing is known", op, err)
		}
	}
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

func (s *suite) roundTrip(t *testing.T) {
	b := s.Open(t)
	for _, size := range []int{0, 1, 4095, 4096, 300_000, s.Large - 1, s.Large, s.Large + 1} {
		key := fmt.Sprintf("sizes/%d", size)
		content := random(uint64(size), size)
		info := put(t, b, key, content, bucket.PutOptions{SizeHint: int64(size)})
		holds(t, b, key, content)
		head, err := b.Head(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if head.Size != int64(size) || head.ETag != info.ETag || head.Key != key || head.Modified.IsZero() {
			t.Errorf("Head(%s) = %+v, Put said %+v", key, head, info)
		}
		digest := bucket.NewDigest()
		_, _ = digest.Write(content)
		if err := digest.Compare(head); err != nil {
			t.Errorf("Head(%s): %v", key, err)
		}
		if head.SHA256 == "" && head.CRC32C == "" {
			t.Errorf("Head(%s) = %+v: no checksum of the content", key, head)
		}
	}
	// A reader that gives a byte at a time, and one that ends without saying so at once.
	put1, err := b.Put(t.Context(), "slow", iotest.OneByteReader(strings.NewReader("slow reader")), bucket.PutOptions{})
	if err != nil || put1.Size != 11 {
		t.Errorf("Put of a slow reader = %+v, %v", put1, err)
	}
	put2, err := b.Put(t.Context(), "eager", iotest.DataErrReader(strings.NewReader("eager reader")), bucket.PutOptions{})
	if err != nil || put2.Size != 12 {
		t.Errorf("Put of a reader that ends with its data = %+v, %v", put2, err)
	}
	s.clean(t)
}

func (s *suite) ranges(t *testing.T) {
	b := s.Open(t)
	content := random(1, 1000)
	put(t, b, "r", content, bucket.PutOptions{})
	put(t, b, "empty", nil, bucket.PutOptions{})
	for _, r := range []struct{ off, n int64 }{
		{0, -1}, {0, 0}, {0, 1}, {0, 1000}, {0, 1001}, {1, -1}, {999, 1}, {999, 5}, {500, 0}, {1000, 1}, {1000, -1}, {5000, 10},
		{-1, -1}, {-1, 7}, {-1000, -1}, {-2000, -1}, {-500, 0}, {10, 1 << 40}, {0, 1 << 62}, {1 << 50, 1 << 60},
	} {
		from, to := bucket.Span(1000, r.off, r.n)
		if got := get(t, b, "r", r.off, r.n); !bytes.Equal(got, content[from:to]) {
			t.Errorf("Get(%d, %d) gave %d bytes, want bytes %d to %d", r.off, r.n, len(got), from, to)
		}
		if got := get(t, b, "empty", r.off, r.n); len(got) > 0 {
			t.Errorf("Get(%d, %d) of an empty object gave %d bytes", r.off, r.n, len(got))
		}
	}
	rc, err := b.Get(t.Context(), "r", 10, 20)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if body, ok := rc.(bucket.Body); !ok || body.Info().Size != 1000 || body.Info().ETag == "" {
		t.Errorf("the body of a range does not describe the whole object")
	}
}

func (s *suite) versions(t *testing.T) {
	b := s.Open(t)
	v, ok := b.(bucket.Versioned)
	if !ok {
		t.Fatal("bucket.Versioned is not implemented")
	}
	first := put(t, b, "v", []byte("first version"), bucket.PutOptions{})
	rc, err := v.GetVersion(t.Context(), "v", first.ETag, 6, 7)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(rc); err != nil || string(got) != "version" {
		t.Errorf("GetVersion = %q, %v", got, err)
	}
	if err := rc.Close(); err != nil {
		t.Error(err)
	}
	second := put(t, b, "v", []byte("other version"), bucket.PutOptions{})
	if first.ETag == second.ETag {
		t.Errorf("two contents share the ETag %s", first.ETag)
	}
	for _, r := range [][2]int64{{0, -1}, {6, 7}, {-3, -1}, {0, 0}, {100, 5}} {
		if _, err := v.GetVersion(t.Context(), "v", first.ETag, r[0], r[1]); !errors.Is(err, bucket.ErrPrecondition) {
			t.Errorf("GetVersion of a replaced version, range %v: %v, want %v", r, err, bucket.ErrPrecondition)
		}
	}
	_, err = v.GetVersion(t.Context(), "missing", first.ETag, 0, -1)
	wantError(t, "GetVersion of a missing object", err, fs.ErrNotExist)
}

func (s *suite) closedEarly(t *testing.T) {
	b := s.Open(t)
	content := random(2, s.Large)
	put(t, b, "big", content, bucket.PutOptions{})
	for range 20 {
		rc, err := b.Get(t.Context(), "big", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(rc, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		if err := rc.Close(); err != nil {
			t.Fatal(err)
		}
	}
	put(t, b, "small", []byte("it all came with the first read"), bucket.PutOptions{})
	for _, key := range []string{"big", "small"} {
		ctx, cancel := context.WithCancel(t.Context())
		rc, err := b.Get(ctx, key, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(rc, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		cancel()
		if n, err := rc.Read(make([]byte, 10)); n > 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("read of %s after its context ended: %d bytes, %v, want %v", key, n, err, context.Canceled)
		}
		_ = rc.Close() // the body is broken; what counts is that the bucket is not
	}
	holds(t, b, "big", content)
}

func (s *suite) hostileKeys(t *testing.T) {
	b := s.Open(t)
	put(t, b, "a/b", []byte("kept"), bucket.PutOptions{})
	for _, key := range HostileKeys() {
		calls := everyCall(t.Context(), b, key)
		delete(calls, "List")
		for op, err := range calls {
			if !errors.Is(err, bucket.ErrKey) {
				t.Errorf("%s(%q): %v, want %v", op, key, err, bucket.ErrKey)
			}
		}
	}
	for _, prefix := range []string{"../", "/", "a//", "a/../", ".", "a/.", "a\x00", strings.Repeat("x", 2000), "\xff"} {
		for _, err := range b.List(t.Context(), prefix, "") {
			wantError(t, fmt.Sprintf("List(%q)", prefix), err, bucket.ErrKey)
		}
	}
	if got := keys(t, b, "", ""); len(got) != 1 || got[0] != "a/b" {
		t.Errorf("the bucket has %q now", got)
	}
	s.clean(t)
}

// HostileKeys are names that no bucket may accept.
func HostileKeys() []string {
	return []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../../etc/passwd", "a/./b", ".hidden", "a/.bucket/b.json",
		"a\x00b", "a\nb", "a\\b", "a\x7f", "\xff\xfe", "c:", "a/b?c", "a*", "a|b", "a/b ", "a/b.", "a/" + strings.Repeat("n", 241),
		strings.Repeat("k/", 512) + "k",
	}
}

func (s *suite) unusualKeys(t *testing.T) {
	b := s.Open(t)
	want := []string{
		"! % & ' ( ) + , ; = @ [ ] ^ _ ` { } ~ # $", "a b/c d", "a+b%2Fc", "deep/" + strings.Repeat("er/", 60) + "x", "gut/größe-日本", "n/" + strings.Repeat("n", 240),
		"orders/20261122T193300.000Z-0123abcd.db.zst.age",
	}
	for i, key := range want {
		content := random(uint64(i), 100+i)
		put(t, b, key, content, bucket.PutOptions{})
		holds(t, b, key, content)
		if err := b.SetTags(t.Context(), key, map[string]string{"k": "v"}); err != nil {
			t.Errorf("SetTags(%q): %v", key, err)
		}
	}
	if got := keys(t, b, "", ""); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("List = %q,\nwant %q", got, want)
	}
	for _, key := range want {
		if err := b.Delete(t.Context(), key); err != nil {
			t.Errorf("Delete(%q): %v", key, err)
		}
	}
	if got := keys(t, b, "", ""); len(got) > 0 {
		t.Errorf("after all deletes: %q", got)
	}
}
