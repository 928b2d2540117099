package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"filippo.io/age"
)

func TestHostileObjects(t *testing.T) {
	sound := forge(t)
	if err := readAll(t, sound.bytes(t), OpenOptions{}); err != nil {
		t.Fatalf("the forgery is no good to begin with: %v", err)
	}
	set := func(name string, value any) func(*forgery) {
		return func(f *forgery) { f.manifest[name] = value }
	}
	for _, tc := range []struct {
		name   string
		change func(f *forgery)
		want   error
	}{
		{"newer format", set("format", 2), ErrNewer},
		{"newer format of other types", func(f *forgery) { f.manifest = map[string]any{"format": 3, "size": "big", "tool_version": "9"} }, ErrNewer},
		{"no format", set("format", nil), ErrFormat},
		{"format below", set("format", -1), ErrFormat},
		{"format too large for an int", set("format", 1e30), ErrFormat},
		{"table outside", set("table", "../users"), ErrFormat},
		{"page size no power of two", set("page_size", 4095), ErrFormat},
		{"page size zero", set("page_size", 0), ErrFormat},
		{"page size too large", set("page_size", 131072), ErrFormat},
		{"another page size", set("page_size", 8192), ErrFormat},
		{"no pages", set("page_count", 0), ErrFormat},
		{"negative pages", set("page_count", -260), ErrFormat},
		{"pages overflow", func(f *forgery) { f.manifest["page_count"], f.manifest["size"] = int64(1)<<52, int64(0) }, ErrFormat},
		{"a huge size that adds up", func(f *forgery) { f.manifest["page_count"], f.manifest["size"] = int64(1)<<30, int64(1)<<42 }, ErrFormat},
		{"size differs", set("size", 1), ErrFormat},
		{"one page more", func(f *forgery) { f.manifest["page_count"], f.manifest["size"] = 261, 261*4096 }, ErrFormat},
		{"free pages", set("free_pages", 261), ErrFormat},
		{"negative rows", set("rows", map[string]int{"users": -1}), ErrFormat},
		{"unknown state", set("state", "fine"), ErrFormat},
		{"sha256 short", set("sha256", "00"), ErrFormat},
		{"sha256 of other content", set("sha256", sha(nil)), ErrSum},
		{"sums' sha256 of other sums", set("sums_sha256", sha(nil)), ErrSum},
		{"no time", set("created", nil), ErrFormat},
		{"not JSON", func(f *forgery) { f.manifest = nil }, ErrFormat},
		{"sum of a page differs", func(f *forgery) { f.sums[4]++; f.manifest["sums_sha256"] = sha(f.sums) }, ErrSum},
		{"sums too short", func(f *forgery) { f.sums = f.sums[:len(f.sums)-4] }, ErrFormat},
		{"frame without its size", func(f *forgery) { f.frames[0] = streamed(t, make([]byte, FrameSize)) }, ErrFormat},
		{"frame of another size", func(f *forgery) { f.frames[0] = rle(1<<30, 8192) }, ErrFormat},
		{"frame decodes to more than it says", func(f *forgery) { f.frames[0] = rle(FrameSize, 8192) }, ErrFormat},
		{"frame decodes to less than it says", func(f *forgery) { f.frames[0] = rle(FrameSize, 1) }, ErrFormat},
		{"two frames in one", func(f *forgery) { f.frames[0] = append(rle(FrameSize, 8), rle(FrameSize, 8)...) }, ErrFormat},
		{"skippable for data", func(f *forgery) { f.frames[0] = appendSkippable(nil, sumsMagic, make([]byte, 50)) }, ErrFormat},
		{"other content", func(f *forgery) { f.frames[0] = rle(FrameSize, 8) }, ErrSum},
		{"empty frame", func(f *forgery) { f.frames[0] = nil }, ErrFormat},
		{"frame of 2 MiB", func(f *forgery) { f.frames[0] = make([]byte, 2<<20) }, ErrFormat},
		{"frames swapped", func(f *forgery) { f.frames[0], f.frames[1] = f.frames[1], f.frames[0] }, ErrFormat},
		{"table: raw size differs", func(f *forgery) { f.raw[0]-- }, ErrFormat},
		{"table: raw size zero", func(f *forgery) { f.raw[1] = 0 }, ErrFormat},
		{"table: one frame split", func(f *forgery) {
			f.change = func(t *seekTable) {
				t.entries[0].compressed -= 9
				t.entries[1].compressed += 9
			}
		}, ErrFormat},
		{"table: past the end", func(f *forgery) { f.change = func(t *seekTable) { t.entries[0].compressed = 1<<32 - 1 } }, ErrFormat},
		{"table: before the end", func(f *forgery) { f.change = func(t *seekTable) { t.entries[0].compressed-- } }, ErrFormat},
		{"table: one entry less", func(f *forgery) { f.change = func(t *seekTable) { t.entries = t.entries[1:] } }, ErrFormat},
		{"table: empty", func(f *forgery) { f.change = func(t *seekTable) { t.entries = nil } }, ErrFormat},
		{"table: manifest decodes", func(f *forgery) { f.change = func(t *seekTable) { t.entries[3].decompressed = 1 } }, ErrFormat},
		{"table: sums decode", func(f *forgery) { f.change = func(t *seekTable) { t.entries[2].decompressed = 1 } }, ErrFormat},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := sound.clone()
			tc.change(f)
			err := readAll(t, f.bytes(t), OpenOptions{MaxSize: 1 << 43})
			if !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
		})
	}
}

