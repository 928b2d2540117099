package alerts

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"tablekeeper/storage/privatedb"
)

// Status of a delivery.
type Status string

// A delivery is pending until its receiver has taken it; failed for good once its receiver refuses it or the attempts are spent.
const (
	Pending   Status = "pending"
	Delivered Status = "delivered"
	Failed    Status = "failed"
)

// Delivery is one message for one channel.
type Delivery struct {
	ID       string          `json:"id"` // stays the same over all attempts
	Channel  string          `json:"channel"`
	Body     json.RawMessage `json:"body"`
	Status   Status          `json:"status"`
	Attempts int             `json:"attempts"`
	Created  time.Time       `json:"created"`
	Next     time.Time       `json:"next,omitzero"`
	Ended    time.Time       `json:"ended,omitzero"`
	Error    string          `json:"error,omitempty"` // of the last attempt
}

// retries are the waits after each attempt that failed; about three days in all.
var retries = []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour, 3 * time.Hour,
	6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 24 * time.Hour}

// keepDeliveries is how long ended deliveries are kept for the log.
const keepDeliveries = 30 * 24 * time.Hour

// outbox keeps, over restarts, what is to be told and what is known: deliveries, open alerts, how far the bus was read, push
// subscriptions and their key. A message that is in it is sent at least once.
type outbox struct{ db *sql.DB }

var outboxSchema = privatedb.Schema{Version: 1, SQL: `
CREATE TABLE IF NOT EXISTS deliveries (
  id       TEXT PRIMARY KEY,
  channel  TEXT NOT NULL,
  body     TEXT NOT NULL,
  status   TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  created  INTEGER NOT NULL,
  next     INTEGER NOT NULL,
  ended    INTEGER NOT NULL DEFAULT 0,
  error    TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS deliveries_pending ON deliveries (channel, next) WHERE status = 'pending';
CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS subscriptions (endpoint TEXT PRIMARY KEY, value TEXT NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;
`}

// openOutbox opens or makes the file alerts.db in a folder. It holds keys: nobody else may read it.
func openOutbox(ctx context.Context, folder string) (*outbox, error) {
	db, err := privatedb.Open(ctx, filepath.Join(folder, "alerts.db"), outboxSchema, "synchronous(FULL)")
	if err != nil {
		return nil, fmt.Errorf("open the outbox of alerts: %w", err)
	}
	return &outbox{db: db}, nil
}

func (o *outbox) close() error { return o.db.Close() }

// state is what the service goes on with after a restart.
type state struct {
	Sequence int64             `json:"sequence"` // of the last event in the book
	Alerts   map[string]*Alert `json:"alerts"`
	Once     []Notice          `json:"once"`
}

const stateKey = "state"

func (o *outbox) load(ctx context.Context) (s state, err error) {
	err = o.value(ctx, stateKey, &s)
	return s, err
}

// value reads what was kept under a key; nothing if there is nothing.
func (o *outbox) value(ctx context.Context, key string, into any) error {
	var text string
	err := o.db.QueryRowContext(ctx, "SELECT value FROM kept WHERE key = ?", key).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), into)
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func keep(ctx context.Context, db execer, key string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "INSERT INTO kept VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2", key, string(text))
	return err
}

// save keeps the state and the deliveries that came of it, both or neither: what was told is not told again, and what was not
// is not forgotten.
func (o *outbox) save(ctx context.Context, s state, deliveries []Delivery) error {
	tx, err := o.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after a commit there is nothing to roll back
	if err := keep(ctx, tx, stateKey, s); err != nil {
		return err
	}
	for _, d := range deliveries {
		// What was to be told before goes first. It may have to wait for its next attempt: it is made now.
		_, err := tx.ExecContext(ctx, "UPDATE deliveries SET next = min(next, ?1) WHERE status = 'pending' AND channel = ?2 AND "+keyOfBody+" = ?3 ->> '$.data.key'",
			d.Next.UnixMilli(), d.Channel, string(d.Body))
		if err == nil {
			_, err = tx.ExecContext(ctx, "INSERT INTO deliveries (id, channel, body, status, created, next) VALUES (?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING",
				d.ID, d.Channel, string(d.Body), Pending, d.Created.UnixMilli(), d.Next.UnixMilli())
		}
		if err != nil {
			return err
		}
	}
	return tx.Commit()
}

