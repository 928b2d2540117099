package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	seekable "github.com/SaveTheRbtz/zstd-seekable-format-go/pkg"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"tablekeeper/storage/needtest"
)

// fileImage takes a SQLite file apart: its free pages are the leaves of its
// freelist (https://sqlite.org/fileformat.html#the_freelist). The trunks stay:
// they are the list.
func fileImage(t testing.TB, file []byte) *image {
	t.Helper()
	size := int(binary.BigEndian.Uint16(file[16:]))
	if size == 1 {
		size = 65536
	}
	im := &image{pageSize: size, free: make([]bool, len(file)/size)}
	for at := 0; at < len(file); at += size {
		im.pages = append(im.pages, file[at:at+size])
	}
	for trunk := binary.BigEndian.Uint32(file[32:]); trunk != 0; {
		page := im.pages[trunk-1]
		for i := range binary.BigEndian.Uint32(page[4:]) {
			im.free[binary.BigEndian.Uint32(page[8+4*i:])-1] = true
		}
		trunk = binary.BigEndian.Uint32(page)
	}
	return im
}

func sqlite(t testing.TB, path, sql string) string {
	t.Helper()
	return strings.TrimSpace(string(run(t, []byte(sql), "sqlite3", path)))
}

// The real programs open what we write, with nothing of ours: zstd -d, age -d
// where it is installed, sqlite3.
func TestRealPrograms(t *testing.T) {
	for _, pageSize := range []string{"512", "4096", "65536"} {
		t.Run(pageSize, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "made.db")
			sqlite(t, path, "PRAGMA page_size="+pageSize+`;
				CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT, note TEXT);
				CREATE INDEX users_name ON users(name);
				WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < 20000)
				INSERT INTO users SELECT i, 'user ' || i, hex(randomblob(60)) FROM c;
				DELETE FROM users WHERE id % 1000 > 400;`)
			file, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			im := fileImage(t, file)
			b, m, _ := im.encode(t)
			if m.FreePages < 10 {
				t.Fatalf("only %d free pages: no test", m.FreePages)
			}
			out := filepath.Join(dir, "restored.db")
			decoded := run(t, b, "zstd", "-d", "-c")
			if !bytes.Equal(decoded, im.want()) {
				t.Fatal("zstd -d gives other bytes")
			}
			if err := os.WriteFile(out, decoded, 0o600); err != nil {
				t.Fatal(err)
			}
			const ask = "PRAGMA integrity_check; SELECT count(*), sum(id), max(note) FROM users; SELECT count(*) FROM users INDEXED BY users_name WHERE name > 'user 5'; PRAGMA freelist_count;"
			if diff := cmp.Diff(sqlite(t, path, ask), sqlite(t, out, ask)); diff != "" || !strings.HasPrefix(sqlite(t, out, ask), "ok\n") {
				t.Errorf("sqlite3 sees another table (-original +restored):\n%s", diff)
			}
			run(t, b, "zstd", "-t")
		})
	}
}

