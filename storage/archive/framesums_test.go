package archive

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"testing"

	"tablekeeper/storage/needtest"
)

// A frame whose own checksum is damaged is refused, as the zstd program refuses it; a reader that goes by the sums of pages and of the whole
// reads it.
func TestFrameSums(t *testing.T) {
	im := newImage(3, 512, 12, 0.3)
	b, _, _ := im.encode(t)
	end := open(t, b).offsets[1]
	b[end-1] ^= 1
	cmd := exec.CommandContext(t.Context(), needtest.Program(t, "zstd"), "-t")
	cmd.Stdin = bytes.NewReader(b)
	if err := cmd.Run(); err == nil {
		t.Error("the zstd program takes it")
	}
	r := open(t, b)
	if err := r.Restore(t.Context(), make(bounded, r.Manifest().Size), nil); !errors.Is(err, ErrSum) {
		t.Errorf("a strict reader: %v, want %v", err, ErrSum)
	}
	r = open(t, b)
	r.SkipFrameSums()
	if !bytes.Equal(restored(t, r), im.want()) {
		t.Error("other content is restored")
	}
	if got, err := io.ReadAll(r.Stream(t.Context())); err != nil || !bytes.Equal(got, im.want()) {
		t.Errorf("other content is streamed: %v", err)
	}
}

// Without the checksums of frames, any flipped bit is seen as well, or changes nothing that is read.
func TestFlippedBitsWithoutFrameSums(t *testing.T) {
	im := newImage(4, 512, 12, 0.3)
	want := im.want()
	b, _, _ := im.encode(t)
	seen := 0
	for bit := range int(open(t, b).offsets[1]) * 8 {
		if raceEnabled && bit%29 != 0 {
			continue
		}
		flipped := bytes.Clone(b)
		flipped[bit/8] ^= 1 << (bit % 8)
		r := open(t, flipped)
		r.SkipFrameSums()
		out := make(bounded, r.Manifest().Size)
		err := r.Restore(t.Context(), out, nil)
		if err == nil && !bytes.Equal(out, want) {
			t.Errorf("bit %d of byte %d: the content differs, unseen", bit%8, bit/8)
		}
		if err != nil {
			seen++
			if problem := known(err); problem != nil {
				t.Errorf("bit %d of byte %d: %v", bit%8, bit/8, problem)
			}
		}
	}
	if seen == 0 {
		t.Error("no flipped bit is seen at all")
	}
}
