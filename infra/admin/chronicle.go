package admin

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"tablekeeper/jobs/history"
)

// Point is a table's share of free pages at a time.
type Point struct {
	At    time.Time `json:"at"`
	Ratio float64   `json:"ratio"`
}

// Last is how a function last fared with a table.
type Last struct {
	RunID      string    `json:"run_id"`
	Status     string    `json:"status"`
	Reason     string    `json:"reason,omitempty"`
	At         time.Time `json:"at,omitzero"`
	DurationMS int64     `json:"duration_ms"`
}

const (
	maxPoints = 30   // of one table
	maxPast   = 1000 // entries that are looked through for all tables together
)

// functionsOfATable are those whose last entry is shown with a table.
var functionsOfATable = []string{"compact", "backup", "verify", "restore", "recover"}

// past is what the history says of all tables.
type past struct {
	last map[string]map[string]Last // by table and function
	free map[string][]Point         // by table, oldest first
}

// chronicle reads the past again only after something has happened.
type chronicle struct {
	history History

	mu       sync.Mutex
	read     bool
	sequence int64 // of the newest event when it was read
	past     past
}

// read gives the past; what is in it must not be changed.
func (c *chronicle) get(ctx context.Context) (past, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, newest, err := c.history.EventBounds(ctx)
	if err != nil {
		return past{}, err
	}
	if c.read && newest == c.sequence {
		return c.past, nil
	}
	p := past{last: map[string]map[string]Last{}, free: map[string][]Point{}}
	for _, function := range functionsOfATable {
		records, err := c.history.Latest(ctx, function)
		if err != nil {
			return past{}, err
		}
		for table, r := range records {
			if p.last[table] == nil {
				p.last[table] = map[string]Last{}
			}
			p.last[table][function] = Last{RunID: r.RunID, Status: r.Entry.Status, Reason: r.Entry.Reason, At: r.Ended, DurationMS: r.Entry.DurationMS}
		}
	}
	recent, err := c.history.Entries(ctx, history.Filter{Function: "compact", Limit: maxPast})
	if err != nil {
		return past{}, err
	}
	p.free = points(recent.Records)
	c.read, c.sequence, c.past = true, newest, p
	return p, nil
}

// points are the shares of free pages that compactions found, by table.
func points(newestFirst []history.Record) map[string][]Point {
	all := map[string][]Point{}
	for _, r := range newestFirst {
		var found struct {
			Ratio       *float64 `json:"freelist_ratio"`
			PagesBefore int64    `json:"pages_before"`
		}
		if len(all[r.Entry.Table]) >= maxPoints || json.Unmarshal(r.Entry.Report, &found) != nil || found.Ratio == nil || found.PagesBefore == 0 {
			continue
		}
		at := r.Ended
		if at.IsZero() {
			at = r.Started
		}
		all[r.Entry.Table] = append(all[r.Entry.Table], Point{at, *found.Ratio})
	}
	for _, of := range all {
		slices.Reverse(of)
	}
	return all
}
