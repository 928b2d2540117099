package stores

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite"
)

// plainTable is a Table on database/sql alone; the owned table behind the same two methods is tested where it lives.
type plainTable struct {
	db    *sql.DB
	fail  func() error // asked before every write
	twice bool         // runs fn once for nothing, as an owned table may
}

func (p *plainTable) Read(ctx context.Context, fn func(*sql.Tx) error) error {
	return p.run(ctx, fn)
}

func (p *plainTable) Write(ctx context.Context, fn func(*sql.Tx) error) error {
	if p.fail != nil {
		if err := p.fail(); err != nil {
			return err
		}
	}
	if p.twice {
		tx, err := p.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		_ = fn(tx)
		if err := tx.Rollback(); err != nil {
			return err
		}
	}
	return p.run(ctx, fn)
}

func (p *plainTable) run(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func openTable(t *testing.T, name string) *plainTable {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), name+".db")+"?_pragma=foreign_keys(1)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() {
		var verdict string
		if err := db.QueryRowContext(context.WithoutCancel(t.Context()), `PRAGMA integrity_check`).Scan(&verdict); err != nil || verdict != "ok" {
			t.Errorf("%s: integrity_check: %s %v", name, verdict, err)
		}
		db.Close()
	})
	return &plainTable{db: db, twice: true}
}

// clock is a time that moves when told to.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(by)
}

func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func TestIDsGoOnWhenTheClockGoesBack(t *testing.T) {
	ctx := t.Context()
	posts := openTable(t, "channel_history")
	channels := must(NewChannels(ctx, openTable(t, "agent_channels"), posts, newClock().now))(t)
	must(channels.Create(ctx, Channel{Name: "news", Creator: "alice"}))(t)
	future := "fedcba98-7654-7fff-bfff-fffffffffffe"
	if _, err := posts.db.ExecContext(ctx, `INSERT INTO posts VALUES (?, 'news', 'alice', '', '', 0)`, future); err != nil {
		t.Fatal(err)
	}
	if post := must(channels.Publish(ctx, Post{Channel: "news", From: "alice"}))(t); post.ID <= future {
		t.Errorf("%s does not sort after %s", post.ID, future)
	}
}

func TestBadInputIsRefused(t *testing.T) {
	ctx, at := t.Context(), newClock()
	box := must(NewMailbox(ctx, openTable(t, "agent_mailbox"), at.now))(t)
	queue := must(NewTaskQueue(ctx, openTable(t, "task_queue"), openTable(t, "task_dead_letter"), at.now))(t)
	for _, name := range []string{"", " ", "a b", "x\x00y", "../../etc", "é", strings.Repeat("n", 129), "a\nb"} {
		_, err := box.Send(ctx, Message{To: name, From: "alice"})
		wantError(t, err, ErrInvalid)
		_, err = queue.Enqueue(ctx, Task{Queue: name})
		wantError(t, err, ErrInvalid)
	}
	_, err := box.Send(ctx, Message{To: "bob", From: "alice", Body: strings.Repeat("x", MaxBody+1)})
	wantError(t, err, ErrInvalid)
	_, err = box.Send(ctx, Message{ID: "1", To: "bob", From: "alice"})
	wantError(t, err, ErrInvalid)
	_, err = queue.Enqueue(ctx, Task{Queue: "q", MaxAttempts: 101})
	wantError(t, err, ErrInvalid)
	_, err = queue.Claim(ctx, "q", "w", 13*time.Hour)
	wantError(t, err, ErrInvalid)
}

// RFC 3339 has times that UTC has in the year 10000, which no answer in JSON can hold, and such as the tables keep for none.
func TestTimesThatNobodyCouldReadAreRefused(t *testing.T) {
	ctx, at := t.Context(), newClock()
	history := must(NewHistory(ctx, openTable(t, "message_history"), at.now))(t)
	queue := must(NewTaskQueue(ctx, openTable(t, "task_queue"), openTable(t, "task_dead_letter"), at.now))(t)
	for _, text := range []string{"9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00+23:59", "1969-07-20T20:17:40Z", "1970-01-01T00:00:00Z"} {
		when := must(time.Parse(time.RFC3339, text))(t)
		_, err := history.Append(ctx, Record{From: "a", To: "b", Kind: "chat", At: when})
		wantError(t, err, ErrInvalid)
		_, err = queue.Enqueue(ctx, Task{Queue: "q", NotBefore: when})
		wantError(t, err, ErrInvalid)
	}
	last := must(time.Parse(time.RFC3339, "9999-12-31T23:59:59Z"))(t)
	must(history.Append(ctx, Record{From: "a", To: "b", Kind: "chat", At: last}))(t)
	records := must(history.Query(ctx, HistoryQuery{}))(t)
	if text := must(json.Marshal(records))(t); len(records) != 1 || !bytes.Contains(text, []byte("9999-12-31T23:59:59Z")) {
		t.Errorf("%s", text)
	}
}
