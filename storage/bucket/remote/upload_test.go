package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"tablekeeper/storage/bucket"
)

// counting is a store that keeps nothing but what it needs to check an upload.
type counting struct {
	API
	mu       sync.Mutex
	parts    map[int]Part
	flying   int // bytes of parts on their way
	most     int
	fail     func(number, try int) error
	tries    map[int]int
	aborted  int
	complete Part
	whole    *Part
}

func (c *counting) Head(context.Context, string) (bucket.Info, error) {
	return bucket.Info{}, fs.ErrNotExist
}

func (c *counting) Get(context.Context, string, string, string) (Object, error) {
	return Object{}, &AnswerError{Status: 404, Code: "NoSuchKey"}
}

func (c *counting) Begin(context.Context, string, Conditions) (string, error) {
	c.parts, c.tries = map[int]Part{}, map[int]int{}
	return "upload", nil
}

func (c *counting) PutPart(ctx context.Context, _, _ string, p Part) (string, error) {
	c.mu.Lock()
	c.flying += len(p.Data)
	c.most = max(c.most, c.flying)
	c.tries[p.Number]++
	try := c.tries[p.Number]
	c.mu.Unlock()
	sum := crc32.Checksum(p.Data, castagnoli)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flying -= len(p.Data)
	if c.fail != nil {
		if err := c.fail(p.Number, try); err != nil {
			return "", err
		}
	}
	if sum != p.CRC32C {
		return "", &AnswerError{Status: 400, Code: "BadDigest"}
	}
	p.Data = nil
	c.parts[p.Number] = p
	return fmt.Sprint(p.Number), ctx.Err()
}

func (c *counting) Complete(_ context.Context, _, _ string, parts []Part, whole Part, _ Conditions) (string, error) {
	for i, p := range parts {
		if p.Number != i+1 || p.ETag != fmt.Sprint(p.Number) || c.parts[p.Number].CRC32C != p.CRC32C {
			return "", fmt.Errorf("part %d is %+v", i+1, p)
		}
	}
	c.complete = whole
	return "done", nil
}

func (c *counting) Abort(context.Context, string, string) error {
	c.aborted++
	return nil
}

func (c *counting) Put(_ context.Context, _ string, p Part, _ Conditions) (string, error) {
	p.Data = bytes.Clone(p.Data)
	c.whole = &p
	return "whole", nil
}

func store(api API, partSize int) *Store {
	return New(api, Location{Bucket: "b"}, Options{PartSize: partSize, Backoff: bucket.Backoff{First: time.Microsecond, Max: time.Microsecond}})
}

// stream is n bytes of a repeated block, never in memory as a whole.
func stream(n int64) io.Reader {
	return io.LimitReader(&repeat{block: []byte(strings.Repeat("0123456789abcdef", 4096))}, n)
}

type repeat struct {
	block []byte
	at    int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.block[r.at:])
	r.at = (r.at + n) % len(r.block)
	return n, nil
}

// TestUploadMemory: whatever the size, no more than three parts are in memory.
func TestUploadMemory(t *testing.T) {
	const part = 1 << 20
	for _, size := range []int64{part + 1, 3*part - 1, 3 * part, 300*part + 17} {
		api := &counting{}
		info, err := store(api, part).Put(t.Context(), "k", stream(size), bucket.PutOptions{})
		if err != nil || info.Size != size || api.complete.Size != size || info.CRC32C != fmt.Sprintf("%08x", api.complete.CRC32C) {
			t.Fatalf("Put of %d bytes: %+v, %v", size, info, err)
		}
		if api.most > 3*part {
			t.Errorf("%d bytes of parts were on their way at once", api.most)
		}
		if want := int((size + part - 1) / part); len(api.parts) != want {
			t.Errorf("%d parts, want %d", len(api.parts), want)
		}
		sum := crc32.New(castagnoli)
		if _, err := io.Copy(sum, stream(size)); err != nil || sum.Sum32() != api.complete.CRC32C {
			t.Errorf("the checksum of the whole is %08x, want %08x", api.complete.CRC32C, sum.Sum32())
		}
	}
}

