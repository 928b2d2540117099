package verify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"tablekeeper/functions"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// scrub compares the pages of an owned table with what was written to them. A damaged table is recovered by its owner, which needs the lock
// that this run has: so the drills wait for another time.
func (f *Function) scrub(ctx context.Context, t shelf.Table, entry *Entry, p functions.Progress) error {
	handle := f.Shelf.Owned(t.Name)
	if handle == nil {
		return nil
	}
	if t.State == shelf.Suspect || t.State == shelf.Recovering {
		entry.Notes = append(entry.Notes, "the table is being recovered, and was not scrubbed")
		return nil
	}
	rate := f.ScrubRate
	if deadline, ok := ctx.Deadline(); ok {
		rate = inTime(rate, sizeOf(t.Path), time.Until(deadline))
	}
	if rate != f.ScrubRate {
		entry.Notes = append(entry.Notes, "the scrub was faster than ScrubRate: it would not have ended in time")
	}
	end := p.Begin("scrub")
	done, err := handle.Scrub(ctx, table.ScrubOptions{
		BytesPerSecond: rate, Progress: func(done, total int64) { p.Tell(done, total, "scrub") },
	})
	end(done.Bytes)
	entry.Scrubbed, entry.BadPages = int64(done.Pages), len(done.Bad)
	switch {
	case len(done.Bad) > 0:
		err = fmt.Errorf("scrub %s: %w: %d pages are not what was written, the first is %d", t.Name, table.ErrCorrupt, len(done.Bad), done.Bad[0])
	case err == nil:
		return nil
	}
	entry.Outcome = CouldNotRun
	if errors.Is(err, table.ErrCorrupt) {
		return &functions.Failure{Err: err, Final: true, Try: "it is recovered by itself: tablekeeper runs list"}
	}
	return err
}

// inTime is the rate, or the least at which a scrub of size bytes leaves half of the time to the drills. 0 is no limit.
func inTime(rate, size int64, left time.Duration) int64 {
	if rate <= 0 {
		return rate
	}
	half := (left / 2).Seconds()
	if half <= 0 {
		return 0
	}
	return max(rate, int64(float64(size)/half))
}

func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0 // the scrub will say so
	}
	return info.Size()
}
