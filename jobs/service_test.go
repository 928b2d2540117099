package jobs

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tablekeeper/jobs/history"
	"tablekeeper/jobs/template"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("JOBS_TEST_CHILD"); path != "" {
		child(path)
	}
	goleak.VerifyTestMain(m)
}

func TestServiceFiresSchedules(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		g.compact.run = func(context.Context, Call) (string, error) {
			time.Sleep(50 * time.Second)
			return `{"status":"compacted"}`, nil
		}
		s, err := g.Serve(g.t.Context(), g.Schedules())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(13 * time.Hour)
		if err := s.Pause(g.t.Context(), "compact"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(13 * time.Hour)
		if err := s.Stop(g.t.Context()); err != nil {
			t.Error(err)
		}
		page, err := g.store.List(g.t.Context(), history.Filter{Function: "compact"})
		if err != nil || len(page.Runs) != 3 {
			t.Fatalf("%d runs, %v", len(page.Runs), err)
		}
		for _, r := range page.Runs {
			if r.Trigger != TriggerSchedule || r.Job != "compact" || r.Status != history.Succeeded || string(r.Event) != `{"tables":["a"]}` {
				t.Errorf("run %+v", r)
			}
		}
		// Down for a day: caught up once.
		time.Sleep(24 * time.Hour)
		again := newRunnerOn(g)
		s, err = again.Serve(g.t.Context(), again.Schedules())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Resume(g.t.Context(), "compact"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(7 * time.Hour)
		if err := s.Stop(g.t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(24 * time.Hour)
		again = newRunnerOn(g)
		if s, err = again.Serve(g.t.Context(), again.Schedules()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if err := s.Stop(g.t.Context()); err != nil {
			t.Error(err)
		}
		page, err = g.store.List(g.t.Context(), history.Filter{Trigger: TriggerCatchUp})
		if err != nil || len(page.Runs) != 1 || page.Runs[0].Status != history.Succeeded {
			t.Errorf("caught up %+v, %v", page.Runs, err)
		}
	})
}

// newRunnerOn is what the next process would make on the same history.
func newRunnerOn(g *rig) *Runner {
	g.t.Helper()
	r, err := New(g.cfg)
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

func TestOverlapOfAScheduleIsRecorded(t *testing.T) {
	inBubble(t, func(c *Config) {
		text := strings.NewReplacer("Timeout: 60", "Timeout: 900", "rate(6 hours)", "rate(5 minutes)").Replace(testTemplate)
		tpl, err := template.Read("t", []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		c.Template = tpl
	}, func(g *rig) {
		g.compact.run = func(context.Context, Call) (string, error) {
			time.Sleep(12 * time.Minute)
			return `{"status":"compacted"}`, nil
		}
		s, err := g.Serve(g.t.Context(), g.Schedules())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(14 * time.Minute)
		if err := s.Stop(g.t.Context()); err != nil {
			t.Error(err)
		}
		if got := g.outcomes(); !slices.Equal(got, []string{"skipped overlap", "skipped overlap", "succeeded "}) {
			t.Errorf("runs %q", got)
		}
	})
}

func TestShutdownInAScheduledRunIsCaughtUp(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		g.compact.run = func(ctx context.Context, _ Call) (string, error) {
			select {
			case <-time.After(50 * time.Second):
				return `{"status":"compacted"}`, nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		s, err := g.Serve(g.t.Context(), g.Schedules())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(6*time.Hour + 20*time.Second)
		if err := s.Stop(g.t.Context()); err != nil {
			t.Error(err)
		}
		again := newRunnerOn(g)
		if s, err = again.Serve(g.t.Context(), again.Schedules()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if err := s.Stop(g.t.Context()); err != nil {
			t.Error(err)
		}
		if got := g.outcomes(); !slices.Equal(got, []string{"succeeded ", "cancelled shutdown", "succeeded "}) {
			t.Errorf("runs %q", got)
		}
	})
}

func TestThousandsOfTables(t *testing.T) {
	n := 10_000
	if raceEnabled {
		n = 300
	}
	g := newRig(t, nil)
	defer g.close()
	g.backup.tables = nil
	for i := range n {
		g.backup.tables = append(g.backup.tables, fmt.Sprintf("table-%05d", i))
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	r := g.invoke(Invocation{Function: "backup"})
	took := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if r.Status != history.Succeeded || r.Counts.Done != n {
		t.Fatalf("%s %+v", r.Status, r.Counts)
	}
	kept, err := g.store.Get(t.Context(), r.ID)
	if err != nil || len(kept.Entries) != n || kept.Entries[n-1].Status != "compacted" {
		t.Fatalf("%d entries, %v", len(kept.Entries), err)
	}
	if _, o := g.published(); len(o.Results) != min(n, maxResults) || o.Truncated != (n > maxResults) {
		t.Errorf("event has %d results", len(o.Results))
	}
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d tables in %v, heap grown by %d KiB", n, took, grown>>10)
	if grown > 64<<20 {
		t.Errorf("heap grown by %d MiB", grown>>20)
	}
}

func TestConcurrentInvocations(t *testing.T) {
	g := newRig(t, nil)
	defer g.close()
	g.compact.run = func(ctx context.Context, c Call) (string, error) {
		defer c.Phase("work")(1)
		c.Progress(1, 2, "")
		c.Log.Info("hello")
		if c.Table == "b" {
			return "", permanentError{}
		}
		return `{"status":"compacted"}`, nil
	}
	var ids []string
	for i := range 20 {
		r := g.invoke(Invocation{Function: []string{"compact", "backup"}[i%2], Type: Async})
		ids = append(ids, r.ID)
	}
	g.Wait()
	for _, id := range ids {
		if r, err := g.store.Get(t.Context(), id); err != nil || !r.Status.Ended() {
			t.Errorf("run %s is %s, %v", id, r.Status, err)
		}
	}
}

func TestBusIsToldOfARefusedSchedule(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxRuns = 1 }, func(g *rig) {
		g.backup.run = func(ctx context.Context, _ Call) (string, error) { <-ctx.Done(); return "", ctx.Err() }
		g.invoke(Invocation{Function: "backup", Type: Async})
		s, err := g.Serve(g.t.Context(), g.Schedules())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		kind, o := g.published()
		if kind != "tablekeeper.compaction_failed" || !strings.Contains(o.Error, "too many") {
			t.Errorf("event %s %+v", kind, o)
		}
		if err := s.Stop(g.t.Context()); err != nil {
			t.Error(err)
		}
	})
}
