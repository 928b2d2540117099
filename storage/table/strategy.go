package table

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ownedPause is how long a write of an owned table may be held up by a compaction.
const ownedPause = 50 * time.Millisecond

// Compact gives the table's free pages back to the file system while it is in use.
//
// How depends on the table: one so small that a VACUUM in place holds its writer for less than 50 ms (or MaxPause, if that is shorter) is
// compacted in place; any other is copied beside itself, and the copy takes its place when it has caught up with the writer. The
// writer is held for the last few rows and the exchange of the files, whatever the table's size; readers in a transaction go on reading
// the file that was replaced. Where that cannot be, since another process has the file open, or there are no means to prove that none has, the
// table is compacted in place like any other: see the function Compact, whose contract for skips and errors holds here too. A skip for
// TooBusy or SchemaBusy is one more; the table is as it was then.
//
// Detach and Close end a compaction. The caller holds the table's Lock.
func (t *Table) Compact(ctx context.Context, opts CompactOptions) (Compaction, error) {
	opts.defaults()
	k := &compaction{path: t.path, opts: opts, owned: true}
	ctx, end, err := t.begin(ctx)
	if err == nil {
		defer end()
		_, err = t.Checkpoint(ctx) // or the file would seem smaller than the table
	}
	if err == nil {
		err = k.measureOwned(ctx)
	}
	if err == nil && k.Status == "" {
		err = t.carryOut(ctx, k)
	}
	if err = k.excuse(err); err != nil {
		k.Status = Failed
		return k.Compaction, fmt.Errorf("compact %s: %w", t.path, asCorrupt(t.path, err))
	}
	return k.Compaction, nil
}

// begin makes sure that there is one compaction at a time, and that Detach and Close can end it.
func (t *Table) begin(ctx context.Context) (context.Context, func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &compacting{cancel: cancel, done: make(chan struct{})}
	if !t.compacting.CompareAndSwap(nil, w) {
		cancel()
		return ctx, nil, &ownedError{t.path, fmt.Errorf("it is being compacted: %w", ErrLocked)}
	}
	return ctx, func() {
		cancel()
		t.compacting.Store(nil)
		close(w.done)
	}, nil
}

type compacting struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// cease ends a compaction that is going on.
func (t *Table) cease() {
	if w := t.compacting.Load(); w != nil {
		w.cancel()
		<-w.done
	}
}

// measureOwned decides like measure, for a table whose writers we can hold.
func (k *compaction) measureOwned(ctx context.Context) error {
	s, err := Stat(ctx, k.path)
	if err != nil {
		return err
	}
	k.take(s)
	k.plan()
	if k.opts.Convert == s.AutoVacuum {
		k.skip(Unchanged, "it has auto_vacuum=%s", s.AutoVacuum)
		return nil
	}
	if k.idle() {
		k.skip(BelowThreshold, "%.1f %% of the pages are free", 100*s.FreeRatio)
		return nil
	}
	if inPlace := k.PredictedPauseMS; k.Strategy == strategyCopyIn || inPlace > min(ownedPause, k.opts.MaxPause).Milliseconds() {
		k.Strategy, k.PredictedPauseMS = strategyOnline, cutPause.Milliseconds()
		k.note("in place, writers would be held for about %d ms: the table is copied beside itself instead", inPlace)
		k.addUp()
	}
	return k.room()
}

// cutPause is what a cut takes on a disk that syncs in a millisecond.
const cutPause = 15 * time.Millisecond

func (t *Table) carryOut(ctx context.Context, k *compaction) error {
	if k.Strategy != strategyOnline {
		return t.inPlace(ctx, k)
	}
	err := t.compactOnline(ctx, k)
	switch {
	case err == nil:
		return k.measureAfter(ctx)
	case k.Status == Compacted, ctx.Err() != nil:
		return err
	case errors.Is(err, errTooBusy), errors.Is(err, errNotYet):
		k.skip(TooBusy, "%v: %d rounds carried %d rows over; try again in a quieter hour", err, k.Rounds, k.RowsCaughtUp)
		return nil
	case errors.Is(err, errSchemaMoved):
		k.skip(SchemaBusy, "%v, %d times", err, mostCopies)
		return nil
	case errors.Is(err, errForeign), errors.Is(err, ErrInUse), errors.Is(err, ErrUnproven), errors.Is(err, ErrUnsupported), errors.Is(err, ErrNoLinks):
		return t.fallBack(ctx, k, err)
	}
	return err
}

// fallBack compacts in place what cannot be swapped.
func (t *Table) fallBack(ctx context.Context, k *compaction, why error) error {
	k.note("not beside itself: %v", why)
	k.plan()
	if k.PredictedPauseMS > k.opts.MaxPause.Milliseconds() {
		k.wouldBlock()
		return nil
	}
	if err := k.room(); err != nil || k.Status != "" {
		return err
	}
	return t.inPlace(ctx, k)
}

// inPlace is what is done to any table, and then ours moves its WAL: nobody else can, beyond the pin.
func (t *Table) inPlace(ctx context.Context, k *compaction) error {
	if err := k.work(ctx); err != nil || k.Status != Compacted {
		return err
	}
	_, err := t.Checkpoint(ctx)
	return errors.Join(err, k.measureAfter(ctx))
}

// wouldBlock says what an operator can do.
func (k *compaction) wouldBlock() {
	k.skip(WouldBlock, "writers would wait for about %d ms, %d ms are allowed: raise the pause, choose a window in which it may be longer"+k.adviseConversion(), k.PredictedPauseMS, k.opts.MaxPause.Milliseconds())
}