func TestAgeProgram(t *testing.T) {
	needtest.Program(t, "age")
	id := identity(t)
	im := newImage(8, 4096, 600, 0.5)
	b, _, _ := im.encode(t, id.Recipient())
	keyFile := filepath.Join(t.TempDir(), "key.txt")
	if err := os.WriteFile(keyFile, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := run(t, b, "age", "-d", "-i", keyFile)
	if !bytes.Equal(restored(t, open(t, plain)), im.want()) {
		t.Error("what age -d gives is no backup")
	}
}

// An implementation of the seekable format that we did not write reads ours.
func TestAnotherReaderOfTheSeekableFormat(t *testing.T) {
	im := newImage(8, 4096, 1000, 0.5)
	want := im.want()
	b, _, _ := im.encode(t)
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	r, err := seekable.NewReader(bytes.NewReader(b), dec)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, at := range []int{0, FrameSize - 10, 2*FrameSize + 4096, len(want) - 4096} {
		got := make([]byte, 4096)
		if _, err := r.ReadAt(got, int64(at)); err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(got, want[at:at+4096]) {
			t.Errorf("at %d: other bytes (%v)", at, err)
		}
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read in order: %d bytes, %v", len(got), err)
	}
}

var update = flag.Bool("update", false, "write the golden files anew")

// The files in testdata are what format 1 is: every later version must read them.
func TestGoldenFiles(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	want := readTestdata(t, "users.db")
	wantManifest := Manifest{
		Format: 1, Table: "users", Created: created, PageSize: 512, PageCount: int64(len(want) / 512), FreePages: 1,
		Size: int64(len(want)), SHA256: sha(want), Rows: map[string]int64{"users": 3},
		Schema:        []string{"CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT)"},
		SQLiteVersion: "3.54.1", ToolVersion: "0.1.0", JournalMode: "delete", Encoding: "UTF-8", UserVersion: 7, ApplicationID: 42,
	}
	secret, err := age.ParseIdentities(bytes.NewReader(readTestdata(t, "key.txt")))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"users.db.zst", "users.db.zst.age"} {
		t.Run(name, func(t *testing.T) {
			r := open(t, readTestdata(t, name), secret...)
			sums, err := r.Sums()
			if err != nil {
				t.Fatal(err)
			}
			wantManifest.SumsSHA256 = sha(sums.Bytes())
			if diff := cmp.Diff(wantManifest, r.Manifest()); diff != "" {
				t.Errorf("manifest (-want +got):\n%s", diff)
			}
			if !bytes.Equal(restored(t, r), want) {
				t.Error("content differs")
			}
		})
	}
}

// What is written today has the golden file's bytes, but for the data frames,
// which a later compressor may write otherwise.
func TestGoldenFileIsWhatWeWrite(t *testing.T) {
	golden := open(t, readTestdata(t, "users.db.zst"))
	var out bytes.Buffer
	encodeGolden(t, &out)
	ours := open(t, out.Bytes())
	tail := func(r *Reader, b []byte) []byte {
		return b[r.offsets[r.frames()] : int64(len(b))-seekTableSize(3)]
	}
	if !bytes.Equal(tail(golden, readTestdata(t, "users.db.zst")), tail(ours, out.Bytes())) {
		t.Error("page sums or manifest are written otherwise")
	}
	if !bytes.Equal(restored(t, ours), restored(t, golden)) {
		t.Error("content differs")
	}
}

func readTestdata(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func encodeGolden(t testing.TB, w io.Writer, to ...age.Recipient) {
	t.Helper()
	im := fileImage(t, readTestdata(t, "users.db"))
	e, err := NewEncoder(w, EncoderOptions{Table: "users", Created: created, PageSize: 512, PageCount: int64(len(im.pages)), Recipients: to, ToolVersion: "0.1.0"})
	if err != nil {
		t.Fatal(err)
	}
	for i, page := range im.pages {
		if err := e.WritePage(page, im.free[i]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Close(Manifest{
		Rows: map[string]int64{"users": 3}, Schema: []string{"CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT)"},
		SQLiteVersion: "3.54.1", JournalMode: "delete", Encoding: "UTF-8", UserVersion: 7, ApplicationID: 42,
	}); err != nil {
		t.Fatal(err)
	}
}

// writeGolden makes the golden files with the sqlite3 program.
func writeGolden(t *testing.T) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users.db")
	sqlite(t, path, `PRAGMA page_size=512; PRAGMA user_version=7; PRAGMA application_id=42;
		CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT);
		INSERT INTO users VALUES (1, 'Ada'), (2, 'Grace'), (3, 'Edsger'), (4, hex(zeroblob(600)));
		DELETE FROM users WHERE id = 4;`)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	save := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join("testdata", name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	save("users.db", fileImage(t, file).want())
	id := identity(t)
	save("key.txt", []byte("# For the golden file beside it. It protects nothing.\n"+id.String()+"\n"))
	var plain, sealed bytes.Buffer
	encodeGolden(t, &plain)
	encodeGolden(t, &sealed, id.Recipient())
	save("users.db.zst", plain.Bytes())
	save("users.db.zst.age", sealed.Bytes())
}
