package archive

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"

	"tablekeeper/storage/ledger"
)

func FuzzOpen(f *testing.F) {
	im := newImage(2, 512, 3, 0.3)
	plain, _, _ := im.encode(f)
	f.Add(plain)
	f.Add(plain[:len(plain)-1])
	f.Add(tiny(f, "users", StateDegraded))
	f.Add([]byte(ageIntro))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := Open(t.Context(), bytes.NewReader(in), int64(len(in)), OpenOptions{MaxSize: 8 << 20})
		if err != nil {
			if err := known(err); err != nil {
				t.Fatal(err)
			}
			return
		}
		m := r.Manifest()
		if m.Size > 8<<20 {
			t.Fatalf("size %d over the limit", m.Size)
		}
		out := make(bounded, m.Size)
		restoreErr := r.Restore(t.Context(), out, nil)
		streamed, streamErr := io.ReadAll(r.Stream(t.Context()))
		if (restoreErr == nil) != (streamErr == nil) {
			t.Fatalf("Restore: %v; Stream: %v", restoreErr, streamErr)
		}
		if restoreErr != nil {
			if err := known(restoreErr); err != nil {
				t.Fatal(err)
			}
			return
		}
		if sha(out) != m.SHA256 || !bytes.Equal(out, streamed) {
			t.Fatal("restored without error, and wrong")
		}
	})
}

func FuzzManifest(f *testing.F) {
	m := Manifest{Format: 1, Table: "users", Created: created, PageSize: 512, PageCount: 1, Size: 512, SHA256: sha(nil), SumsSHA256: sha(nil)}
	text, err := json.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(`{"format":1,"rows":{"a":-1}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		// The checksum is made right: behind it begins the parser.
		got, err := parseManifest(append(binary.LittleEndian.AppendUint32(nil, ledger.Sum(text)), text...))
		if err != nil {
			if err := known(err); err != nil {
				t.Fatal(err)
			}
			return
		}
		payload, err := got.payload()
		if err != nil {
			t.Fatalf("read, and not written again: %v", err)
		}
		again, err := parseManifest(payload)
		if err != nil || fmt.Sprint(again) != fmt.Sprint(got) {
			t.Fatalf("written and read again: %+v, %v; before: %+v", again, err, got)
		}
	})
}

func FuzzSeekTable(f *testing.F) {
	var table seekTable
	table.add(100, FrameSize)
	table.add(12, 0)
	good, err := table.bytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, int64(112))
	f.Add(good[8:], int64(0))
	f.Add([]byte{}, int64(-1))
	f.Fuzz(func(t *testing.T, in []byte, end int64) {
		if len(in) < seekFooter {
			return
		}
		n, err := parseSeekFooter(in[len(in)-seekFooter:])
		if err != nil {
			return
		}
		table, err := parseSeekTable(in, n, end)
		if err != nil {
			if err := known(err); err != nil {
				t.Fatal(err)
			}
			return
		}
		again, err := table.bytes()
		if err != nil || !bytes.Equal(again, in) {
			t.Fatalf("read, and written again: % x, %v", again, err)
		}
	})
}

func FuzzSumsFrame(f *testing.F) {
	im := newImage(2, 512, 3, 0)
	object, _, sums := im.encode(f)
	f.Add(sums.Bytes())
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, payload []byte) {
		r := open(t, object)
		changed := bytes.Clone(object)
		copy(changed[r.sumsAt[0]+skippableHeader:r.sumsAt[1]], payload)
		err := readAll(t, changed, OpenOptions{})
		if same := bytes.Equal(changed, object); same != (err == nil) {
			t.Fatalf("sums the same: %t, error: %v", same, err)
		}
		page := make([]byte, 512)
		for n := range int64(3) {
			if err := open(t, changed).ReadPage(t.Context(), n+1, page); err != nil && !errors.Is(err, ErrSum) {
				t.Fatal(err)
			}
		}
	})
}
