package stores

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// MessageHistorySchema is the SQL of the table message_history.
const MessageHistorySchema = `
CREATE TABLE IF NOT EXISTS history (
  id        TEXT PRIMARY KEY,
  sender    TEXT NOT NULL,
  recipient TEXT NOT NULL,
  kind      TEXT NOT NULL,
  body      TEXT NOT NULL,
  happened  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS history_happened ON history (happened, id);
CREATE INDEX IF NOT EXISTS history_sender ON history (sender, happened, id);
CREATE INDEX IF NOT EXISTS history_recipient ON history (recipient, happened, id);
`

// Record is one thing said: who, to whom, of what kind, when.
type Record struct {
	ID   string    `json:"id"`
	From string    `json:"from"`
	To   string    `json:"to"`
	Kind string    `json:"kind"`
	Body string    `json:"body"`
	At   time.Time `json:"at"`
}

// HistoryQuery narrows a query; zero fields do not. Party is the sender or the recipient. After is the Next of the page before.
type HistoryQuery struct {
	Party    string
	From, To time.Time // From <= at < To
	After    HistoryCursor
	Limit    int
}

// HistoryCursor is a place in the order of time.
type HistoryCursor struct {
	At time.Time `json:"at"`
	ID string    `json:"id"`
}

// History is the append-only record of what was said.
type History struct {
	table Table
	now   func() time.Time
}

// NewHistory opens the store on the table message_history.
func NewHistory(ctx context.Context, table Table, now func() time.Time) (*History, error) {
	if err := define(ctx, table, MessageHistorySchema); err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	return &History{table: table, now: now}, nil
}

// Append adds a record; its time is now unless it has one. A record whose id is there already is not added again.
func (h *History) Append(ctx context.Context, r Record) (Record, error) {
	if err := checkNames("from", r.From, "to", r.To, "kind", r.Kind); err != nil {
		return Record{}, err
	}
	if err := errors.Join(checkBody("body", r.Body), checkTime("at", r.At)); err != nil {
		return Record{}, err
	}
	var err error
	if r.ID, err = identify(r.ID); err != nil {
		return Record{}, err
	}
	if r.At.IsZero() {
		r.At = h.now()
	}
	r.At = r.At.UTC().Truncate(time.Millisecond)
	err = h.table.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO history (id, sender, recipient, kind, body, happened) VALUES (?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING`,
			r.ID, r.From, r.To, r.Kind, r.Body, millis(r.At))
		return err
	})
	return r, err
}

// Query returns records, oldest first.
func (h *History) Query(ctx context.Context, q HistoryQuery) ([]Record, error) {
	if q.Party != "" {
		if err := checkNames("party", q.Party); err != nil {
			return nil, err
		}
	}
	const columns = `SELECT id, sender, recipient, kind, body, happened FROM history`
	const window = ` happened >= ?1 AND (?2 = 0 OR happened < ?2) AND (happened, id) > (?3, ?4)`
	query := columns + ` WHERE` + window
	if q.Party != "" {
		// UNION lets each half use the index of its own column, and drops the second copy of what somebody said to himself.
		query = columns + ` WHERE sender = ?6 AND` + window + ` UNION ` + columns + ` WHERE recipient = ?6 AND` + window
	}
	args := []any{millis(q.From), millis(q.To), millis(q.After.At), q.After.ID, page(q.Limit)}
	if q.Party != "" {
		args = append(args, q.Party)
	}
	var records []Record
	err := h.table.Read(ctx, func(tx *sql.Tx) (err error) {
		records, err = collect(ctx, tx, scanRecord, query+` ORDER BY happened, id LIMIT ?5`, args...)
		return err
	})
	return records, err
}

// Purge removes records older than a time and returns how many.
func (h *History) Purge(ctx context.Context, before time.Time) (int, error) {
	return purge(ctx, h.table, `DELETE FROM history WHERE happened < ?`, millis(before))
}

func scanRecord(scan func(...any) error) (r Record, err error) {
	var at int64
	err = scan(&r.ID, &r.From, &r.To, &r.Kind, &r.Body, &at)
	r.At = moment(at)
	return r, err
}
