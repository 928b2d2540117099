package table

import (
	"context"
	"fmt"

	"tablekeeper/storage/ledger"
)

// complete makes the copy a whole database: compared, checked, on disk, with a ledger.
func (o *online) complete(ctx context.Context) error {
	o.opts.Progress("verify", 0, 1)
	if err := o.copy.putTriggers(ctx); err != nil {
		return err
	}
	if err := inBackground(func() error { return o.proveCopy(ctx) }); err != nil {
		return err
	}
	var err error
	o.next, err = ledger.Open(nextLedger(o.t.path), nil)
	o.opts.Progress("verify", 1, 1)
	return err
}

func (o *online) proveCopy(ctx context.Context) error {
	if err := o.round(ctx, true); err != nil {
		return err
	}
	if err := o.copy.check(ctx); err != nil {
		return err
	}
	if err := o.disk.sync(o.newFile); err != nil {
		return err
	}
	_, err := StageLedger(ctx, o.t.path, o.newFile, nil)
	return err
}

// check leaves out, where SQLite has to do it, that indexes agree with their rows: they are as old as the copy, which made them of the
// rows.
func (f *follower) check(ctx context.Context) error {
	return f.c.read(ctx, func() error {
		problems, err := f.c.problems(ctx, CheckOptions{Quick: true, alone: true})
		if err == nil && len(problems) > 0 {
			err = fmt.Errorf("%w: %s", errCopyDiffers, problems[0])
		}
		return err
	})
}
