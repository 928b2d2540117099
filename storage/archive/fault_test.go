package archive

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"

	"filippo.io/age"
	"go.uber.org/goleak"
)

var errBroken = errors.New("broken")

func TestMain(m *testing.M) {
	if raceEnabled {
		if err := flag.Set("rapid.checks", "25"); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

// brokenAt fails call n of whatever it stands in for.
type brokenAt struct {
	n     int64
	calls atomic.Int64
}

func (b *brokenAt) call() error {
	if b.calls.Add(1)-1 == b.n {
		return errBroken
	}
	return nil
}

func (b *brokenAt) hit() bool { return b.calls.Load() > b.n }

type brokenWriter struct {
	brokenAt
	w io.Writer
}

func (b *brokenWriter) Write(p []byte) (int, error) {
	if err := b.call(); err != nil {
		return 0, err
	}
	return b.w.Write(p)
}

// Each write fails in turn: the error surfaces from WritePage or Close, and what
// was written by then is no backup.
func TestEncoderWithABrokenWriter(t *testing.T) {
	id := identity(t)
	im := newImage(4, 16384, 64*2+1, 0.3)
	for _, sealed := range []bool{false, true} {
		for n, clean := int64(0), false; !clean; n++ {
			var out bytes.Buffer
			w := &brokenWriter{brokenAt{n: n}, &out}
			var err error
			if sealed {
				_, _, err = im.encodeTo(w, id.Recipient())
			} else {
				_, _, err = im.encodeTo(w)
			}
			if clean = !w.hit(); clean != (err == nil) || !clean && !errors.Is(err, errBroken) {
				t.Fatalf("write %d, encrypted %t: error %v", n, sealed, err)
			}
			// The calls of age are many; a few of its chunks do.
			if sealed && n > 5 && !clean {
				n += 4
			}
			if _, err := Open(t.Context(), bytes.NewReader(out.Bytes()), int64(out.Len()), OpenOptions{}); !clean && err == nil {
				t.Fatalf("write %d failed, and the rest is taken for a backup", n)
			}
		}
	}
}

type brokenReaderAt struct {
	brokenAt
	r io.ReaderAt
}

func (b *brokenReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if err := b.call(); err != nil {
		return 0, err
	}
	return b.r.ReadAt(p, off)
}

type brokenWriterAt struct {
	brokenAt
	w io.WriterAt
}

func (b *brokenWriterAt) WriteAt(p []byte, off int64) (int, error) {
	if err := b.call(); err != nil {
		return 0, err
	}
	return b.w.WriteAt(p, off)
}

// Each read and each write fails in turn, in every way of reading.
func TestReadersWithABrokenSource(t *testing.T) {
	id := identity(t)
	im := newImage(4, 16384, 64*3+1, 0.3)
	plain, _, _ := im.encode(t)
	sealed, _, _ := im.encode(t, id.Recipient())
	page := make([]byte, im.pageSize)
	for name, read := range map[string]func(r *Reader) error{
		"restore": func(r *Reader) error { return r.Restore(t.Context(), make(bounded, r.Manifest().Size), nil) },
		"stream":  func(r *Reader) error { _, err := io.Copy(io.Discard, r.Stream(t.Context())); return err },
		"page":    func(r *Reader) error { return r.ReadPage(t.Context(), 100, page) },
		"sums":    func(r *Reader) error { _, err := r.Sums(); return err },
	} {
		for what, b := range map[string][]byte{"plain": plain, "encrypted": sealed} {
			for n, clean := int64(0), false; !clean; n++ {
				src := &brokenReaderAt{brokenAt{n: n}, bytes.NewReader(b)}
				r, err := Open(t.Context(), src, int64(len(b)), OpenOptions{Identities: []age.Identity{id}})
				if err == nil {
					err = read(r)
				}
				if clean = !src.hit(); clean != (err == nil) || !clean && !errors.Is(err, errBroken) {
					t.Fatalf("%s, %s, read %d: error %v", name, what, n, err)
				}
				if err != nil && known(err) == nil {
					t.Fatalf("%s, %s, read %d: a broken source is called a broken backup: %v", name, what, n, err)
				}
			}
		}
	}
	for n, clean := int64(0), false; !clean; n++ {
		dst := &brokenWriterAt{brokenAt{n: n}, make(bounded, im.pageSize*len(im.pages))}
		err := open(t, plain).Restore(t.Context(), dst, nil)
		if clean = !dst.hit(); clean != (err == nil) || !clean && !errors.Is(err, errBroken) {
			t.Fatalf("write %d: error %v", n, err)
		}
	}
}

func TestCancelledReading(t *testing.T) {
	im := newImage(4, 16384, 64*12, 0)
	b, _, _ := im.encode(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	err := open(t, b).Restore(ctx, make(bounded, im.pageSize*len(im.pages)), func(done, _ int64) {
		if done >= 3*FrameSize {
			cancel(cause)
		}
	})
	if !errors.Is(err, cause) {
		t.Errorf("restore: %v", err)
	}
	if _, err := io.Copy(io.Discard, open(t, b).Stream(ctx)); !errors.Is(err, cause) {
		t.Errorf("stream: %v", err)
	}
	if err := open(t, b).ReadPage(ctx, 1, make([]byte, im.pageSize)); !errors.Is(err, cause) {
		t.Errorf("page: %v", err)
	}
	if _, err := Open(ctx, bytes.NewReader(b), int64(len(b)), OpenOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v", err)
	}
}

func TestEncoderRefusesWhatItWasNotPromised(t *testing.T) {
	sound := EncoderOptions{Table: "users", Created: created, PageSize: 512, PageCount: 2}
	for name, change := range map[string]func(o *EncoderOptions){
		"no table": func(o *EncoderOptions) { o.Table = "" }, "bad table": func(o *EncoderOptions) { o.Table = "a/b" },
		"no page size": func(o *EncoderOptions) { o.PageSize = 0 }, "odd page size": func(o *EncoderOptions) { o.PageSize = 1000 },
		"no pages": func(o *EncoderOptions) { o.PageCount = 0 }, "too many pages": func(o *EncoderOptions) { o.PageCount = 1 << 32 },
	} {
		o := sound
		change(&o)
		if _, err := NewEncoder(io.Discard, o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	page := make([]byte, 512)
	e := func() *Encoder {
		e, err := NewEncoder(io.Discard, sound)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	short := e()
	if err := short.WritePage(page[1:], false); err == nil {
		t.Error("a page of 511 bytes was accepted")
	}
	if _, err := short.Close(Manifest{}); err == nil {
		t.Error("closed without its pages")
	}
	full := e()
	for range 2 {
		if err := full.WritePage(page, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := full.WritePage(page, false); err == nil {
		t.Error("a third page of two was accepted")
	}
	if _, err := full.Close(Manifest{State: "odd"}); err == nil {
		t.Error("an unknown state was written")
	}
	if _, err := full.Close(Manifest{}); err == nil {
		t.Error("closed twice")
	}
}

// A page may be nil if it is free; progress comes in order and ends at the size.
func TestProgressAndFreePages(t *testing.T) {
	var out bytes.Buffer
	e, err := NewEncoder(&out, EncoderOptions{Table: "users", Created: created, PageSize: 65536, PageCount: 40})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 40 {
		var page []byte
		if n%2 == 0 {
			page = bytes.Repeat([]byte{7}, 65536)
		}
		if err := e.WritePage(page, page == nil); err != nil {
			t.Fatal(err)
		}
	}
	m, err := e.Close(Manifest{})
	if err != nil || m.FreePages != 20 {
		t.Fatalf("free pages %d, %v", m.FreePages, err)
	}
	var last int64
	err = open(t, out.Bytes()).Restore(t.Context(), make(bounded, m.Size), func(done, total int64) {
		if done <= last || total != m.Size {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
	})
	if err != nil || last != m.Size {
		t.Errorf("progress ended at %d of %d, %v", last, m.Size, err)
	}
}

// Runs of zeros become holes, and the file has its length and content all the same.
func TestSparseRestore(t *testing.T) {
	im := newImage(4, 4096, 256*16, 0)
	for i := range im.free {
		im.free[i] = i > 100 && i < 4000 || i > 4090
	}
	b, m, _ := im.encode(t)
	f, err := os.Create(filepath.Join(t.TempDir(), "restored"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	counting := &countingAt{f: f}
	if err := open(t, b).Restore(t.Context(), Sparse{counting}, nil); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(f.Name())
	if err != nil || !bytes.Equal(got, im.want()) {
		t.Fatalf("content differs (%v)", err)
	}
	if used := (m.PageCount - m.FreePages) * 4096; counting.n.Load() != used {
		t.Errorf("%d bytes written, %d of the pages are not free", counting.n.Load(), used)
	}
}

type countingAt struct {
	f *os.File
	n atomic.Int64
}

func (c *countingAt) WriteAt(p []byte, off int64) (int, error) {
	c.n.Add(int64(len(p)))
	return c.f.WriteAt(p, off)
}

func (c *countingAt) Truncate(size int64) error { return c.f.Truncate(size) }

// Four times the table takes no more memory, but for four bytes a page.
func TestMemoryIsConstant(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates too")
	}
	im := newImage(4, 16384, 64, 0)
	allocated := func(frames int) int64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		e, err := NewEncoder(io.Discard, EncoderOptions{Table: "users", Created: created, PageSize: 16384, PageCount: int64(frames * 64), Concurrency: 2})
		if err != nil {
			t.Fatal(err)
		}
		for range frames {
			for _, page := range im.pages {
				if err := e.WritePage(page, false); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := e.Close(Manifest{}); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return int64(after.TotalAlloc - before.TotalAlloc)
	}
	small, large := allocated(64), allocated(256)
	t.Logf("64 MiB took %d KiB, 256 MiB %d KiB", small>>10, large>>10)
	if large > small+2<<20 || large > 40<<20 {
		t.Errorf("256 MiB took %d bytes of memory, 64 MiB %d", large, small)
	}
}
