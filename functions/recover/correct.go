package recover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"tablekeeper/functions"
	"tablekeeper/storage/ledger"
)

// maxCorrected bounds how many pages are corrected by their sums: each has a chance of 1 in 100,000 to become something else, that the
// check of the whole has to find.
const maxCorrected = 16

// correct is the rung for flipped bits: the sum of a page tells which bit it was. No backup is needed, whenever the page was written.
func (r *recovery) correct(ctx context.Context, file string, started time.Time) (candidate, error) {
	if len(r.scene.bad) > maxCorrected || len(r.scene.want) == 0 {
		return candidate{}, nil
	}
	left, err := r.flipBack(file)
	if err != nil {
		return candidate{}, err
	}
	corrected := len(r.scene.bad) - len(left)
	if corrected == 0 {
		return candidate{}, nil
	}
	if len(left) > 0 {
		r.step(RungBit, "", started, Failed, fmt.Errorf("one bit was wrong in %d pages, and more in %d", corrected, len(left)))
		r.scene.bad = left
		return candidate{}, nil
	}
	want := r.copied(file)
	if err := r.fold(ctx, file); err != nil {
		return candidate{}, r.dismiss(RungBit, "", started, err)
	}
	c, err := r.offer(ctx, file, RungBit, "", started, fmt.Sprintf("one bit was wrong in %d pages, and was inverted", corrected), "")
	c.want = want
	return c, err
}

// flipBack corrects what it can in the file, and returns the pages that are left.
func (r *recovery) flipBack(file string) (left []uint32, err error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", functions.ErrHere, err)
	}
	page := make([]byte, r.scene.pageSize)
	for _, p := range r.scene.bad {
		at := int64(p-1) * r.scene.pageSize
		_, readErr := f.ReadAt(page, at)
		fixed := readErr == nil && r.expected(p) != 0
		if fixed {
			_, fixed = ledger.Correct(page, r.expected(p))
		}
		if !fixed {
			left = append(left, p)
			continue
		}
		if _, err = f.WriteAt(page, at); err != nil {
			err = fmt.Errorf("%w: %w", functions.ErrHere, err)
			break
		}
	}
	return left, errors.Join(err, f.Close())
}
