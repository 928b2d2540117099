package stores

import (
	"context"
	"fmt"
	"testing"

	_ "modernc.org/sqlite"
)

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
