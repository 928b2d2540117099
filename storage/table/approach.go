package table

import (
	"context"
	"errors"
	"time"
)

// approach catches up until no more rows are left than enough.
func (o *online) approach(ctx context.Context, enough int, last bool) error {
	for {
		n := o.capture.waiting()
		if n <= enough && (last || o.Rounds > 0) {
			return nil
		}
		if o.Rounds >= mostRounds {
			return o.hurry(n, last)
		}
		if err := o.round(ctx, false); err != nil {
			return err
		}
	}
}

// hurry allows the cut with more rows left than it should have, if the pause that the users accept is long enough for them.
func (o *online) hurry(n int, last bool) error {
	if !last {
		return nil
	}
	if time.Duration(n)*o.perRow > o.opts.MaxPause/2 {
		return errTooBusy
	}
	return nil
}

// round carries over what was touched since the last one. compare counts all rows on both sides.
func (o *online) round(ctx context.Context, compare bool) error {
	var set *touched
	err := o.alone(ctx, func(c *conn) (err error) {
		set, err = o.fix(ctx, c)
		return err
	})
	if err != nil {
		return err
	}
	return o.carryOver(ctx, set, compare)
}

// fix takes the set, and the state of the table that goes with it.
func (o *online) fix(ctx context.Context, c *conn) (*touched, error) {
	if err := o.unchanged(ctx, c); err != nil {
		return nil, err
	}
	set, err := o.capture.take()
	if err == nil {
		err = o.copy.begin(ctx)
	}
	return set, err
}

func (o *online) carryOver(ctx context.Context, set *touched, compare bool) error {
	start := time.Now()
	if err := o.copy.apply(ctx, set, compare); err != nil {
		return err
	}
	o.Rounds++
	o.RowsCaughtUp += int64(set.n)
	o.perRow = time.Since(start) / time.Duration(max(set.n, 1))
	o.opts.Progress("catch_up", o.RowsCaughtUp, o.RowsCaughtUp+int64(o.capture.waiting()))
	return o.noteFrames(ctx)
}

// noteFrames brings the new file's ledger up to the last round, and that into the file, both at the same time.
func (o *online) noteFrames(ctx context.Context) error {
	frames, err := o.copy.frames()
	if err != nil {
		return err
	}
	noted := make(chan error, 1)
	go func(first uint32) {
		if o.next == nil || len(frames) == 0 {
			noted <- nil
			return
		}
		noted <- o.next.Absorb(o.copy.tail.gen, first, frames)
	}(o.copy.tail.frame - uint32(len(frames)) + 1)
	err = o.copy.checkpoint(ctx)
	return errors.Join(err, <-noted)
}
