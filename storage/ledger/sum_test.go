package ledger

import (
	"bytes"
	"slices"
	"testing"
)

// The check value of CRC-32C, and the all-zero and all-one vectors of RFC 3720 B.4.
func TestSumIsCRC32C(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   []byte
		want uint32
	}{
		{"check value", []byte("123456789"), 0xe3069283},
		{"32 zeros", make([]byte, 32), 0x8a9136aa},
		{"32 ones", bytes.Repeat([]byte{0xff}, 32), 0x62a8ab43},
		{"empty", nil, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Sum(tc.in); got != tc.want {
				t.Fatalf("Sum = %#x, want %#x", got, tc.want)
			}
		})
	}
}

func TestSumsBytes(t *testing.T) {
	sums := Sums{0x01020304, 0, 0xffffffff}
	want := []byte{4, 3, 2, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}
	if got := sums.Bytes(); !bytes.Equal(got, want) {
		t.Fatalf("Bytes = % x, want % x", got, want)
	}
}

func FuzzParseSums(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 2, 3})
	f.Add([]byte{4, 3, 2, 1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		sums, err := ParseSums(in)
		if (err == nil) != (len(in)%SumSize == 0) {
			t.Fatalf("%d bytes: error %v", len(in), err)
		}
		if err != nil {
			return
		}
		if !bytes.Equal(sums.Bytes(), in) {
			t.Fatal("parsed and written again, the bytes differ")
		}
		again, err := ParseSums(sums.Bytes())
		if err != nil || !slices.Equal(again, sums) {
			t.Fatalf("second parse: %v, %v", again, err)
		}
	})
}
