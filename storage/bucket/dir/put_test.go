package dir_test

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"tablekeeper/storage/bucket"
)

// spoiled has the sums of its source, and changes a bit on the way, or loses or adds bytes.
type spoiled struct {
	bucket.Summed
	spoil func(p []byte, n int, err error) (int, error)
}

func (s spoiled) Read(p []byte) (int, error) {
	n, err := s.Summed.Read(p)
	return s.spoil(p, n, err)
}

// TestPutComparesWhatItWrote: sums that came with the bytes are not believed of other bytes.
func TestPutComparesWhatItWrote(t *testing.T) {
	text := strings.Repeat("content ", 1000)
	extra := false
	for name, spoil := range map[string]func(p []byte, n int, err error) (int, error){
		"a bit flips": func(p []byte, n int, err error) (int, error) {
			if n > 0 {
				p[n/2] ^= 4
			}
			return n, err
		},
		"a byte is lost": func(_ []byte, n int, err error) (int, error) { return max(n-1, 0), err },
		"a byte is added": func(p []byte, n int, err error) (int, error) {
			if n == 0 && !extra {
				extra = true
				return copy(p, "x"), nil
			}
			return n, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, path := open(t)
			if _, err := b.Put(t.Context(), "old", strings.NewReader("old"), bucket.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"new", "old"} {
				extra = false
				_, err := b.Put(t.Context(), key, spoiled{bucket.Sum(strings.NewReader(text)), spoil}, bucket.PutOptions{})
				if !errors.Is(err, bucket.ErrNotStored) {
					t.Errorf("put %s: %v, want %v", key, err, bucket.ErrNotStored)
				}
			}
			if _, err := b.Head(t.Context(), "new"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the object is there: %v", err)
			}
			rc, err := b.Get(t.Context(), "old", 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(rc); string(got) != "old" || errors.Join(err, rc.Close()) != nil {
				t.Errorf("what was there is %q, %v", got, err)
			}
			if left := litter(t, path); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
