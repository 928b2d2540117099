package archive

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"
)

const benchPages = 64 << 20 / 4096

// The figure to watch is MB/s of the SQLite file, half of it free pages in runs.
func BenchmarkEncode(b *testing.B) {
	im := newImage(1, 4096, benchPages, 0)
	for i := range im.free {
		im.free[i] = i/512%2 == 1
	}
	for name, to := range map[string][]age.Recipient{"plain": nil, "encrypted": {identity(b).Recipient()}} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(benchPages * 4096)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := im.encodeTo(io.Discard, to...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRestore(b *testing.B) {
	im := newImage(1, 4096, benchPages, 0)
	for i := range im.free {
		im.free[i] = i/512%2 == 1
	}
	id := identity(b)
	for name, to := range map[string][]age.Recipient{"plain": nil, "encrypted": {id.Recipient()}} {
		b.Run(name, func(b *testing.B) {
			object, _, _ := im.encode(b, to...)
			b.SetBytes(benchPages * 4096)
			b.ReportAllocs()
			for b.Loop() {
				f, err := os.Create(filepath.Join(b.TempDir(), "restored"))
				if err != nil {
					b.Fatal(err)
				}
				r, err := Open(b.Context(), bytes.NewReader(object), int64(len(object)), OpenOptions{Identities: []age.Identity{id}})
				if err != nil {
					b.Fatal(err)
				}
				if err := r.Restore(b.Context(), Sparse{f}, nil); err != nil {
					b.Fatal(err)
				}
				if err := f.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