// TestUploadSmall: what fits a part is one request, and its buffer is of its size.
func TestUploadSmall(t *testing.T) {
	for _, size := range []int{0, 1, firstBuffer - 1, firstBuffer, firstBuffer + 1, 5*firstBuffer + 3, 1<<20 - 1} {
		for _, hint := range []int64{0, int64(size), 1, 1 << 40} {
			content := make([]byte, size)
			_, _ = rand.NewChaCha8([32]byte{}).Read(content) // never fails
			api := &counting{}
			if _, err := store(api, 1<<20).Put(t.Context(), "k", bytes.NewReader(content), bucket.PutOptions{SizeHint: hint}); err != nil {
				t.Fatal(err)
			}
			if api.whole == nil || !bytes.Equal(api.whole.Data, content) || api.whole.CRC32C != crc32.Checksum(content, castagnoli) {
				t.Errorf("size %d, hint %d: not put in one request", size, hint)
			}
		}
	}
}

// TestPartSize: 10,000 parts are enough for every object that S3 takes, whether its size is known or not, and if a hint is ten times too small.
func TestPartSize(t *testing.T) {
	const tera = 1 << 40
	for _, hint := range []int64{0, 1, 10 << 30, 100 << 30, 5 * tera} {
		u := &upload{s: store(nil, 8<<20), hint: hint}
		var total int64
		for number := 1; number <= maxParts; number++ {
			size := int64(u.partSize(number))
			if size < 8<<20 || size > 5<<30 {
				t.Fatalf("hint %d: part %d has %d bytes", hint, number, size)
			}
			total += size
			if number == plannedParts && total < hint {
				t.Errorf("hint %d: %d planned parts hold %d bytes", hint, number, total)
			}
		}
		if enough := min(5*tera, max(10*hint, tera/2)); hint > 0 && total < enough || hint == 0 && total < 5*tera {
			t.Errorf("hint %d: all parts hold %d bytes", hint, total)
		}
	}
	u := &upload{s: store(nil, 0), hint: 10 << 30}
	if got := u.partSize(1); got != 8<<20 {
		t.Errorf("10 GiB go in parts of %d bytes, want 8 MiB", got)
	}
}

// TestUploadFaults: a part that fails for a time is sent again; one that fails for good, or a reader that does, ends the upload, and it is aborted.
func TestUploadFaults(t *testing.T) {
	const part = 1 << 10
	broken := errors.New("this reader fails")
	for number := 1; number <= 6; number++ {
		api := &counting{fail: func(n, try int) error {
			if n == number && try < 3 {
				return &AnswerError{Status: 503, Code: "SlowDown"}
			}
			return nil
		}}
		if _, err := store(api, part).Put(t.Context(), "k", stream(6*part), bucket.PutOptions{}); err != nil || api.aborted > 0 {
			t.Errorf("part %d fails twice: %v, aborted %d times", number, err, api.aborted)
		}
		api = &counting{fail: func(n, _ int) error {
			if n == number {
				return &AnswerError{Status: 403, Code: "AccessDenied"}
			}
			return nil
		}}
		if _, err := store(api, part).Put(t.Context(), "k", stream(600*part), bucket.PutOptions{}); !errors.Is(err, bucket.ErrDenied) || api.aborted != 1 {
			t.Errorf("part %d is denied: %v, aborted %d times", number, err, api.aborted)
		}
		api = &counting{}
		r := io.MultiReader(stream(int64(number*part+10)), failingReader{broken})
		if _, err := store(api, part).Put(t.Context(), "k", r, bucket.PutOptions{}); !errors.Is(err, broken) || api.aborted != 1 {
			t.Errorf("the reader fails in part %d: %v, aborted %d times", number+1, err, api.aborted)
		}
	}
	// What another store's reader says is not what this store says.
	r := io.MultiReader(stream(5*part), failingReader{fmt.Errorf("read the source: %w", fs.ErrNotExist)})
	_, err := store(&counting{}, part).Put(t.Context(), "k", r, bucket.PutOptions{IfMatch: "e"})
	if err == nil {
		t.Error("no error")
	}
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }
