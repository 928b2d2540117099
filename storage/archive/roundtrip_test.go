package archive

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"tablekeeper/storage/ledger"
)

// Whatever the page size, the share of free pages and the place of the last
// page in its frame: what comes out is what went in, with free pages as zeros,
// by every way of reading.
func TestWhatGoesInComesOut(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		pageSize := 512 << rapid.IntRange(0, 7).Draw(rt, "page size shift")
		perFrame := FrameSize / pageSize
		pages := max(1, rapid.IntRange(0, 2).Draw(rt, "frames")*perFrame+rapid.IntRange(-2, 2).Draw(rt, "pages more"))
		share := rapid.SampledFrom([]float64{0, 0.5, 0.98, 1}).Draw(rt, "free share")
		im := newImage(rapid.Uint64().Draw(rt, "seed"), pageSize, pages, share)
		var ids []age.Identity
		var to []age.Recipient
		if rapid.Bool().Draw(rt, "encrypted") {
			id := identity(t)
			ids, to = append(ids, id), append(to, id.Recipient())
		}
		checkRoundTrip(t, im, ids, to)
	})
}

func identity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func checkRoundTrip(t *testing.T, im *image, ids []age.Identity, to []age.Recipient) {
	t.Helper()
	want := im.want()
	b, m, sums := im.encode(t, to...)
	if m.SHA256 != sha(want) || m.Size != int64(len(want)) || m.SumsSHA256 != sha(sums.Bytes()) {
		t.Fatalf("manifest %+v does not describe %d bytes with SHA-256 %s", m, len(want), sha(want))
	}
	r := open(t, b, ids...)
	if got := r.Manifest(); got.SHA256 != m.SHA256 || got.FreePages != m.FreePages || !got.Created.Equal(created) ||
		got.Rows["users"] != 3 || got.ToolVersion != "0.1.0" || got.SumsSHA256 != m.SumsSHA256 {
		t.Fatalf("manifest read %+v, written %+v", got, m)
	}
	if !bytes.Equal(restored(t, r), want) {
		t.Fatal("restored bytes differ")
	}
	got, err := r.Sums()
	if err != nil || !slices.Equal(got, sums) {
		t.Fatalf("sums differ from those written (%v)", err)
	}
	streamed, err := io.ReadAll(open(t, b, ids...).Stream(t.Context()))
	if err != nil || !bytes.Equal(streamed, want) {
		t.Fatalf("streamed bytes differ (%v)", err)
	}
	checkPagesAlone(t, open(t, b, ids...), want)
}

