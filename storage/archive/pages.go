package archive

import (
	"context"
	"fmt"
	"slices"
)

// ReadPage reads page pgno, counted from 1, into page, which must be of the
// page size. It fetches only the frame that the page is in and the sums of that
// frame, and checks the page's sum.
func (r *Reader) ReadPage(ctx context.Context, pgno int64, page []byte) error {
	if len(page) != r.manifest.PageSize {
		return fmt.Errorf("read page %d of backup of %s: buffer of %d bytes for pages of %d",
			pgno, r.manifest.Table, len(page), r.manifest.PageSize)
	}
	return r.ReadPages(ctx, []int64{pgno}, func(_ int64, content []byte) error {
		copy(page, content)
		return nil
	})
}

// ReadPages calls use once for each of the pages, in ascending order, whatever
// order they are named in and however often. Each frame that holds any of them
// is fetched once, neighbouring ones by one ranged read. The content is valid
// until use returns; an error of use ends the reading and is what ReadPages
// wraps.
func (r *Reader) ReadPages(ctx context.Context, pgnos []int64, use func(pgno int64, page []byte) error) error {
	want := slices.Compact(slices.Sorted(slices.Values(pgnos)))
	if len(want) == 0 {
		return nil
	}
	if first, last := want[0], want[len(want)-1]; first < 1 || last > r.manifest.PageCount {
		return fmt.Errorf("read pages %d to %d of backup of %s: it has %d pages",
			first, last, r.manifest.Table, r.manifest.PageCount)
	}
	raw := make([]byte, r.rawSize(0))
	for len(want) > 0 {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read page %d of backup of %s: %w", want[0], r.manifest.Table, context.Cause(ctx))
		}
		n, err := r.readRun(want, raw, use)
		if err != nil {
			return fmt.Errorf("read pages of backup of %s: %w", r.manifest.Table, err)
		}
		want = want[n:]
	}
	return nil
}

// readRun reads the frames of the first pages of want that one ranged read
// gives, and says how many pages that were.
func (r *Reader) readRun(want []int64, raw []byte, use func(int64, []byte) error) (int, error) {
	per := r.pagesPerFrame()
	first := (want[0] - 1) / per
	limit, end := r.spanEnd(first), first+1
	n := 0
	for ; n < len(want); n++ {
		frame := (want[n] - 1) / per
		if frame > end || frame >= limit {
			break
		}
		end = max(end, frame+1)
	}
	comp := make([]byte, r.offsets[end]-r.offsets[first])
	if err := readFull(r.src, comp, r.offsets[first]); err != nil {
		return 0, err
	}
	rest := want[:n]
	for i := first; i < end; i++ {
		in := 0
		for in < len(rest) && (rest[in]-1)/per == i {
			in++
		}
		if err := r.usePages(i, comp[r.offsets[i]-r.offsets[first]:r.offsets[i+1]-r.offsets[first]], raw, rest[:in], use); err != nil {
			return 0, err
		}
		rest = rest[in:]
	}
	return n, nil
}

// usePages decodes frame i and hands out its pages named in want.
func (r *Reader) usePages(i int64, comp, raw []byte, want []int64, use func(int64, []byte) error) error {
	sums, err := r.frameSums(i)
	if err != nil {
		return err
	}
	raw, err = r.decode(i, comp, raw)
	if err != nil {
		return err
	}
	if err := r.checkPages(i, raw, sums); err != nil {
		return err
	}
	size := int64(r.manifest.PageSize)
	for _, pgno := range want {
		at := (pgno-1)*size - i*FrameSize
		if err := use(pgno, raw[at:][:size:size]); err != nil {
			return err
		}
	}
	return nil
}