func TestTheCallersLimit(t *testing.T) {
	b := forge(t).bytes(t)
	if err := readAll(t, b, OpenOptions{MaxSize: 260 * 4096}); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if err := readAll(t, b, OpenOptions{MaxSize: 260*4096 - 1}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a byte over the limit: %v", err)
	}
	// A table of 512 MB in 600 bytes, refused on the word of its seek table.
	f := forge(t)
	f.change = func(t *seekTable) { t.entries = append(t.entries, make([]seekTableEntry, 512)...) }
	if err := readAll(t, f.bytes(t), OpenOptions{MaxSize: 260 * 4096}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a long seek table: %v", err)
	}
}

func TestNotABackupAtAll(t *testing.T) {
	id := identity(t)
	sealed := func(plain []byte) []byte {
		var out bytes.Buffer
		w, err := age.Encrypt(&out, id.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	for _, tc := range []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, ErrTruncated},
		{"a text", []byte("hello, world"), ErrFormat},
		{"a SQLite file", append([]byte("SQLite format 3\x00"), make([]byte, 4096)...), ErrFormat},
		{"zeros", make([]byte, 1<<20), ErrFormat},
		{"zstd of something", rle(FrameSize, 8), ErrTruncated},
		{"an encrypted text", sealed([]byte("hello")), ErrTruncated},
		{"an encrypted nothing", sealed(nil), ErrTruncated},
		{"age and rubbish", []byte(ageIntro + "-> X25519 rubbish\n"), ErrTruncated},
		{"age and no header", []byte(ageIntro + strings.Repeat("rubbish\n", 1000)), ErrFormat},
		{"only the end of a seek table", binary.LittleEndian.AppendUint32(make([]byte, 13), seekableMagic), ErrFormat},
		{"a seek table of 2^29 frames", append(append(bytes.Repeat([]byte{0}, 100), 0xff, 0xff, 0xff, 0x1f, 0), 0xb1, 0xea, 0x92, 0x8f), ErrFormat},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := readAll(t, tc.in, OpenOptions{Identities: []age.Identity{id}}); !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
		})
	}
}

