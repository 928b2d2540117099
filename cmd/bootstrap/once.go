package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"time"

	"tablekeeper/storage/bucket"
)

// once sees to it that one event is done once for one table, however often it is delivered. A small object says who does it, until
// when at the latest, and what came of it; it is made with If-None-Match, changed with If-Match, and expires by a rule of the
// bucket.
type once struct {
	bucket   bucket.Bucket
	function string
	now      func() time.Time
}

// errInProgress: another invocation is doing the same event.
var errInProgress = errors.New("the event is being done by another invocation")

// mark is the object.
type mark struct {
	State string          `json:"state"`           // begun, done or failed
	Until time.Time       `json:"until"`           // begun: whoever began is dead after it
	Entry json.RawMessage `json:"entry,omitempty"` // done or failed: the report
}

const (
	begun = "begun"
	done  = "done"
	fails = "failed"
)

// claim is the right to do an event.
type claim struct {
	*once
	key, etag string
}

// grace is how long after its deadline an invocation may still run: Lambda's clock and ours differ.
const grace = 5 * time.Second

var unsafeInKeys = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// take claims an event for a table. If it is done already, entry is its report and there is no claim.
func (o *once) take(ctx context.Context, id, table string) (c *claim, entry json.RawMessage, err error) {
	key := eventPrefix + o.function + "/" + unsafeInKeys.ReplaceAllString(id, "-") + "/" + unsafeInKeys.ReplaceAllString(table, "-")
	if table == "" {
		key += "_"
	}
	c = &claim{once: o, key: key}
	mine := mark{State: begun, Until: o.until(ctx)}
	err = c.write(ctx, mine)
	if !errors.Is(err, bucket.ErrExists) {
		return c, nil, err
	}
	theirs, etag, err := c.read(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, errInProgress // it was there a moment ago
	}
	switch {
	case err != nil:
		return nil, nil, err
	case theirs.State == done:
		return nil, theirs.Entry, nil
	case theirs.State == begun && o.now().Before(theirs.Until):
		return nil, nil, fmt.Errorf("%w until %s at the latest", errInProgress, theirs.Until.Format(time.RFC3339))
	}
	c.etag = etag
	if err := c.write(ctx, mine); err != nil {
		if errors.Is(err, bucket.ErrPrecondition) {
			return nil, nil, errInProgress
		}
		return nil, nil, err
	}
	return c, nil, nil
}

func (o *once) until(ctx context.Context) time.Time {
	deadline, ok := ctx.Deadline()
	if !ok {
		const longest = 15 * time.Minute // of any invocation of Lambda
		deadline = o.now().Add(longest)
	}
	return deadline.Add(grace).UTC()
}

func (c *claim) read(ctx context.Context) (m mark, etag string, err error) {
	info, err := c.bucket.Head(ctx, c.key)
	if err != nil {
		return m, "", fmt.Errorf("look whether the event is done: %w", err)
	}
	text, err := readAll(ctx, c.bucket, c.key)
	if err != nil {
		return m, "", fmt.Errorf("look whether the event is done: %w", err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return mark{State: fails}, info.ETag, nil //nolint:nilerr // then it is not known to be done
	}
	return m, info.ETag, nil
}

// write changes the mark, if it is as it was when it was last seen.
func (c *claim) write(ctx context.Context, m mark) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	info, err := c.bucket.Put(ctx, c.key, bytes.NewReader(text), bucket.PutOptions{IfAbsent: c.etag == "", IfMatch: c.etag})
	if err != nil {
		return fmt.Errorf("mark the event: %w", err)
	}
	c.etag = info.ETag
	return nil
}

// end says what came of it. After a failure the event may be done again at once, even one that is going to fail again: Lambda tells the
// on-failure destination only if its retry fails too.
func (c *claim) end(ctx context.Context, entry json.RawMessage, failed error) error {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	m := mark{State: done, Entry: entry}
	if failed != nil {
		m.State = fails
	}
	return c.write(ctx, m)
}
