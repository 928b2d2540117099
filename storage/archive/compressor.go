package archive

import (
	"github.com/klauspost/compress/zstd"
)

const (
	// groupFrames is how many frames go by the outcome of their first. It is more than are ever in flight, so that no two first
	// ones are compressed at once.
	groupFrames = 32

	// codingPays is the least that coding must save of a frame: one byte in so many.
	codingPays = 50
)

// compressor makes zstd frames at the fastest level, with a checksum and the content's size in each. Coding the literals, which
// takes a third of the time, saves next to nothing where they are pictures, keys or what is compressed already. So the
// first frame of each group is compressed both ways, and the others the way that was worth it. The result depends on the
// content alone.
type compressor struct {
	coded, plain *zstd.Encoder
	group        *group // the current one
	joined       int    // frames in it
	trial        []byte // of the first frame of a group
}

// group is a run of frames, those of zeros left out.
type group struct {
	decided chan struct{} // closed when plain is known
	plain   bool          // do not code
}

// newCompressor compresses n frames at once, of up to size bytes. It starts no goroutine and holds nothing to be closed.
func newCompressor(n, size int) (*compressor, error) {
	window := zstd.MinWindowSize
	for window < size {
		window *= 2
	}
	with := func(plain bool) (*zstd.Encoder, error) {
		return zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderConcurrency(n),
			zstd.WithWindowSize(window),
			zstd.WithLowerEncoderMem(true),
			zstd.WithSingleSegment(true),
			zstd.WithEncoderCRC(true),
			zstd.WithNoEntropyCompression(plain))
	}
	coded, err := with(false)
	if err != nil {
		return nil, err
	}
	plain, err := with(true)
	return &compressor{coded: coded, plain: plain}, err
}

// join gives the group of the next frame, and says whether that leads it. It is for one goroutine.
func (c *compressor) join() (g *group, leads bool) {
	if c.group == nil || c.joined == groupFrames {
		c.group, c.joined = &group{decided: make(chan struct{})}, 0
	}
	c.joined++
	return c.group, c.joined == 1
}

// compress appends the frame of raw to out, which is empty. Each group has one frame that leads.
func (c *compressor) compress(g *group, leads bool, raw, out []byte) []byte {
	if leads {
		return c.lead(g, raw, out)
	}
	if <-g.decided; g.plain {
		return c.plain.EncodeAll(raw, out)
	}
	return c.coded.EncodeAll(raw, out)
}

func (c *compressor) lead(g *group, raw, out []byte) []byte {
	defer close(g.decided)
	out = c.coded.EncodeAll(raw, out)
	c.trial = c.plain.EncodeAll(raw, c.trial[:0])
	g.plain = len(c.trial)-len(out) < len(c.trial)/codingPays
	if g.plain && len(c.trial) < len(out) {
		out = append(out[:0], c.trial...)
	}
	return out
}
