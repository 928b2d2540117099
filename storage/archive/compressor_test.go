package archive

import (
	"bytes"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
)

const testFrame = 64 << 10

func noise(n int) []byte {
	b := make([]byte, testFrame)
	_, _ = mathrand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// text has digits, which take 4 of 8 bits, between words that repeat.
func text(n int) []byte {
	var b bytes.Buffer
	for rnd := mathrand.NewPCG(1, uint64(n)); b.Len() < testFrame; {
		fmt.Fprintf(&b, "{id: %x, token: %x} ", rnd.Uint64(), rnd.Uint64())
	}
	return b.Bytes()[:testFrame]
}

// rows are of words and noise.
func rows(n int) []byte {
	b := noise(n)
	for at := 0; at+1000 < len(b); at += 1000 {
		copy(b[at:at+500], bytes.Repeat(fmt.Appendf(nil, "a word %d ", n), 60))
	}
	return b
}

// compressAll compresses frames as the pipeline does: as many at once as are ever in flight.
func compressAll(t *testing.T, c *compressor, frames [][]byte) [][]byte {
	t.Helper()
	out := make([][]byte, len(frames))
	var busy sync.WaitGroup
	room := make(chan struct{}, framesInFlight(maxConcurrency))
	for i, raw := range frames {
		room <- struct{}{}
		g, leads := c.join()
		busy.Go(func() {
			out[i] = c.compress(g, leads, raw, nil)
			<-room
		})
	}
	busy.Wait()
	return out
}

func total(frames [][]byte) (n int) {
	for _, f := range frames {
		n += len(f)
	}
	return n
}

// The choice of how to compress shows in nothing but the size, which is about what coding everything gives.
func TestLiteralsAreCodedWhereItPays(t *testing.T) {
	if framesInFlight(maxConcurrency) >= groupFrames {
		t.Error("two frames that lead may be compressed at once")
	}
	for _, c := range []struct {
		name  string
		fill  func(n int) []byte
		plain bool
	}{{"noise", noise, true}, {"rows", rows, true}, {"text", text, false}} {
		t.Run(c.name, func(t *testing.T) {
			var frames [][]byte
			for n := range groupFrames + groupFrames/2 {
				frames = append(frames, c.fill(n))
			}
			z, err := newCompressor(2, testFrame)
			if err != nil {
				t.Fatal(err)
			}
			got := compressAll(t, z, frames)
			decoder, err := zstd.NewReader(nil)
			if err != nil {
				t.Fatal(err)
			}
			defer decoder.Close()
			coded, plain := 0, 0
			for i, raw := range frames {
				if back, err := decoder.DecodeAll(got[i], nil); err != nil || !bytes.Equal(back, raw) {
					t.Fatalf("frame %d: other content comes back: %v", i, err)
				}
				coded += len(z.coded.EncodeAll(raw, nil))
				plain += len(z.plain.EncodeAll(raw, nil))
			}
			t.Logf("coded %d, plain %d, chosen %d", coded, plain, total(got))
			if total(got) > coded+coded/codingPays {
				t.Errorf("%d bytes, coding all gives %d", total(got), coded)
			}
			if z.group.plain != c.plain || !c.plain && plain < coded*3/2 {
				t.Errorf("plain: %t; %d coded, %d plain", z.group.plain, coded, plain)
			}
			if again, err := newCompressor(1, testFrame); err != nil || !equalFrames(compressAll(t, again, frames), got) {
				t.Errorf("the same content gives different frames (%v)", err)
			}
		})
	}
}

func equalFrames(a, b [][]byte) bool {
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return len(a) == len(b)
}

// What leads a group need not be what follows: the next group finds out.
func TestEachGroupChoosesAnew(t *testing.T) {
	z, err := newCompressor(1, testFrame)
	if err != nil {
		t.Fatal(err)
	}
	for i, fill := range []func(int) []byte{noise, text, rows} {
		for n := range groupFrames {
			g, leads := z.join()
			if leads != (n == 0) {
				t.Fatalf("frame %d leads: %t", n, leads)
			}
			if n < 2 {
				z.compress(g, leads, fill(n), nil)
			}
		}
		if z.group.plain != (i != 1) {
			t.Errorf("group %d is plain: %t", i, z.group.plain)
		}
	}
}
