package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"tablekeeper/jobs/history"
)

// account is what one table has acknowledged, and when.
type account struct {
	mu    sync.Mutex
	acked map[int64]span
}

// span is a time, from before a write to after its acknowledgement: it was committed somewhere between.
type span struct{ since, until time.Time }

func (s span) meets(other span) bool {
	return !s.until.Before(other.since) && !s.since.After(other.until)
}

// loss is what a recovery said of a table: what was written then is gone, or may be. kind is the damage that it was for.
type loss struct {
	span
	kind string
}

// losses reads what the recoveries said, and counts by which damage and how they were made.
func (c *chaos) losses() (all map[string][]loss, by map[string]map[string]int) {
	all, by = map[string][]loss{}, map[string]map[string]int{}
	filter := history.Filter{Function: "recover", Limit: 100}
	for {
		page, err := c.house.history.List(c.t.Context(), filter)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, head := range page.Runs {
			run, err := c.house.history.Get(c.t.Context(), head.ID)
			if err != nil {
				c.t.Fatal(err)
			}
			if !run.Status.Ended() {
				c.t.Fatalf("recovery %s of %v is still %s", run.ID, run.Tables(), run.Status)
			}
			for _, e := range run.Entries {
				kind := c.kindOf(e.Table, run.Queued)
				lost, how := c.lossOf(e, run.Ended)
				if by[kind] == nil {
					by[kind] = map[string]int{}
				}
				by[kind][how]++
				if lost != nil {
					all[e.Table] = append(all[e.Table], loss{*lost, kind})
				}
			}
		}
		if page.Next == "" {
			return all, by
		}
		filter.Cursor = page.Next
	}
}

// kindOf is the last damage that was done to a table before its recovery began.
func (c *chaos) kindOf(name string, at time.Time) string {
	kind := "nothing"
	for _, w := range c.wounds[name] {
		if !w.at.After(at) {
			kind = w.kind
		}
	}
	return kind
}

// lossOf is what one recovery said.
func (c *chaos) lossOf(e history.Entry, ended time.Time) (lost *span, how string) {
	if len(e.Report) == 0 { // it was interrupted, and so said nothing
		return nil, e.Status + " " + e.Reason
	}
	var entry struct {
		Status, Rung, Reason, Lost string
		LostSince                  time.Time `json:"lost_since"`
	}
	if err := json.Unmarshal(e.Report, &entry); err != nil {
		c.t.Fatalf("%v: %s", err, e.Report)
	}
	if entry.Lost != "" {
		lost = &span{entry.LostSince, ended}
	}
	return lost, entry.Status + " " + entry.Rung + entry.Reason
}

// settle compares what the tables have with what they acknowledged. Whoever reads a table waits until it serves, which it does before its
// recovery is recorded. So the content comes first, then the end of every run, then what the recoveries said.
func (c *chaos) settle() {
	there := map[string]map[int64]bool{}
	for _, name := range c.names {
		there[name] = c.content(name)
	}
	c.house.runner.Wait()
	lost, by := c.losses()
	acked, gone := 0, map[string]int{}
	for _, name := range c.names {
		book := c.books[name]
		acked += len(book.acked)
		for n, when := range book.acked {
			if there[name][n] {
				continue
			}
			i := slices.IndexFunc(lost[name], func(l loss) bool { return when.meets(l.span) })
			if i < 0 {
				c.t.Errorf("row %d of %s was acknowledged at %v and is gone; it was damaged by %v, and the losses told of are %v",
					n, name, when.until, c.wounds[name], lost[name])
				return
			}
			gone[lost[name][i].kind]++
		}
	}
	all := 0
	for _, n := range gone {
		all += n
	}
	c.t.Logf("%d writes acknowledged, %d kept, %d lost and told of; done %v", acked, acked-all, all, c.did)
	for _, kind := range slices.Sorted(maps.Keys(by)) {
		c.t.Logf("%10s: recovered %v, %d rows lost and told of", kind, by[kind], gone[kind])
	}
}

func (c *chaos) content(name string) map[int64]bool {
	there := map[int64]bool{}
	ctx := context.Background()
	err := c.house.shelf.Owned(name).Read(ctx, func(tx *sql.Tx) error {
		clear(there)
		var verdict string
		if err := tx.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
			return errors.Join(fmt.Errorf("integrity_check: %s", verdict), err)
		}
		rows, err := tx.QueryContext(ctx, "SELECT n FROM chaos NOT INDEXED")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var n int64
			if err := rows.Scan(&n); err != nil {
				return err
			}
			there[n] = true
		}
		return rows.Err()
	})
	if err != nil {
		c.t.Errorf("%s: %v", name, err)
	}
	return there
}
