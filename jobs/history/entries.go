package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"tablekeeper/jobs/events"
)

// Record is one table's entry with the run that it belongs to: a line of the compaction history.
type Record struct {
	RunID    string    `json:"run_id"`
	Function string    `json:"function"`
	Trigger  string    `json:"trigger"`
	Actor    string    `json:"actor,omitempty"`
	Started  time.Time `json:"started_at,omitzero"`
	Ended    time.Time `json:"ended_at,omitzero"`
	Entry    Entry     `json:"entry"`
}

// Records is a part of the entries, newest run first.
type Records struct {
	Records []Record `json:"records"`
	Next    string   `json:"next,omitempty"`
}

const recordColumns = `runs.seq, entries.n, runs.id, runs.function, runs.trigger, runs.actor, runs.started, runs.ended, `

func scanRecord(row scanner) (rec Record, seq, n int64, err error) {
	var started, ended int64
	rec.Entry, err = scanEntry(row, &seq, &n, &rec.RunID, &rec.Function, &rec.Trigger, &rec.Actor, &started, &ended)
	rec.Started, rec.Ended = fromMillis(started), fromMillis(ended)
	return rec, seq, n, err
}

// Entries lists entries across runs: with Function "compact" it is the compaction history.
func (s *Store) Entries(ctx context.Context, f Filter) (Records, error) {
	where, args := f.where()
	statuses, more := in("entries.status", f.Statuses)
	where, args = where+statuses, append(args, more...)
	if f.Table != "" {
		where, args = where+" AND entries.tbl = ?", append(args, f.Table)
	}
	if f.Cursor != "" {
		var seq, n int64
		if _, err := fmt.Sscanf(f.Cursor, "%d.%d", &seq, &n); err != nil {
			return Records{}, fmt.Errorf("list entries after %q: %w", f.Cursor, ErrCursor)
		}
		where, args = where+" AND (runs.seq < ? OR runs.seq = ? AND entries.n > ?)", append(args, seq, seq, n)
	}
	limit := f.limit()
	list := Records{Records: []Record{}}
	err := s.view(func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, `SELECT `+recordColumns+entryColumns+` FROM runs CROSS JOIN entries ON entries.run = runs.seq WHERE `+where+
			` ORDER BY runs.seq DESC, entries.n LIMIT ?`, append(args, limit+1)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		var seq, n int64
		for rows.Next() {
			if len(list.Records) == limit {
				list.Next = fmt.Sprintf("%d.%d", seq, n)
				break
			}
			var rec Record
			if rec, seq, n, err = scanRecord(rows); err != nil {
				return err
			}
			list.Records = append(list.Records, rec)
		}
		return rows.Err()
	})
	if err != nil {
		return Records{}, fmt.Errorf("list entries: %w", err)
	}
	return list, nil
}

// Latest is the newest ended entry of each table for a function, by table.
func (s *Store) Latest(ctx context.Context, function string) (map[string]Record, error) {
	latest := map[string]Record{}
	err := s.view(func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, latestQuery+` WHERE latest.function = ?`, function)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			rec, _, _, err := scanRecord(rows)
			if err != nil {
				return err
			}
			latest[rec.Entry.Table] = rec
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read latest entries of %s: %w", function, err)
	}
	return latest, nil
}

const latestQuery = `SELECT ` + recordColumns + entryColumns + ` FROM latest JOIN runs ON runs.seq = latest.run
	JOIN entries ON entries.run = latest.run AND entries.n = latest.n`

// Last is the newest ended entry of one table for a function; fs.ErrNotExist if there is none.
func (s *Store) Last(ctx context.Context, function, table string) (Record, error) {
	var rec Record
	err := s.view(func(db *sql.DB) (err error) {
		rec, _, _, err = scanRecord(db.QueryRowContext(ctx, latestQuery+` WHERE latest.function = ? AND latest.tbl = ?`, function, table))
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return Record{}, fmt.Errorf("%s has never run for table %s: %w", function, table, fs.ErrNotExist)
	}
	if err != nil {
		return Record{}, fmt.Errorf("read last %s of table %s: %w", function, table, err)
	}
	return rec, nil
}

// AppendEvents keeps events and gives each its sequence number, in place; all or none.
func (s *Store) AppendEvents(ctx context.Context, list []events.Event) error {
	numbers := make([]int64, len(list))
	err := s.update(ctx, func(tx *sql.Tx) error {
		for i, e := range list {
			body, err := json.Marshal(e)
			if err != nil {
				return err
			}
			done, err := tx.ExecContext(ctx, `INSERT INTO events (time, body) VALUES (?, ?)`, millis(e.Time), string(body))
			if err != nil {
				return err
			}
			if numbers[i], err = done.LastInsertId(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep events: %w", err)
	}
	for i := range list {
		list[i].Sequence = numbers[i]
	}
	return nil
}

// EventsAfter are up to limit events after a sequence number, in order.
func (s *Store) EventsAfter(ctx context.Context, sequence int64, limit int) ([]events.Event, error) {
	var list []events.Event
	err := s.view(func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, `SELECT sequence, body FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?`, sequence, limit)
		if err != nil {
			return err
		}
		list, err = collect(rows, func() (e events.Event, err error) {
			var body string
			var number int64
			if err = rows.Scan(&number, &body); err == nil {
				err = json.Unmarshal([]byte(body), &e)
			}
			e.Sequence = number
			return e, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return list, nil
}

// EventBounds are the first and last sequence numbers kept; 0, 0 if there are none.
func (s *Store) EventBounds(ctx context.Context) (first, last int64, err error) {
	err = s.view(func(db *sql.DB) error {
		return db.QueryRowContext(ctx, `SELECT coalesce(min(sequence), 0), coalesce(max(sequence), 0) FROM events`).Scan(&first, &last)
	})
	if err != nil {
		return 0, 0, fmt.Errorf("read event numbers: %w", err)
	}
	return first, last, nil
}
