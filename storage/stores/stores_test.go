package stores

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
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

func TestMailboxDeliversUntilAcknowledged(t *testing.T) {
	ctx, at := t.Context(), newClock()
	box := must(NewMailbox(ctx, openTable(t, "agent_mailbox"), at.now))(t)
	first := must(box.Send(ctx, Message{To: "bob", From: "alice", Body: "one"}))(t)
	must(box.Send(ctx, first))(t)
	must(box.Send(ctx, Message{To: "bob", From: "alice", Body: "two"}))(t)
	must(box.Send(ctx, Message{To: "carol", From: "alice", Body: "not bob's"}))(t)

	for round := 1; round <= 2; round++ {
		got := must(box.Receive(ctx, "bob", 0))(t)
		if len(got) != 2 || got[0].Body != "one" || got[1].Body != "two" || got[0].Deliveries != round {
			t.Fatalf("round %d: %+v", round, got)
		}
	}
	if n := must(box.Acknowledge(ctx, "carol", first.ID))(t); n != 0 {
		t.Error("carol acknowledged bob's message")
	}
	if n := must(box.Acknowledge(ctx, "bob", first.ID, first.ID))(t); n != 1 {
		t.Errorf("acknowledged %d, want 1", n)
	}
	if n := must(box.Waiting(ctx, "bob"))(t); n != 1 {
		t.Errorf("%d wait, want 1", n)
	}
	at.move(time.Hour)
	if n := must(box.Purge(ctx, at.now()))(t); n != 1 {
		t.Errorf("purged %d, want 1", n)
	}
}

