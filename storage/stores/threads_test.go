package stores

import (
	"fmt"
	"testing"

	_ "modernc.org/sqlite"
)

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
