package table

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tablekeeper/storage/ledger"
)

func TestFoldIsTheChecksumOfTheWAL(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		for n := 0; n <= 4096; n += 8 * (1 + n/64) {
			b := make([]byte, n)
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			slow := walSum{order: order, s0: 3, s1: 5}
			fast := slow
			slow.add(b)
			if fold(&fast, b); fast != slow {
				t.Fatalf("%d bytes, %v: %v, want %v", n, order, fast, slow)
			}
		}
	}
}

// makeWAL builds a WAL of transactions, each a list of pages; the last page of each ends it. torn leaves out the end of the last
// transaction.
func makeWAL(salt uint32, pageSize int, torn bool, transactions ...[]uint32) []byte {
	be := binary.BigEndian
	b := be.AppendUint32(nil, walMagic)
	for _, v := range []uint32{walFormat, uint32(pageSize), 0, salt, 99} {
		b = be.AppendUint32(b, v)
	}
	sum := walSum{order: binary.LittleEndian}
	sum.add(b)
	b = be.AppendUint32(be.AppendUint32(b, sum.s0), sum.s1)
	for i, pages := range transactions {
		for j, page := range pages {
			commit := uint32(0)
			if j == len(pages)-1 && !(torn && i == len(transactions)-1) {
				commit = 50
			}
			head := be.AppendUint32(be.AppendUint32(nil, page), commit)
			content := bytes.Repeat([]byte{byte(page), byte(i), 0, 0}, pageSize/4)
			sum.add(head)
			sum.add(content)
			head = be.AppendUint32(be.AppendUint32(head, salt), 99)
			head = be.AppendUint32(be.AppendUint32(head, sum.s0), sum.s1)
			b = append(append(b, head...), content...)
		}
	}
	return b
}

func pagesOf(frames []ledger.Frame) []uint32 {
	var pages []uint32
	for _, f := range frames {
		pages = append(pages, f.Page)
	}
	return pages
}

func TestTailReadsEachCommittedFrameOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wal")
	put := func(b []byte) { must(t, os.WriteFile(path, b, 0o600)) }
	put(nil)
	f, err := os.Open(path)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	w := walTail{file: f, pageSize: 512}
	want := func(pages ...uint32) {
		t.Helper()
		frames, err := w.read(math.MaxInt64)
		if err != nil || !slices.Equal(pagesOf(frames), pages) {
			t.Fatalf("read pages %v, %v; want %v", pagesOf(frames), err, pages)
		}
	}
	want()
	put(makeWAL(1, 512, true, []uint32{1, 2}, []uint32{7, 8}))
	want(1, 2)
	want()
	put(makeWAL(1, 512, false, []uint32{1, 2}, []uint32{7, 8}))
	want(7, 8)
	w.rewind()
	want(7, 8)
	put(makeWAL(2, 512, false, []uint32{9}, []uint32{4}))
	if frames, err := w.read(1); err != nil || !slices.Equal(pagesOf(frames), []uint32{9}) {
		t.Fatalf("read up to frame 1: %v, %v", pagesOf(frames), err)
	}
	put(makeWAL(2, 512, false, []uint32{9}))
	w.rewind()
	want(9)
	if w.frame != 1 || w.gen.Salt1 != 2 {
		t.Fatalf("at frame %d of %v", w.frame, w.gen)
	}
	put(makeWAL(2, 1024, false, []uint32{9}))
	if _, err := w.read(math.MaxInt64); asDamage(err) == nil {
		t.Fatalf("another page size: %v", err)
	}
}

// Longer than one chunk, and larger than the pages of a chunk.
func TestTailReadsLongWAL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wal")
	var pages []uint32
	for p := range uint32(3000) {
		pages = append(pages, p+1)
	}
	must(t, os.WriteFile(path, makeWAL(1, 512, false, pages), 0o600))
	f, err := os.Open(path)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	w := walTail{file: f, pageSize: 512}
	if frames, err := w.read(math.MaxInt64); err != nil || !slices.Equal(pagesOf(frames), pages) {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
	gen, err := walGeneration(f)
	if err != nil || gen != w.gen {
		t.Fatalf("generation %v, %v", gen, err)
	}
	for frames, want := range map[int64]bool{1: true, 3000: true, 3001: false} {
		if full, err := reaches(f, gen, 512, frames); err != nil || full != want {
			t.Fatalf("reaches %d: %v %v", frames, full, err)
		}
	}
}

func FuzzWALTail(f *testing.F) {
	f.Add(makeWAL(1, 512, false, []uint32{1, 2}, []uint32{3}))
	f.Add(makeWAL(1, 512, true, []uint32{1}))
	f.Add([]byte{0x37, 0x7f, 6, 0x82})
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "wal")
		must(t, os.WriteFile(path, b, 0o600))
		file, err := os.Open(path)
		must(t, err)
		defer func() { must(t, file.Close()) }()
		w := walTail{file: file, pageSize: 512}
		frames, err := w.read(math.MaxInt64)
		if err != nil && asDamage(err) == nil {
			t.Fatal(err)
		}
		if len(frames) > 0 && (frames[len(frames)-1].Pages == 0 || int64(len(frames))*(512+walFrameSize)+walHeaderSize > int64(len(b))) {
			t.Fatalf("%d frames out of %d bytes", len(frames), len(b))
		}
	})
}
