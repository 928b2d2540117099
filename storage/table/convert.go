package table

import (
	"context"
	"fmt"
	"time"
)

// What a table can be converted to.
const (
	Incremental    = "incremental" // free pages are given back in slices
	NoAutoVacuum   = "none"
	strategyHeader = "header" // two bytes in the header: full and incremental differ by nothing else
	headerPause    = 20 * time.Millisecond
	convertAdvice  = ", or convert the table once to auto_vacuum=incremental: tablekeeper convert"
)

// adviseConversion is a way out for a table that cannot be compacted in slices yet.
func (k *compaction) adviseConversion() string {
	if k.opts.Convert != "" || k.before.AutoVacuum == Incremental {
		return ""
	}
	return convertAdvice
}

// convert has the connection's next VACUUM make a database of that kind. It writes nothing itself, unless the database goes from full to
// incremental or back.
func (c *conn) convert(ctx context.Context, to string) error {
	if to == "" {
		return nil
	}
	if to != Incremental && to != NoAutoVacuum {
		return fmt.Errorf("convert to auto_vacuum=%s: %w", to, ErrUnsupported)
	}
	return c.exec(ctx, "PRAGMA auto_vacuum="+to)
}

// changeHeader changes how pages are given back in a table that can give them back.
func (k *compaction) changeHeader(ctx context.Context) error {
	if err := k.conn.patience(ctx, k.opts.Wait); err != nil {
		return err
	}
	if err := k.conn.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	start := time.Now()
	err := k.conn.convert(ctx, k.opts.Convert)
	if err == nil {
		err = k.conn.exec(ctx, "COMMIT")
	}
	if err != nil {
		_ = k.conn.exec(context.WithoutCancel(ctx), "ROLLBACK") // or it is rolled back already
		return fmt.Errorf("change auto_vacuum: %w", err)
	}
	k.blocked(time.Since(start))
	return nil
}
