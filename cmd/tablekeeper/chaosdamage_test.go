package main

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"tablekeeper/jobs"
	"tablekeeper/storage/table"
)

// wound is damage that was done to a table.
type wound struct {
	at   time.Time
	kind string
}

// step does one thing to one table, and waits until it serves again; or it damages the table while something else is done to it.
func (c *chaos) step(ctx context.Context) {
	name := c.names[c.random.IntN(len(c.names))]
	function, event := []string{"backup", "backup", "compact", "verify"}[c.random.IntN(4)], map[string]any{"tables": []string{name}}
	if function == "compact" {
		event["force"] = true
	}
	what := c.random.IntN(4)
	if what < 2 {
		c.run(ctx, function, event, jobs.Sync)
		return
	}
	if c.spared(name) {
		return
	}
	if what == 2 {
		c.run(ctx, function, event, jobs.Async)
		for range c.random.IntN(20) { // until it is somewhere in the middle
			if err := c.define(ctx, name); err != nil && ctx.Err() == nil {
				c.t.Errorf("%s does not serve while it is worked on: %v", name, err)
			}
		}
	}
	c.damage(name)
	c.serves(name)
}

// spared tells whether a table was damaged so often just now that once more would be too often for its recovery.
func (c *chaos) spared(name string) bool {
	c.hurt[name] = slices.DeleteFunc(c.hurt[name], func(at time.Time) bool { return c.now().Sub(at) > 12*time.Minute })
	if len(c.hurt[name]) >= 2 {
		return true
	}
	c.hurt[name] = append(c.hurt[name], c.now())
	return false
}

// serves waits until a table has been scrubbed and takes a write.
func (c *chaos) serves(name string) {
	handle := c.house.shelf.Owned(name)
	if _, err := handle.Scrub(context.Background(), table.ScrubOptions{}); err != nil && !errors.Is(err, table.ErrCorrupt) && !unavailable(err) {
		c.t.Errorf("scrub %s: %v", name, err)
	}
	if err := c.define(context.Background(), name); err != nil {
		c.t.Errorf("%s does not serve again: %v", name, err)
	}
}

// damage does to the file of a table what disks, people and other programs do.
func (c *chaos) damage(name string) {
	path := c.house.shelf.Owned(name).Path()
	kinds := []string{"flip", "flip", "zero", "garbage", "truncate", "delete", "replace", "header", "journal"}
	kind := kinds[c.random.IntN(len(kinds))]
	c.did[kind]++
	c.wounds[name] = append(c.wounds[name], wound{c.now(), kind})
	if err := c.inflict(path, kind); err != nil && !errors.Is(err, io.EOF) {
		c.t.Errorf("%s %s: %v", kind, name, err)
	}
}

func (c *chaos) inflict(path, kind string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	switch kind {
	case "delete":
		return os.Remove(path)
	case "replace":
		return errors.Join(os.WriteFile(path+".other", []byte("not a table"), 0o600), os.Rename(path+".other", path))
	case "truncate":
		return os.Truncate(path, c.random.Int64N(info.Size()))
	case "journal":
		b := make([]byte, 512+4096+8)
		copy(b, "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7")
		copy(b[8:], []byte{0, 0, 0, 1, 1, 2, 3, 4, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 16, 0})
		return os.WriteFile(path+"-journal", b, 0o600)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	page := c.random.Int64N(max(info.Size()/4096, 1)) * 4096
	switch kind {
	case "flip":
		b := make([]byte, 1)
		at := page + c.random.Int64N(4096)
		if _, err = f.ReadAt(b, at); err == nil {
			b[0] ^= 1 << c.random.IntN(8)
			_, err = f.WriteAt(b, at)
		}
	case "zero":
		_, err = f.WriteAt(make([]byte, 4096), page)
	case "garbage":
		_, err = f.WriteAt(slices.Repeat([]byte("garbage!"), 1024), page)
	case "header":
		_, err = f.WriteAt(make([]byte, 100), 0)
	}
	return errors.Join(err, f.Close())
}
