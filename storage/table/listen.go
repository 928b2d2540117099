package table

import (
	"context"
	"errors"
	"fmt"
)

// listen begins to capture.
func (o *online) listen(ctx context.Context) error {
	c, err := connect(ctx, o.t.path, openOptions{wait: o.opts.Wait, private: true, readOnly: true})
	if err != nil {
		return err
	}
	err = c.row(ctx, "PRAGMA schema_version", &o.schema)
	if err == nil {
		o.shapes, err = c.shapes(ctx)
	}
	if err := errors.Join(err, o.encodable(ctx, c), c.close()); err != nil {
		return err
	}
	return o.alone(ctx, func(c *conn) error {
		o.capture = newCapture(o.shapes)
		if err := c.row(ctx, "PRAGMA data_version", &o.data); err != nil {
			return err
		}
		if err := c.raw(o.capture.attach); err != nil {
			return err
		}
		return o.unchanged(ctx, c)
	})
}

// encodable refuses keys that the hook may not hand out as they are: it makes UTF-8 of them.
func (o *online) encodable(ctx context.Context, c *conn) error {
	var encoding string
	if err := c.row(ctx, "PRAGMA encoding", &encoding); err != nil || encoding == "UTF-8" {
		return err
	}
	for _, s := range o.shapes {
		if s.keyed() && !s.whole {
			return fmt.Errorf("%s has no rowids and its texts are %s: %w", s.name, encoding, ErrUnsupported)
		}
	}
	return nil
}

// unchanged is asked while nobody writes: whether all that was changed is captured.
func (o *online) unchanged(ctx context.Context, c *conn) error {
	err := c.raw(func(driverConn any) error {
		if driverConn != o.capture.driver {
			return errAway
		}
		return nil
	})
	var schema, data int64
	if err == nil {
		err = c.row(ctx, "PRAGMA schema_version", &schema)
	}
	if err == nil {
		err = c.row(ctx, "PRAGMA data_version", &data)
	}
	switch {
	case err != nil:
		return err
	case data != o.data:
		return errForeign
	case schema != o.schema:
		return errSchemaMoved
	}
	return nil
}

// unhook ends the capture. A connection that is closed has ended it by itself.
func (s *session) unhook(ctx context.Context, t *Table, c *capture) {
	release, err := t.writeLock(ctx)
	if err != nil {
		return
	}
	defer release()
	if s.retired.Load() {
		return
	}
	_ = s.onWriter(ctx, func(w *conn) error {
		return w.raw(func(driverConn any) error {
			c.detach(driverConn)
			return nil
		})
	})
}
