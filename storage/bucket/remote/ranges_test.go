package remote

import (
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"tablekeeper/storage/bucket"
)

func TestRangeHeader(t *testing.T) {
	for _, test := range []struct {
		off, n int64
		want   string
	}{
		{0, -1, ""}, {0, 1, "bytes=0-0"}, {5, 10, "bytes=5-14"}, {5, -1, "bytes=5-"}, {-3, -1, "bytes=-3"}, {-3, 9, "bytes=-3"}, {7, math.MaxInt64, "bytes=7-"},
		{0, math.MaxInt64, "bytes=0-9223372036854775806"},
	} {
		if got := rangeHeader(test.off, test.n); got != test.want {
			t.Errorf("rangeHeader(%d, %d) = %q, want %q", test.off, test.n, got, test.want)
		}
	}
}

// TestAnswersThatLie: a store that sends another range, size or version than it was asked for is found out.
func TestAnswersThatLie(t *testing.T) {
	good := func() Object {
		return Object{Body: io.NopCloser(strings.NewReader("")), Info: bucket.Info{ETag: "e", Size: 10}, ContentRange: "bytes 5-14/100"}
	}
	o := good()
	if err := o.check("e", 5, 10); err != nil || o.Info.Size != 100 {
		t.Errorf("a good answer: %v, size %d", err, o.Info.Size)
	}
	for name, spoil := range map[string]func(*Object){
		"no range":     func(o *Object) { o.ContentRange = "" },
		"other begin":  func(o *Object) { o.ContentRange = "bytes 4-13/100" },
		"shorter":      func(o *Object) { o.ContentRange = "bytes 5-13/100"; o.Info.Size = 9 },
		"longer":       func(o *Object) { o.ContentRange = "bytes 5-15/100"; o.Info.Size = 11 },
		"short body":   func(o *Object) { o.Info.Size = 9 },
		"past its end": func(o *Object) { o.ContentRange = "bytes 5-14/10" },
	} {
		o := good()
		spoil(&o)
		if err := o.check("e", 5, 10); !errors.Is(err, bucket.ErrBody) {
			t.Errorf("%s: %v, want %v", name, err, bucket.ErrBody)
		}
	}
	o = good()
	if err := o.check("other", 5, 10); !errors.Is(err, bucket.ErrPrecondition) {
		t.Errorf("another version: %v", err)
	}
}

// FuzzContentRange: no panic, and only sane spans pass.
func FuzzContentRange(f *testing.F) {
	for _, header := range []string{"bytes 0-9/10", "bytes 0--1/0", "bytes */10", "bytes 5-4/10", "bytes 0-9/*", "items 0-9/10", "bytes 99999999999999999999-9/10", "bytes +1-2/3", ""} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		first, last, size, err := parseContentRange(header)
		if err == nil && (first < 0 || first > last || last >= size) {
			t.Fatalf("%q is taken as %d-%d/%d", header, first, last, size)
		}
	})
}
