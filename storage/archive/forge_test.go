package archive

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"tablekeeper/storage/ledger"
)

// forgery builds objects that no Encoder writes.
type forgery struct {
	frames   [][]byte       // compressed data
	raw      []uint32       // what the seek table says that each decodes to
	sums     []byte         // payload
	manifest map[string]any // of the manifest's JSON
	change   func(t *seekTable)
}

// forge begins with a sound backup of two frames.
func forge(t testing.TB) *forgery {
	t.Helper()
	im := newImage(9, 4096, 260, 0)
	want := im.want()
	compressor, err := newCompressor(1, FrameSize)
	if err != nil {
		t.Fatal(err)
	}
	f := &forgery{raw: []uint32{FrameSize, uint32(len(want) - FrameSize)}}
	f.frames = [][]byte{compressor.coded.EncodeAll(want[:FrameSize], nil), compressor.coded.EncodeAll(want[FrameSize:], nil)}
	var sums ledger.Sums
	for i := range im.pages {
		sums = append(sums, ledger.Sum(want[i*4096:][:4096]))
	}
	f.sums = sums.Bytes()
	f.manifest = map[string]any{
		"format": 1, "table": "users", "created": created, "page_size": 4096, "page_count": 260, "size": len(want),
		"sha256": sha(want), "sums_sha256": sha(f.sums), "rows": map[string]int{"users": 1},
	}
	return f
}

func (f *forgery) clone() *forgery {
	return &forgery{slices.Clone(f.frames), slices.Clone(f.raw), bytes.Clone(f.sums), maps.Clone(f.manifest), nil}
}

func (f *forgery) bytes(t testing.TB) []byte {
	t.Helper()
	var out []byte
	var table seekTable
	for i, frame := range f.frames {
		out = append(out, frame...)
		table.add(len(frame), int(f.raw[i]))
	}
	text, err := json.Marshal(f.manifest)
	if err != nil {
		t.Fatal(err)
	}
	out = appendSkippable(out, sumsMagic, f.sums)
	table.add(len(f.sums)+skippableHeader, 0)
	out = appendSkippable(out, manifestMagic, append(binary.LittleEndian.AppendUint32(nil, ledger.Sum(text)), text...))
	table.add(len(text)+skippableHeader+4, 0)
	if f.change != nil {
		f.change(&table)
	}
	end, err := table.bytes()
	if err != nil {
		t.Fatal(err)
	}
	return append(out, end...)
}

// readAll opens and restores, and gives the first error.
func readAll(t testing.TB, b []byte, opts OpenOptions) error {
	t.Helper()
	r, err := Open(t.Context(), bytes.NewReader(b), int64(len(b)), opts)
	if err != nil {
		return err
	}
	return r.Restore(t.Context(), make(bounded, r.Manifest().Size), nil)
}

// streamed is a frame that does not say its size.
func streamed(t testing.TB, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	for part := range bytes.SplitAfterSeq(content, []byte{0}) {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// rle is a frame that says it is of size bytes and repeats zeros in blocks of
// 128 KiB: ten bytes for each gigabyte that a careless reader would allocate.
func rle(size uint32, blocks int) []byte {
	out := binary.LittleEndian.AppendUint32(nil, dataMagic)
	out = append(out, 0b10100000) // single segment, 4 bytes of content size
	out = binary.LittleEndian.AppendUint32(out, size)
	for i := range blocks {
		head := uint32(128<<10)<<3 | 1<<1
		if i == blocks-1 {
			head |= 1
		}
		out = append(out, byte(head), byte(head>>8), byte(head>>16), 0)
	}
	return out
}
