package stores

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// ThreadMessagesSchema is the SQL of the table thread_messages: the message each thread begins with.
const ThreadMessagesSchema = `
CREATE TABLE IF NOT EXISTS threads (
  id      TEXT PRIMARY KEY,
  author  TEXT NOT NULL,
  title   TEXT NOT NULL,
  body    TEXT NOT NULL,
  started INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS threads_author ON threads (author, id);
`

// ThreadRepliesSchema is the SQL of the table thread_replies.
const ThreadRepliesSchema = `
CREATE TABLE IF NOT EXISTS replies (
  id      TEXT PRIMARY KEY,
  thread  TEXT NOT NULL,
  author  TEXT NOT NULL,
  key     TEXT NOT NULL,
  body    TEXT NOT NULL,
  written INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS replies_thread ON replies (thread, id);
CREATE UNIQUE INDEX IF NOT EXISTS replies_key ON replies (thread, author, key) WHERE key <> '';
`

// Thread is the message that a thread begins with.
type Thread struct {
	ID      string    `json:"id"`
	Author  string    `json:"author"`
	Title   string    `json:"title"`
	Body    string    `json:"body"`
	Started time.Time `json:"started"`
}

// Reply is an answer within a thread. Key, where the author chose one, makes a repeated Reply return the first.
type Reply struct {
	ID      string    `json:"id"`
	Thread  string    `json:"thread"`
	Author  string    `json:"author"`
	Key     string    `json:"key,omitempty"`
	Body    string    `json:"body"`
	Written time.Time `json:"written"`
}

// Threads keeps first messages in one table and replies in another, so that a thread list stays small to read.
type Threads struct {
	threads, replies Table
	now              func() time.Time
}

// NewThreads opens the store on the tables thread_messages and thread_replies.
func NewThreads(ctx context.Context, messages, replies Table, now func() time.Time) (*Threads, error) {
	if err := errors.Join(define(ctx, messages, ThreadMessagesSchema), define(ctx, replies, ThreadRepliesSchema)); err != nil {
		return nil, fmt.Errorf("open threads: %w", err)
	}
	return &Threads{threads: messages, replies: replies, now: now}, nil
}

// Start begins a thread. A thread whose id is there already is not begun again.
func (s *Threads) Start(ctx context.Context, t Thread) (Thread, error) {
	if err := checkNames("author", t.Author); err != nil {
		return Thread{}, err
	}
	if t.Title == "" {
		return Thread{}, fmt.Errorf("%w: a thread needs a title", ErrInvalid)
	}
	if err := checkBody("body", t.Title+t.Body); err != nil {
		return Thread{}, err
	}
	var err error
	if t.ID, err = identify(t.ID); err != nil {
		return Thread{}, err
	}
	t.Started = s.now().UTC().Truncate(time.Millisecond)
	err = s.threads.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO threads (id, author, title, body, started) VALUES (?,?,?,?,?) ON CONFLICT (id) DO NOTHING`,
			t.ID, t.Author, t.Title, t.Body, millis(t.Started))
		return err
	})
	return t, err
}

// Reply answers in a thread, which must exist.
func (s *Threads) Reply(ctx context.Context, r Reply) (Reply, error) {
	if err := checkNames("author", r.Author); err != nil {
		return Reply{}, err
	}
	if err := checkBody("body", r.Key+r.Body); err != nil {
		return Reply{}, err
	}
	if _, err := s.Get(ctx, r.Thread); err != nil {
		return Reply{}, err
	}
	var reply Reply
	err := s.replies.Write(ctx, func(tx *sql.Tx) (err error) {
		reply, err = s.reply(ctx, tx, r)
		return err
	})
	return reply, err
}

// reply inserts r, or returns the reply that has its key.
func (s *Threads) reply(ctx context.Context, tx *sql.Tx, r Reply) (Reply, error) {
	if r.Key != "" {
		first, err := scanReply(tx.QueryRowContext(ctx, `SELECT `+replyColumns+` FROM replies WHERE thread = ? AND author = ? AND key = ?`,
			r.Thread, r.Author, r.Key).Scan)
		if !errors.Is(err, sql.ErrNoRows) {
			return first, err
		}
	}
	var err error
	if r.ID, err = nextID(ctx, tx, `SELECT max(id) FROM replies`); err != nil {
		return Reply{}, err
	}
	r.Written = s.now().UTC().Truncate(time.Millisecond)
	_, err = tx.ExecContext(ctx, `INSERT INTO replies (`+replyColumns+`) VALUES (?,?,?,?,?,?)`, r.ID, r.Thread, r.Author, r.Key, r.Body, millis(r.Written))
	return r, err
}

const replyColumns = `id, thread, author, key, body, written`

// Get returns the first message of a thread.
func (s *Threads) Get(ctx context.Context, id string) (Thread, error) {
	var t Thread
	err := s.threads.Read(ctx, func(tx *sql.Tx) (err error) {
		t, err = scanThread(tx.QueryRowContext(ctx, `SELECT id, author, title, body, started FROM threads WHERE id = ?`, id).Scan)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("thread %.64q: %w", id, ErrNotFound)
		}
		return err
	})
	return t, err
}

// List returns threads, newest first; author and before (an id) narrow it where they are not "".
func (s *Threads) List(ctx context.Context, author, before string, limit int) ([]Thread, error) {
	if err := checkCursor(before); err != nil {
		return nil, err
	}
	var threads []Thread
	err := s.threads.Read(ctx, func(tx *sql.Tx) (err error) {
		threads, err = collect(ctx, tx, scanThread, `SELECT id, author, title, body, started FROM threads
			WHERE (?1 = '' OR author = ?1) AND (?2 = '' OR id < ?2) ORDER BY id DESC LIMIT ?3`, author, before, page(limit))
		return err
	})
	return threads, err
}

// Replies returns the replies of a thread after a reply's id, oldest first.
func (s *Threads) Replies(ctx context.Context, thread, after string, limit int) ([]Reply, error) {
	if err := checkCursor(after); err != nil {
		return nil, err
	}
	var replies []Reply
	err := s.replies.Read(ctx, func(tx *sql.Tx) (err error) {
		replies, err = collect(ctx, tx, scanReply, `SELECT `+replyColumns+` FROM replies
			WHERE thread = ? AND id > ? ORDER BY id LIMIT ?`, thread, after, page(limit))
		return err
	})
	return replies, err
}

func scanThread(scan func(...any) error) (t Thread, err error) {
	var started int64
	err = scan(&t.ID, &t.Author, &t.Title, &t.Body, &started)
	t.Started = moment(started)
	return t, err
}

func scanReply(scan func(...any) error) (r Reply, err error) {
	var written int64
	err = scan(&r.ID, &r.Thread, &r.Author, &r.Key, &r.Body, &written)
	r.Written = moment(written)
	return r, err
}
