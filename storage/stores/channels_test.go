package stores

import (
	"errors"
	"slices"
	"testing"

	_ "modernc.org/sqlite"
)

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
