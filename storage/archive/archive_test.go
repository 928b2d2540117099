package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"testing"
	"time"

	"filippo.io/age"

	"tablekeeper/storage/ledger"
	"tablekeeper/storage/needtest"
)

// image is a made-up table: pages as a caller would give them, and what of them
// a backup holds.
type image struct {
	pageSize int
	pages    [][]byte
	free     []bool
}

// newImage makes pages that compress somewhat; about share of them are free,
// and hold rubbish as free pages do.
func newImage(seed uint64, pageSize, pages int, share float64) *image {
	rnd := rand.New(rand.NewPCG(seed, 1))
	im := &image{pageSize: pageSize}
	for range pages {
		page := make([]byte, pageSize)
		for at := 0; at < pageSize; at += 16 {
			binary.LittleEndian.PutUint64(page[at:], rnd.Uint64()&0x0f0f0f0f0f0f0f0f+0x6161616161616161)
			copy(page[at+8:], " a row, ")
		}
		im.pages = append(im.pages, page)
		im.free = append(im.free, rnd.Float64() < share)
	}
	return im
}

// want is the SQLite file that a backup of the image holds.
func (im *image) want() []byte {
	out := make([]byte, 0, len(im.pages)*im.pageSize)
	for i, page := range im.pages {
		if im.free[i] || int64(i)+1 == lockPage(im.pageSize) {
			page = make([]byte, im.pageSize)
		}
		out = append(out, page...)
	}
	return out
}

var created = time.Date(2026, 11, 22, 19, 30, 0, 123e6, time.UTC)

func testManifest() Manifest {
	return Manifest{
		Rows: map[string]int64{"users": 3, "orders": 0}, Schema: []string{"CREATE TABLE users(id INTEGER PRIMARY KEY)"},
		SQLiteVersion: "3.54.1", JournalMode: "wal", Encoding: "UTF-8", AutoVacuum: "incremental", UserVersion: 7, ApplicationID: -1,
	}
}

// encode writes the image as a backup.
func (im *image) encode(t testing.TB, recipients ...age.Recipient) ([]byte, Manifest, ledger.Sums) {
	t.Helper()
	var out bytes.Buffer
	m, sums, err := im.encodeTo(&out, recipients...)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), m, sums
}

func (im *image) encodeTo(w io.Writer, recipients ...age.Recipient) (Manifest, ledger.Sums, error) {
	e, err := NewEncoder(w, EncoderOptions{
		Table: "users", Created: created, PageSize: im.pageSize, PageCount: int64(len(im.pages)),
		Recipients: recipients, ToolVersion: "0.1.0",
	})
	if err != nil {
		return Manifest{}, nil, err
	}
	for i, page := range im.pages {
		if err := e.WritePage(page, im.free[i]); err != nil {
			return Manifest{}, nil, err
		}
	}
	m, err := e.Close(testManifest())
	return m, e.Sums(), err
}

// open fails the test if b does not open.
func open(t testing.TB, b []byte, ids ...age.Identity) *Reader {
	t.Helper()
	r, err := Open(t.Context(), bytes.NewReader(b), int64(len(b)), OpenOptions{Identities: ids})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// bounded is a target that refuses to grow past its length.
type bounded []byte

func (b bounded) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(b)) {
		return 0, fmt.Errorf("write of %d bytes at %d, past the end at %d", len(p), off, len(b))
	}
	return copy(b[off:], p), nil
}

// restored gives what Restore writes.
func restored(t testing.TB, r *Reader) []byte {
	t.Helper()
	out := make(bounded, r.Manifest().Size)
	for i := range out {
		out[i] = 0xee
	}
	if err := r.Restore(t.Context(), out, nil); err != nil {
		t.Fatal(err)
	}
	return out
}

func sha(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func run(t testing.TB, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), needtest.Program(t, name), args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, stderr.Bytes())
	}
	return out
}
