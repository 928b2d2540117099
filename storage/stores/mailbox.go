package stores

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// MailboxSchema is the SQL of the table agent_mailbox.
const MailboxSchema = `
CREATE TABLE IF NOT EXISTS messages (
  id           TEXT PRIMARY KEY,
  recipient    TEXT NOT NULL,
  sender       TEXT NOT NULL,
  subject      TEXT NOT NULL,
  body         TEXT NOT NULL,
  sent         INTEGER NOT NULL,
  deliveries   INTEGER NOT NULL DEFAULT 0,
  acknowledged INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS messages_waiting ON messages (recipient, id) WHERE acknowledged = 0;
`

// Message is a letter from one agent to another.
type Message struct {
	ID         string    `json:"id"`
	To         string    `json:"to"`
	From       string    `json:"from"`
	Subject    string    `json:"subject,omitempty"`
	Body       string    `json:"body"`
	Sent       time.Time `json:"sent"`
	Deliveries int       `json:"deliveries"`
}

// Mailbox delivers each message at least once: it comes back from Receive until it is acknowledged.
type Mailbox struct {
	table Table
	now   func() time.Time
}

// NewMailbox opens the mailbox on the table agent_mailbox.
func NewMailbox(ctx context.Context, table Table, now func() time.Time) (*Mailbox, error) {
	if err := define(ctx, table, MailboxSchema); err != nil {
		return nil, fmt.Errorf("open mailbox: %w", err)
	}
	return &Mailbox{table: table, now: now}, nil
}

// Send puts a message into the mailbox of m.To. A message whose id is there already is not sent again.
func (b *Mailbox) Send(ctx context.Context, m Message) (Message, error) {
	if err := checkNames("to", m.To, "from", m.From); err != nil {
		return Message{}, err
	}
	if err := checkBody("body", m.Subject+m.Body); err != nil {
		return Message{}, err
	}
	var err error
	if m.ID, err = identify(m.ID); err != nil {
		return Message{}, err
	}
	m.Sent, m.Deliveries = b.now().UTC().Truncate(time.Millisecond), 0
	err = b.table.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO messages (id, recipient, sender, subject, body, sent) VALUES (?,?,?,?,?,?)
			ON CONFLICT (id) DO NOTHING`, m.ID, m.To, m.From, m.Subject, m.Body, millis(m.Sent))
		return err
	})
	return m, err
}

// Receive returns the agent's oldest unacknowledged messages, limit at most, and counts the delivery.
func (b *Mailbox) Receive(ctx context.Context, agent string, limit int) ([]Message, error) {
	if err := checkNames("agent", agent); err != nil {
		return nil, err
	}
	var messages []Message
	err := b.table.Write(ctx, func(tx *sql.Tx) (err error) {
		messages, err = collect(ctx, tx, scanMessage, `SELECT id, recipient, sender, subject, body, sent, deliveries + 1
			FROM messages WHERE recipient = ? AND acknowledged = 0 ORDER BY id LIMIT ?`, agent, page(limit))
		if err != nil {
			return err
		}
		for _, m := range messages {
			if _, err := tx.ExecContext(ctx, `UPDATE messages SET deliveries = ? WHERE id = ?`, m.Deliveries, m.ID); err != nil {
				return err
			}
		}
		return nil
	})
	return messages, err
}

// Acknowledge marks the agent's messages as done and returns how many were not yet; ids of other agents are left alone.
func (b *Mailbox) Acknowledge(ctx context.Context, agent string, ids ...string) (int, error) {
	if err := checkNames("agent", agent); err != nil {
		return 0, err
	}
	var done int
	err := b.table.Write(ctx, func(tx *sql.Tx) error {
		done = 0
		for _, id := range ids {
			ok, err := changed(tx.ExecContext(ctx, `UPDATE messages SET acknowledged = ? WHERE id = ? AND recipient = ? AND acknowledged = 0`,
				millis(b.now()), id, agent))
			if err != nil {
				return err
			}
			if ok {
				done++
			}
		}
		return nil
	})
	return done, err
}

// Waiting counts the agent's unacknowledged messages.
func (b *Mailbox) Waiting(ctx context.Context, agent string) (int, error) {
	var n int
	err := b.table.Read(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT count(*) FROM messages WHERE recipient = ? AND acknowledged = 0`, agent).Scan(&n)
	})
	return n, err
}

// Purge removes messages that were acknowledged before a time and returns how many.
func (b *Mailbox) Purge(ctx context.Context, before time.Time) (int, error) {
	return purge(ctx, b.table, `DELETE FROM messages WHERE acknowledged > 0 AND acknowledged < ?`, millis(before))
}

func scanMessage(scan func(...any) error) (m Message, err error) {
	var sent int64
	err = scan(&m.ID, &m.To, &m.From, &m.Subject, &m.Body, &sent, &m.Deliveries)
	m.Sent = moment(sent)
	return m, err
}

// purge runs a DELETE and returns the number of rows it removed.
func purge(ctx context.Context, t Table, query string, args ...any) (int, error) {
	var n int64
	err := t.Write(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		n, err = result.RowsAffected()
		return err
	})
	return int(n), err
}