// The size that a store announces may be far from what it has.
func TestSizeThatLies(t *testing.T) {
	b := forge(t).bytes(t)
	for _, size := range []int64{1 << 62, int64(len(b)) + 1, int64(len(b)) + tailRead + 1} {
		if _, err := Open(t.Context(), bytes.NewReader(b), size, OpenOptions{}); !errors.Is(err, ErrTruncated) {
			t.Errorf("%d bytes announced, %d there: %v", size, len(b), err)
		}
	}
	if _, err := Open(t.Context(), bytes.NewReader(b), -1, OpenOptions{}); !errors.Is(err, ErrFormat) {
		t.Errorf("negative size: %v", err)
	}
}

func TestEncryption(t *testing.T) {
	right, wrong := identity(t), identity(t)
	im := newImage(2, 4096, 300, 0.5)
	b, _, _ := im.encode(t, right.Recipient())
	for _, tc := range []struct {
		name string
		ids  []age.Identity
		want error
	}{
		{"no key", nil, ErrWrongKey},
		{"another key", []age.Identity{wrong}, ErrWrongKey},
		{"the right one among others", []age.Identity{wrong, right}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := readAll(t, b, OpenOptions{Identities: tc.ids}); !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
		})
	}
	plain, err := age.Decrypt(bytes.NewReader(b), right)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := io.ReadAll(plain)
	if err != nil || !bytes.Equal(restored(t, open(t, inner)), im.want()) {
		t.Errorf("what age decrypts is no plain backup (%v)", err)
	}
}

// Cut anywhere, plain or encrypted, an object is refused as cut short.
func TestTruncation(t *testing.T) {
	id := identity(t)
	im := newImage(2, 512, 20, 0.3)
	plain, _, _ := im.encode(t)
	sealed, _, _ := im.encode(t, id.Recipient())
	for name, b := range map[string][]byte{"plain": plain, "encrypted": sealed} {
		for n := range len(b) {
			if raceEnabled && n%5 != 0 {
				continue
			}
			err := readAll(t, b[:n], OpenOptions{Identities: []age.Identity{id}})
			if !errors.Is(err, ErrTruncated) {
				t.Errorf("%s, %d of %d bytes: %v", name, n, len(b), err)
			}
		}
	}
}

// Any flipped bit is seen, or changes nothing that is read.
func TestFlippedBits(t *testing.T) {
	id := identity(t)
	im := newImage(2, 512, 12, 0.3)
	want := im.want()
	plain, m, _ := im.encode(t)
	sealed, _, _ := im.encode(t, id.Recipient())
	for name, b := range map[string][]byte{"plain": plain, "encrypted": sealed} {
		for bit := range len(b) * 8 {
			if (raceEnabled || name == "encrypted") && bit%29 != 0 {
				continue
			}
			b[bit/8] ^= 1 << (bit % 8)
			if err := flippedIsSeen(t, b, id, want, m); err != nil {
				t.Errorf("%s, bit %d of byte %d: %v", name, bit%8, bit/8, err)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func flippedIsSeen(t *testing.T, b []byte, id age.Identity, want []byte, m Manifest) error {
	t.Helper()
	r, err := Open(t.Context(), bytes.NewReader(b), int64(len(b)), OpenOptions{Identities: []age.Identity{id}})
	if err != nil {
		return known(err)
	}
	if fmt.Sprint(r.Manifest()) != fmt.Sprint(m) {
		return errors.New("the manifest differs, unseen")
	}
	out := make(bounded, m.Size)
	if err := r.Restore(t.Context(), out, nil); err != nil {
		return known(err)
	}
	if !bytes.Equal(out, want) {
		return errors.New("the content differs, unseen")
	}
	return nil
}

// known complains about an error that is none of those promised.
func known(err error) error {
	for _, want := range []error{ErrFormat, ErrNewer, ErrWrongKey, ErrTruncated, ErrSum, ErrTooLarge} {
		if errors.Is(err, want) {
			return nil
		}
	}
	return fmt.Errorf("error of no known kind: %w", err)
}