func TestChannelsReadOnWhereTheyWere(t *testing.T) {
	ctx, at := t.Context(), newClock()
	channels := must(NewChannels(ctx, openTable(t, "agent_channels"), openTable(t, "channel_history"), at.now))(t)
	must(channels.Create(ctx, Channel{Name: "news", Creator: "alice"}))(t)
	_, err := channels.Create(ctx, Channel{Name: "news", Creator: "bob"})
	wantError(t, err, ErrConflict)
	_, err = channels.Publish(ctx, Post{Channel: "olds", From: "alice"})
	wantError(t, err, ErrNotFound)

	must(channels.Publish(ctx, Post{Channel: "news", From: "alice", Body: "before"}))(t)
	if err := errors.Join(channels.Subscribe(ctx, "news", "late", false), channels.Subscribe(ctx, "news", "early", true)); err != nil {
		t.Fatal(err)
	}
	keyed := Post{Channel: "news", From: "alice", Key: "k1", Body: "after"}
	post := must(channels.Publish(ctx, keyed))(t)
	if again := must(channels.Publish(ctx, keyed))(t); again.ID != post.ID {
		t.Error("a repeated Publish made a second post")
	}
	bodies := func(agent string) (all []string) {
		for _, p := range must(channels.ReadOn(ctx, "news", agent, 10))(t) {
			all = append(all, p.Body)
		}
		return all
	}
	if got := bodies("early"); !slices.Equal(got, []string{"before", "after"}) {
		t.Errorf("early reads %q", got)
	}
	if got := bodies("late"); !slices.Equal(got, []string{"after"}) {
		t.Errorf("late reads %q", got)
	}
	if err := channels.Advance(ctx, "news", "late", post.ID); err != nil {
		t.Fatal(err)
	}
	if got := bodies("late"); len(got) != 0 {
		t.Errorf("late reads %q again", got)
	}
	wantError(t, channels.Unsubscribe(ctx, "news", "nobody"), ErrNotFound)
	_, err = channels.ReadOn(ctx, "news", "nobody", 1)
	wantError(t, err, ErrNotFound)
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

func TestTaskQueue(t *testing.T) {
	ctx, at := t.Context(), newClock()
	queue := must(NewTaskQueue(ctx, openTable(t, "task_queue"), openTable(t, "task_dead_letter"), at.now))(t)
	must(queue.Enqueue(ctx, Task{Queue: "q", Payload: "low"}))(t)
	must(queue.Enqueue(ctx, Task{Queue: "q", Payload: "high", Priority: 9, MaxAttempts: 2}))(t)
	must(queue.Enqueue(ctx, Task{Queue: "q", Payload: "later", Priority: 10, NotBefore: at.now().Add(24 * time.Hour)}))(t)

	high := must(queue.Claim(ctx, "q", "w1", time.Minute))(t)
	if high.Payload != "high" || high.Attempts != 1 || high.Worker != "w1" {
		t.Fatalf("claimed %+v", high)
	}
	at.move(2 * time.Minute) // w1 is gone
	again := must(queue.Claim(ctx, "q", "w2", 0))(t)
	if again.ID != high.ID || again.Attempts != 2 {
		t.Fatalf("claimed %+v", again)
	}
	wantError(t, queue.Complete(ctx, high.ID, high.Lease, "late"), ErrConflict)
	if err := queue.Fail(ctx, again.ID, again.Lease, "boom", 0); err != nil {
		t.Fatal(err)
	}
	letters := must(queue.DeadLetters(ctx, "q", "", 0))(t)
	if len(letters) != 1 || letters[0].LastError != "boom" || letters[0].Attempts != 2 {
		t.Fatalf("dead letters: %+v", letters)
	}
	if err := queue.Requeue(ctx, high.ID); err != nil {
		t.Fatal(err)
	}
	third := must(queue.Claim(ctx, "q", "w3", 0))(t)
	if third.ID != high.ID || third.Attempts != 1 {
		t.Fatalf("claimed %+v", third)
	}
	must(queue.Extend(ctx, third.ID, third.Lease, time.Hour))(t)
	if err := queue.Complete(ctx, third.ID, third.Lease, "42"); err != nil {
		t.Fatal(err)
	}
	if done := must(queue.Get(ctx, third.ID))(t); done.State != TaskDone || done.Result != "42" {
		t.Errorf("%+v", done)
	}
	if counts := must(queue.Counts(ctx, "q"))(t); counts[TaskReady] != 2 || counts[TaskDone] != 1 {
		t.Errorf("%v", counts)
	}
	wantError(t, queue.Requeue(ctx, third.ID), ErrNotFound)
	wantError(t, queue.Discard(ctx, third.ID), ErrNotFound)
	must(queue.Claim(ctx, "q", "w3", 0))(t)
	_, err := queue.Claim(ctx, "q", "w3", 0)
	wantError(t, err, ErrNotFound)
}

// A move between the two tables is cut at every write in turn; opening the queue again finishes it, and the task is in
// exactly one of the two.
func TestTaskMovesSurviveACut(t *testing.T) {
	cut := errors.New("cut")
	for n := 0; ; n++ {
		ctx, at := t.Context(), newClock()
		live, dead := openTable(t, "task_queue"), openTable(t, "task_dead_letter")
		queue := must(NewTaskQueue(ctx, live, dead, at.now))(t)
		must(queue.Enqueue(ctx, Task{Queue: "q", Payload: "p", MaxAttempts: 1}))(t)
		task := must(queue.Claim(ctx, "q", "w", 0))(t)

		left := n
		failing := func() error {
			if left--; left < 0 {
				return cut
			}
			return nil
		}
		live.fail, dead.fail = failing, failing
		err := errors.Join(queue.Fail(ctx, task.ID, task.Lease, "boom", 0), queue.Requeue(ctx, task.ID))
		live.fail, dead.fail = nil, nil

		reopened := must(NewTaskQueue(ctx, live, dead, at.now))(t)
		places := len(must(reopened.DeadLetters(ctx, "q", "", 0))(t))
		if _, err := reopened.Get(ctx, task.ID); err == nil {
			places++
		}
		if places != 1 {
			t.Fatalf("cut at write %d: the task is in %d places", n, places)
		}
		if err == nil {
			if n < 4 {
				t.Fatalf("only %d writes were cut", n)
			}
			return
		}
	}
}

func TestThreads(t *testing.T) {
	ctx, at := t.Context(), newClock()
	threads := must(NewThreads(ctx, openTable(t, "thread_messages"), openTable(t, "thread_replies"), at.now))(t)
	first := must(threads.Start(ctx, Thread{Author: "alice", Title: "one"}))(t)
	second := must(threads.Start(ctx, Thread{Author: "bob", Title: "two"}))(t)
	for i := range 3 {
		must(threads.Reply(ctx, Reply{Thread: first.ID, Author: "bob", Body: fmt.Sprint(i)}))(t)
	}
	keyed := Reply{Thread: first.ID, Author: "bob", Key: "k", Body: "once"}
	if a, b := must(threads.Reply(ctx, keyed))(t), must(threads.Reply(ctx, keyed))(t); a.ID != b.ID {
		t.Error("a repeated Reply made a second one")
	}
	replies := must(threads.Replies(ctx, first.ID, "", 2))(t)
	rest := must(threads.Replies(ctx, first.ID, replies[1].ID, 10))(t)
	if len(replies) != 2 || len(rest) != 2 || rest[1].Body != "once" {
		t.Errorf("%+v %+v", replies, rest)
	}
	if list := must(threads.List(ctx, "", "", 0))(t); len(list) != 2 || list[0].ID != second.ID {
		t.Errorf("%+v", list)
	}
	if list := must(threads.List(ctx, "", second.ID, 0))(t); len(list) != 1 || list[0].ID != first.ID {
		t.Errorf("%+v", list)
	}
	if list := must(threads.List(ctx, "bob", "", 0))(t); len(list) != 1 {
		t.Errorf("%+v", list)
	}
	_, err := threads.Reply(ctx, Reply{Thread: "nowhere", Author: "bob"})
	wantError(t, err, ErrNotFound)
	_, err = threads.Start(ctx, Thread{Author: "bob"})
	wantError(t, err, ErrInvalid)
}

func TestHistoryByTimeAndParty(t *testing.T) {
	ctx, at := t.Context(), newClock()
	history := must(NewHistory(ctx, openTable(t, "message_history"), at.now))(t)
	start := at.now()
	for i, pair := range [][2]string{{"alice", "bob"}, {"bob", "carol"}, {"carol", "carol"}, {"alice", "carol"}} {
		must(history.Append(ctx, Record{From: pair[0], To: pair[1], Kind: "chat", Body: fmt.Sprint(i)}))(t)
		at.move(time.Minute)
	}
	tests := []struct {
		name  string
		query HistoryQuery
		want  string
	}{
		{"all", HistoryQuery{}, "0123"},
		{"a party on either side", HistoryQuery{Party: "carol"}, "123"},
		{"from", HistoryQuery{From: start.Add(time.Minute)}, "123"},
		{"to is excluded", HistoryQuery{To: start.Add(2 * time.Minute)}, "01"},
		{"first page", HistoryQuery{Limit: 2}, "01"},
		{"a party in a window", HistoryQuery{Party: "alice", From: start.Add(time.Second)}, "3"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := bodies(must(history.Query(ctx, test.query))(t)); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
	two := must(history.Query(ctx, HistoryQuery{Limit: 2}))(t)
	next := must(history.Query(ctx, HistoryQuery{After: HistoryCursor{At: two[1].At, ID: two[1].ID}}))(t)
	if got := bodies(next); got != "23" {
		t.Errorf("the next page is %s", got)
	}
	if n := must(history.Purge(ctx, start.Add(2*time.Minute)))(t); n != 2 {
		t.Errorf("purged %d, want 2", n)
	}
}

func bodies(records []Record) string {
	var b strings.Builder
	for _, r := range records {
		b.WriteString(r.Body)
	}
	return b.String()
}

func TestConfigVersions(t *testing.T) {
	ctx, at := t.Context(), newClock()
	config := must(NewConfig(ctx, openTable(t, "config"), at.now))(t)
	_, err := config.Get(ctx, "limit")
	wantError(t, err, ErrNotFound)
	must(config.Set(ctx, "limit", "1", "alice", 0))(t)
	_, err = config.Set(ctx, "limit", "2", "bob", 0)
	wantError(t, err, ErrConflict)
	must(config.Set(ctx, "limit", "2", "bob", 1))(t)
	if s := must(config.Get(ctx, "limit"))(t); s.Value != "2" || s.Version != 2 || s.Author != "bob" {
		t.Errorf("%+v", s)
	}
	must(config.Set(ctx, "other", "x", "bob", AnyVersion))(t)
	must(config.Delete(ctx, "limit", "bob", 2))(t)
	_, err = config.Get(ctx, "limit")
	wantError(t, err, ErrNotFound)
	if s := must(config.Set(ctx, "limit", "3", "bob", 0))(t); s.Version != 4 {
		t.Errorf("a key that was deleted goes on with version %d, want 4", s.Version)
	}
	if all := must(config.List(ctx, "", "", 0))(t); len(all) != 2 || all[0].Value != "3" {
		t.Errorf("%+v", all)
	}
	if all := must(config.Versions(ctx, "limit", 0))(t); len(all) != 4 || all[3].Value != "1" {
		t.Errorf("%+v", all)
	}
}

func TestConfigWatchMissesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	config := must(NewConfig(ctx, openTable(t, "config"), newClock().now))(t)
	const changes = 20
	go func() {
		for i := range changes {
			if _, err := config.Set(ctx, "k", fmt.Sprint(i), "alice", AnyVersion); err != nil {
				t.Error(err)
			}
		}
	}()
	seen := 0
	for s, err := range config.Watch(ctx, "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if s.Value != fmt.Sprint(seen) {
			t.Fatalf("change %d has the value %s", seen, s.Value)
		}
		if seen++; seen == changes {
			break
		}
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
