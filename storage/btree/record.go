package btree

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
)

// record is a row or an entry (https://sqlite.org/fileformat2.html#record_format).
type record struct {
	fields []field
}

// field is one value as it is stored.
type field struct {
	serial uint64
	bytes  []byte
	absent bool // its bytes are not at hand
}

// class is what comes first in the order of values.
type class byte

const (
	null class = iota
	number
	text
	blob
)

func (f *field) class() class {
	switch {
	case f.serial == 0:
		return null
	case f.serial < 12:
		return number
	case f.serial%2 == 1:
		return text
	}
	return blob
}

const serialReal = 7

var serialSizes = [...]int64{0, 1, 2, 3, 4, 6, 8, 8, 0, 0}

// parse reads a record of size bytes, of which have are at hand; it reports whether it is well formed and its header is among them.
func (r *record) parse(have []byte, size int64) bool {
	r.fields = r.fields[:0]
	header, n := varint(have)
	if n == 0 || header < uint64(n) || header > uint64(len(have)) {
		return false
	}
	end := int64(header)
	for at := n; at < int(header); {
		serial, n := varint(have[at:header])
		if n == 0 || serial == 10 || serial == 11 || serial > 1<<32 {
			return false
		}
		at += n
		f := field{serial: serial}
		length := int64(serial-12) / 2
		if serial < 12 {
			length = serialSizes[serial]
		}
		if end+length <= int64(len(have)) {
			f.bytes = have[end : end+length]
		} else {
			f.absent = true
		}
		end += length
		r.fields = append(r.fields, f)
	}
	return end == size
}

// integer is the value of a field that is an integer.
func (f *field) integer() int64 {
	if f.serial == 8 || f.serial == 9 {
		return int64(f.serial - 8)
	}
	var v int64
	if len(f.bytes) > 0 {
		v = int64(int8(f.bytes[0]))
		for _, b := range f.bytes[1:] {
			v = v<<8 | int64(b)
		}
	}
	return v
}

func (f *field) real() float64 { return math.Float64frombits(binary.BigEndian.Uint64(f.bytes)) }

// The tags of canonical values.
const (
	tagNull = iota
	tagInteger
	tagReal
	tagText
	tagBlob
)

// canonical appends the value so that equal values are equal bytes, whether a whole number is stored as an integer or as a
// real. It reports whether that is possible.
func (f *field) canonical(to []byte) ([]byte, bool) {
	if f.absent {
		return to, false
	}
	switch f.class() {
	case null:
		return append(to, tagNull), true
	case number:
		if f.serial != serialReal {
			return canonicalInteger(to, f.integer()), true
		}
		v := f.real()
		if v == math.Trunc(v) && v >= -(1<<63) && v < 1<<63 {
			return canonicalInteger(to, int64(v)), true
		}
		return append(append(to, tagReal), f.bytes...), !math.IsNaN(v)
	case text:
		to = append(to, tagText)
	default:
		to = append(to, tagBlob)
	}
	to = binary.BigEndian.AppendUint32(to, uint32(len(f.bytes)))
	return append(to, f.bytes...), true
}

func canonicalInteger(to []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(append(to, tagInteger), uint64(v))
}

// compare orders two values as SQLite does (https://sqlite.org/datatype3.html#comparisons). It reports whether it could.
func compare(a, b *field, c Collation) (int, bool) {
	if a.absent || b.absent {
		return 0, false
	}
	if order := cmp.Compare(a.class(), b.class()); order != 0 {
		return order, true
	}
	switch a.class() {
	case null:
		return 0, true
	case number:
		return compareNumbers(a, b)
	case text:
		return compareTexts(a.bytes, b.bytes, c), true
	default:
		return bytes.Compare(a.bytes, b.bytes), true
	}
}

func compareNumbers(a, b *field) (int, bool) {
	switch aReal, bReal := a.serial == serialReal, b.serial == serialReal; {
	case !aReal && !bReal:
		return cmp.Compare(a.integer(), b.integer()), true
	case aReal && bReal:
		x, y := a.real(), b.real()
		return cmp.Compare(x, y), !math.IsNaN(x) && !math.IsNaN(y)
	case bReal:
		y := b.real()
		return compareMixed(a.integer(), y), !math.IsNaN(y)
	default:
		x := a.real()
		return -compareMixed(b.integer(), x), !math.IsNaN(x)
	}
}

// compareMixed orders an integer and a real exactly.
func compareMixed(i int64, r float64) int {
	switch {
	case r < -(1 << 63):
		return 1
	case r >= 1<<63:
		return -1
	}
	whole := int64(r)
	if order := cmp.Compare(i, whole); order != 0 {
		return order
	}
	return cmp.Compare(math.Trunc(r), r)
}

func compareTexts(a, b []byte, c Collation) int {
	switch c {
	case NoCase:
		return compareNoCase(a, b)
	case RTrim:
		return bytes.Compare(bytes.TrimRight(a, " "), bytes.TrimRight(b, " "))
	default:
		return bytes.Compare(a, b)
	}
}

// compareNoCase folds ASCII letters only.
func compareNoCase(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if order := cmp.Compare(lower(a[i]), lower(b[i])); order != 0 {
			return order
		}
	}
	return cmp.Compare(len(a), len(b))
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// numeric reports whether a text may be a number to SQLite, which would have stored it as one in a column for numbers.
func numeric(s []byte) bool {
	s = bytes.Trim(s, " \t\n\v\f\r\x00")
	if len(s) > 0 && (s[0] == '+' || s[0] == '-') {
		s = s[1:]
	}
	var digits, after int
	s, digits = skipDigits(s)
	if len(s) > 0 && s[0] == '.' {
		s, after = skipDigits(s[1:])
	}
	if digits+after == 0 {
		return false
	}
	if len(s) > 1 && (s[0] == 'e' || s[0] == 'E') {
		s = s[1:]
		if s[0] == '+' || s[0] == '-' {
			s = s[1:]
		}
		if s, digits = skipDigits(s); digits == 0 {
			return false
		}
	}
	return len(s) == 0
}

func skipDigits(s []byte) (rest []byte, n int) {
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return s[n:], n
}
