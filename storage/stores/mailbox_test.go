package stores

import (
	"testing"
	"time"

	_ "modernc.org/sqlite"
)

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
