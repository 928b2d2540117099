package btree

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"
)

// encode makes a record of int64, float64, string, []byte and nil.
func encode(values ...any) []byte {
	var header, body []byte
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			header = append(header, 0)
		case int64:
			header, body = append(header, 6), binary.BigEndian.AppendUint64(body, uint64(v))
		case float64:
			header, body = append(header, serialReal), binary.BigEndian.AppendUint64(body, math.Float64bits(v))
		case string:
			header, body = append(header, putVarint(uint64(13+2*len(v)))...), append(body, v...)
		case []byte:
			header, body = append(header, putVarint(uint64(12+2*len(v)))...), append(body, v...)
		}
	}
	return slices.Concat([]byte{byte(len(header) + 1)}, header, body)
}

func putVarint(v uint64) []byte {
	b := []byte{byte(v & 0x7f)}
	for v >>= 7; v > 0; v >>= 7 {
		b = append([]byte{byte(v&0x7f) | 0x80}, b...)
	}
	return b
}

func one(t *testing.T, v any) *field {
	t.Helper()
	var r record
	b := encode(v)
	if !r.parse(b, int64(len(b))) || len(r.fields) != 1 {
		t.Fatalf("%v: %+v", v, r)
	}
	return &r.fields[0]
}

func TestVarint(t *testing.T) {
	for _, v := range []uint64{0, 1, 127, 128, 16383, 16384, 1<<32 + 5, 1<<56 - 1} {
		got, n := varint(append(putVarint(v), 0xff))
		if got != v || n != len(putVarint(v)) {
			t.Errorf("%d: %d of %d bytes", v, got, n)
		}
	}
	if v, n := varint(bytes.Repeat([]byte{0xff}, 9)); v != math.MaxUint64 || n != 9 {
		t.Errorf("nine bytes: %x, %d", v, n)
	}
	for _, short := range [][]byte{nil, {0x80}, bytes.Repeat([]byte{0x80}, 8)} {
		if _, n := varint(short); n != 0 {
			t.Errorf("%x has a value", short)
		}
	}
}

// TestOrder has values in SQLite's order: NULL, numbers, texts, blobs.
func TestOrder(t *testing.T) {
	ordered := []any{
		nil, math.Inf(-1), -1e300, int64(math.MinInt64), -2.5, int64(-2), -0.5, int64(0), 0.25, int64(1), 1.5,
		9007199254740992.0, int64(9007199254740993), int64(math.MaxInt64), 9223372036854775808.0, math.Inf(1),
		"", "A", "B", "a", "a ", "ab", []byte{}, []byte{0}, []byte("a"),
	}
	for i, a := range ordered {
		for j, b := range ordered {
			got, known := compare(one(t, a), one(t, b), Binary)
			if want := max(-1, min(1, i-j)); !known || got != want {
				t.Errorf("%v and %v: %d, want %d", a, b, got, want)
			}
		}
	}
	for _, c := range []struct {
		a, b string
		by   Collation
		want int
	}{{"ABC", "abc", NoCase, 0}, {"aBd", "AbC", NoCase, 1}, {"[", "a", NoCase, -1}, {"Ä", "ä", NoCase, -1}, {"a", "a  ", RTrim, 0}, {"a\t", "a", RTrim, 1}, {"a", "a ", Binary, -1}} {
		if got, known := compare(one(t, c.a), one(t, c.b), c.by); !known || got != c.want {
			t.Errorf("%q and %q by %d: %d, want %d", c.a, c.b, c.by, got, c.want)
		}
	}
	if _, known := compare(one(t, math.NaN()), one(t, int64(1)), Binary); known {
		t.Error("what is no number has an order")
	}
}

func TestCanonicalValues(t *testing.T) {
	equal := func(a, b any) bool {
		x, okX := one(t, a).canonical(nil)
		y, okY := one(t, b).canonical(nil)
		return okX && okY && bytes.Equal(x, y)
	}
	for _, same := range [][2]any{{int64(5), 5.0}, {0.0, math.Copysign(0, -1)}, {int64(math.MinInt64), -9223372036854775808.0}, {nil, nil}} {
		if !equal(same[0], same[1]) {
			t.Errorf("%v and %v differ", same[0], same[1])
		}
	}
	for _, other := range [][2]any{{int64(5), 5.5}, {"5", int64(5)}, {"a", []byte("a")}, {nil, ""}, {9223372036854775808.0, int64(math.MaxInt64)}, {int64(9007199254740993), 9007199254740992.0}} {
		if equal(other[0], other[1]) {
			t.Errorf("%v and %v are the same", other[0], other[1])
		}
	}
	if _, ok := one(t, math.NaN()).canonical(nil); ok {
		t.Error("what is no number is a value")
	}
	for serial, want := range map[uint64]int64{8: 0, 9: 1} {
		if got := (&field{serial: serial}).integer(); got != want {
			t.Errorf("serial type %d is %d", serial, got)
		}
	}
	if got := (&field{serial: 3, bytes: []byte{0xff, 0xff, 0xfe}}).integer(); got != -2 {
		t.Errorf("%d, want -2", got)
	}
}

func TestMalformedRecords(t *testing.T) {
	good := encode(int64(7), "text")
	for name, b := range map[string][]byte{
		"empty": {}, "header of nothing": {0}, "header too long": {9, 0}, "short body": good[:len(good)-1], "long body": append(slices.Clone(good), 0),
		"reserved type": {2, 10}, "cut varint": {2, 0x80}, "gigantic": append([]byte{10}, bytes.Repeat([]byte{0xff}, 9)...),
	} {
		var r record
		if r.parse(b, int64(len(b))) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	var r record
	if !r.parse(good[:12], int64(len(good))) || r.fields[0].absent || !r.fields[1].absent {
		t.Errorf("a record of which the end is not at hand: %+v", r)
	}
}

func TestTextsThatMayBeNumbers(t *testing.T) {
	for _, s := range []string{"1", " -1.5 ", "+.5", "1.", "1e5", "1E-5", "99999999999999999999", "0\x00"} {
		if !numeric([]byte(s)) {
			t.Errorf("%q is no number", s)
		}
	}
	for _, s := range []string{"", "-", ".", "2020-01-02", "1e", "1e+", "0x10", "1 2", "inf", "12:30", "1.2.3", "e5"} {
		if numeric([]byte(s)) {
			t.Errorf("%q is a number", s)
		}
	}
}

func TestWhatFitsAColumn(t *testing.T) {
	values := map[string]any{"null": nil, "int": int64(1), "real": 1.5, "number": "12", "text": "x", "blob": []byte("1")}
	for affinity, want := range map[Affinity]string{
		Any: "null int real number text blob", Text: "null number text blob", Numeric: "null int real text blob",
		StrictInteger: "null int", StrictReal: "null int real", StrictText: "null number text", StrictBlob: "null blob",
	} {
		var got []string
		for _, name := range []string{"null", "int", "real", "number", "text", "blob"} {
			if fits(one(t, values[name]), affinity) {
				got = append(got, name)
			}
		}
		if joined := strings.Join(got, " "); joined != want {
			t.Errorf("affinity %d: %s, want %s", affinity, joined, want)
		}
	}
}