// checkPagesAlone reads the pages around each frame's ends, one by one and at once.
func checkPagesAlone(t *testing.T, r *Reader, want []byte) {
	t.Helper()
	m := r.Manifest()
	per := r.pagesPerFrame()
	var some []int64
	for first := int64(1); first <= m.PageCount; first += per {
		some = append(some, min(first+per-1, m.PageCount), first)
	}
	page := make([]byte, m.PageSize)
	at := func(n int64) []byte { return want[(n-1)*int64(m.PageSize):][:m.PageSize] }
	for _, n := range some {
		if err := r.ReadPage(t.Context(), n, page); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(page, at(n)) {
			t.Fatalf("page %d differs", n)
		}
	}
	var seen []int64
	if err := r.ReadPages(t.Context(), some, func(n int64, content []byte) error {
		seen = append(seen, n)
		if !bytes.Equal(content, at(n)) {
			t.Fatalf("page %d differs among many", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if all := slices.Compact(slices.Sorted(slices.Values(some))); !slices.Equal(seen, all) {
		t.Fatalf("pages %v, want %v", seen, all)
	}
}

// The lock page of a table over 1 GiB is zeros whatever the caller gives, and
// counts: the file's length stays page count times page size.
func TestLockPage(t *testing.T) {
	const pageSize, pages = 65536, 16384 + 2
	var out bytes.Buffer
	e, err := NewEncoder(&out, EncoderOptions{Table: "big", Created: created, PageSize: pageSize, PageCount: pages})
	if err != nil {
		t.Fatal(err)
	}
	rubbish := bytes.Repeat([]byte{0xaa}, pageSize)
	for n := int64(1); n <= pages; n++ {
		free := n > 1 && n < 16384 || n == 16385
		if err := e.WritePage(rubbish, free); err != nil {
			t.Fatal(err)
		}
	}
	m, err := e.Close(Manifest{})
	if err != nil {
		t.Fatal(err)
	}
	if m.Size != pages*pageSize || m.FreePages != 16382 {
		t.Fatalf("size %d, %d free pages", m.Size, m.FreePages)
	}
	r := open(t, out.Bytes())
	page := make([]byte, pageSize)
	for n, want := range map[int64]byte{1: 0xaa, 2: 0, 16384: 0xaa, 16385: 0, 16386: 0xaa} {
		if err := r.ReadPage(t.Context(), n, page); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(page, bytes.Repeat([]byte{want}, pageSize)) {
			t.Errorf("page %d is not all %#x", n, want)
		}
	}
	if e.Sums()[16384] != ledger.Sum(make([]byte, pageSize)) {
		t.Error("sum of the lock page is not that of zeros")
	}
	if limit := 512 << 10; out.Len() > limit {
		t.Errorf("1 GiB of free pages took %d bytes, over %d", out.Len(), limit)
	}
}

// What klauspost's own decoder makes of the stream is what zstd -d would.
func TestPlainZstdDecodes(t *testing.T) {
	im := newImage(3, 4096, 600, 0.4)
	b, _, _ := im.encode(t)
	dec, err := zstd.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	got, err := io.ReadAll(dec)
	if err != nil || !bytes.Equal(got, im.want()) {
		t.Fatalf("decoded bytes differ (%v)", err)
	}
}

type countingReaderAt struct {
	r       io.ReaderAt
	calls   int
	fetched int64
}

func (c *countingReaderAt) ReadAt(p []byte, off int64) (int, error) {
	c.calls++
	c.fetched += int64(len(p))
	return c.r.ReadAt(p, off)
}

// Opening fetches the tail, a page its frame and that frame's sums, and
// neighbouring frames come at once.
func TestLittleIsFetched(t *testing.T) {
	im := newImage(6, 4096, 256*20, 0)
	b, _, _ := im.encode(t)
	src := &countingReaderAt{r: bytes.NewReader(b)}
	r, err := Open(t.Context(), src, int64(len(b)), OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if src.calls != 1 || src.fetched > tailRead {
		t.Errorf("opening took %d reads of %d bytes", src.calls, src.fetched)
	}
	*src = countingReaderAt{r: src.r}
	if err := r.ReadPage(t.Context(), 1000, make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	if frame := r.offsets[4] - r.offsets[3]; src.calls != 2 || src.fetched != frame+256*ledger.SumSize {
		t.Errorf("a page took %d reads of %d bytes, its frame is %d long", src.calls, src.fetched, frame)
	}
	*src = countingReaderAt{r: src.r}
	if err := r.ReadPages(t.Context(), []int64{1, 300, 600, 5000}, func(int64, []byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if want := r.offsets[3] + r.offsets[20] - r.offsets[19] + 4*256*ledger.SumSize; src.calls != 2+4 || src.fetched != want {
		t.Errorf("four pages of frames 0, 1, 2 and 19 took %d reads of %d bytes, want 6 of %d", src.calls, src.fetched, want)
	}
}

// An error of whoever uses the pages comes back as it is.
func TestReadPagesPassesErrorsOn(t *testing.T) {
	im := newImage(6, 4096, 10, 0)
	b, _, _ := im.encode(t)
	r := open(t, b)
	if err := r.ReadPages(t.Context(), []int64{1}, func(int64, []byte) error { return errBroken }); !errors.Is(err, errBroken) {
		t.Errorf("error %v", err)
	}
	for _, n := range []int64{0, -1, 11, 1 << 40} {
		if err := r.ReadPage(t.Context(), n, make([]byte, 4096)); err == nil {
			t.Errorf("page %d was read", n)
		}
	}
	if err := r.ReadPage(t.Context(), 1, make([]byte, 512)); err == nil {
		t.Error("a page was read into a short buffer")
	}
}