func newDelivery(channel string, body []byte, now time.Time) (Delivery, error) {
	id, err := uuid.NewV7()
	return Delivery{ID: id.String(), Channel: channel, Body: body, Status: Pending, Created: now, Next: now}, err
}

// keyOfBody is the key of the alert that a delivery is about.
const keyOfBody = "body ->> '$.data.key'"

// firsts are a channel's pending deliveries that none of the same alert comes before: that it is over must not arrive before that it began.
const firsts = "id IN (SELECT min(id) FROM deliveries WHERE status = 'pending' AND channel = ?1 GROUP BY " + keyOfBody + ")"

// due returns a channel's pending deliveries whose time has come, oldest first, and when the next one's comes.
func (o *outbox) due(ctx context.Context, channel string, now time.Time, limit int) (ready []Delivery, next time.Time, err error) {
	// No wait is so long as to lie beyond the end: then the clock was set back.
	from, end := now.UnixMilli(), now.Add(retries[len(retries)-1]+time.Hour).UnixMilli()
	ready, err = o.query(ctx, "WHERE "+firsts+" AND (next <= ?2 OR next > ?3) ORDER BY next, id LIMIT ?4", channel, from, end, limit)
	if err != nil {
		return nil, time.Time{}, err
	}
	var ms sql.NullInt64
	err = o.db.QueryRowContext(ctx, "SELECT min(next) FROM deliveries WHERE "+firsts+" AND next > ?2", channel, from).Scan(&ms)
	if ms.Valid {
		next = time.UnixMilli(ms.Int64)
	}
	return ready, next, err
}

// attempted records how an attempt went.
func (o *outbox) attempted(ctx context.Context, d Delivery, now time.Time, failure error) error {
	d.Attempts++
	status, next, ended, text := Delivered, int64(0), now.UnixMilli(), ""
	switch {
	case failure != nil && (final(failure) || d.Attempts > len(retries)):
		status, text = Failed, failure.Error()
	case failure != nil:
		status, next, ended, text = Pending, now.Add(retries[d.Attempts-1]).UnixMilli(), 0, failure.Error()
	}
	_, err := o.db.ExecContext(ctx, "UPDATE deliveries SET status = ?, attempts = ?, next = ?, ended = ?, error = ? WHERE id = ?",
		status, d.Attempts, next, ended, text, d.ID)
	return err
}

// final tells whether trying again is of no use.
func final(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Code == 410 || status.Code >= 300 && status.Code < 400
	}
	return errors.Is(err, ErrPrivateAddress) || errors.Is(err, ErrGone) || errors.Is(err, ErrNobody) || errors.Is(err, fs.ErrNotExist)
}

// redeliver makes an ended delivery pending again, with all its attempts before it.
func (o *outbox) redeliver(ctx context.Context, id string, now time.Time) error {
	result, err := o.db.ExecContext(ctx, "UPDATE deliveries SET status = 'pending', attempts = 0, next = ?, ended = 0, error = '' WHERE id = ?", now.UnixMilli(), id)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		err = fmt.Errorf("delivery %.64q: %w", id, fs.ErrNotExist)
	}
	return err
}

// log returns the newest deliveries before an id ("" is the newest), limit at most.
func (o *outbox) log(ctx context.Context, before string, limit int) ([]Delivery, error) {
	return o.query(ctx, "WHERE (?1 = '' OR id < ?1) ORDER BY id DESC LIMIT ?2", before, limit)
}

// prune forgets deliveries that ended long ago.
func (o *outbox) prune(ctx context.Context, now time.Time) error {
	_, err := o.db.ExecContext(ctx, "DELETE FROM deliveries WHERE status <> 'pending' AND ended < ?", now.Add(-keepDeliveries).UnixMilli())
	return err
}

func (o *outbox) query(ctx context.Context, where string, args ...any) ([]Delivery, error) {
	rows, err := o.db.QueryContext(ctx, "SELECT id, channel, body, status, attempts, created, next, ended, error FROM deliveries "+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := []Delivery{}
	for rows.Next() {
		var d Delivery
		var body string
		var created, next, ended int64
		if err := rows.Scan(&d.ID, &d.Channel, &body, &d.Status, &d.Attempts, &created, &next, &ended, &d.Error); err != nil {
			return nil, err
		}
		d.Body, d.Created, d.Next, d.Ended = json.RawMessage(body), moment(created), moment(next), moment(ended)
		all = append(all, d)
	}
	return all, rows.Err()
}

func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
