package table

import (
	"context"
	"errors"
	"os"
	"time"
)

const (
	// Where the file system is mounted with discard, freeing 64 MiB keeps every fsync waiting for 60 to 100 ms; elsewhere for next to nothing.
	firstBury = 4 << 20 // bytes freed at a time
	mostBury  = 64 << 20
	buryTook  = 8 * time.Millisecond // what one step may take
	buryPause = 5 * time.Millisecond
	barWait   = time.Hour
)

// releaseProof gives the proof back, unless it has to last as long as our readers do.
func (c *cut) releaseProof() error {
	if _, ok := c.proof.(*bar); ok {
		return nil
	}
	return c.proof.release()
}

// bury closes the old session when its last reader is gone, and removes the old file: its successor was compared with it, checked
// and is durable. Freed at once, a large file would keep every fsync on the file system waiting. What somebody else has come to use
// stays in quarantine, and so does everything while the swap is not closed.
func (c *cut) bury(closed bool) {
	c.retire()
	ctx := context.Background()
	if b, ok := c.proof.(*bar); ok {
		if err := b.lift(ctx, c.sw.kept(), barWait); err != nil {
			c.t.log.Warn("let go of the replaced file", "error", err)
		}
	}
	if !closed {
		return
	}
	if err := errors.Join(c.free(), c.sw.d.remove(c.shm)); err != nil {
		c.t.log.Warn("remove the file that was compacted: it stays in quarantine", "path", c.sw.quarantine(), "error", err)
	}
}

// retire waits for those who stayed in the old session, and closes it.
func (c *cut) retire() {
	s := c.old
	if s.gone == nil {
		return
	}
	<-s.gone
	s.drop()
	if err := s.ledger.Close(); err != nil {
		c.t.log.Warn("close the ledger of the replaced file", "error", err)
	}
}

func (c *cut) free() error {
	alone, err := prove(c.sw.d, c.sw.kept(), true, "")
	if err == nil {
		err = alone.release() // or it would be in its own way
	}
	if err == nil {
		err = shrink(c.sw.kept())
	}
	if err != nil {
		return err
	}
	for _, ending := range append([]string{""}, sidecars...) {
		err = errors.Join(err, c.sw.d.remove(c.sw.kept()+ending))
	}
	return errors.Join(err, c.sw.d.remove(c.sw.quarantine()), c.sw.d.syncDir(QuarantineDir(c.sw.path)))
}

// shrink frees a file step by step, unless it has another name by now: then it is somebody else's, too.
func shrink(path string) error {
	info, err := os.Lstat(path)
	if err != nil || links(info) > 1 {
		return err
	}
	step := int64(firstBury)
	for size := info.Size() - step; size > 0; size -= step {
		start := time.Now()
		if err := os.Truncate(path, size); err != nil {
			return err
		}
		step = nextBury(step, time.Since(start))
		_ = pause(context.Background(), buryPause) // never ends early
	}
	return nil
}

// nextBury is how much to free next, after a step that took so long.
func nextBury(step int64, took time.Duration) int64 {
	switch {
	case took > buryTook:
		return max(step/2, 1<<20)
	case took < buryTook/4:
		return min(2*step, mostBury)
	}
	return step
}
