package remote

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"tablekeeper/storage/bucket"
)

// rangeHeader is the Range of RFC 9110 for Get's off and n; "" for all. n is not 0.
func rangeHeader(off, n int64) string {
	switch {
	case off < 0:
		return fmt.Sprintf("bytes=%d", off)
	case off == 0 && n < 0:
		return ""
	case n < 0 || n > math.MaxInt64-off:
		return fmt.Sprintf("bytes=%d-", off)
	}
	return fmt.Sprintf("bytes=%d-%d", off, off+n-1)
}

// notSatisfiable is the answer to a range that begins after the end.
func notSatisfiable(err error) bool {
	var failure *AnswerError
	return errors.As(err, &failure) && failure.Status == http.StatusRequestedRangeNotSatisfiable
}

// check compares an answer with what was asked for, and makes Info.Size the size of the whole object.
func (o *Object) check(etag string, off, n int64) error {
	if etag != "" && o.Info.ETag != etag {
		return fmt.Errorf("%w: the store sent ETag %s instead of %s", bucket.ErrPrecondition, o.Info.ETag, etag)
	}
	if off == 0 && n < 0 {
		return nil
	}
	first, last, size, err := parseContentRange(o.ContentRange)
	if err != nil {
		return err
	}
	from, to := bucket.Span(size, off, n)
	if first != from || last != to-1 || o.Info.Size >= 0 && o.Info.Size != to-from {
		return fmt.Errorf("%w: bytes %d to %d of %d with length %d, asked for %d to %d", bucket.ErrBody, first, last, size, o.Info.Size, from, to-1)
	}
	o.Info.Size = size
	return nil
}

// parseContentRange reads "bytes 0-99/1000" of RFC 9110, section 14.4.
func parseContentRange(header string) (first, last, size int64, err error) {
	refuse := fmt.Errorf("%w: the store answered a range with Content-Range %q", bucket.ErrBody, header)
	rest, ok := strings.CutPrefix(header, "bytes ")
	span, total, ok2 := strings.Cut(rest, "/")
	a, b, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, 0, refuse
	}
	for _, f := range []struct {
		text string
		to   *int64
	}{{a, &first}, {b, &last}, {total, &size}} {
		n, err := strconv.ParseUint(f.text, 10, 63)
		if err != nil {
			return 0, 0, 0, refuse
		}
		*f.to = int64(n)
	}
	if first > last || last >= size {
		return 0, 0, 0, refuse
	}
	return first, last, size, nil
}
