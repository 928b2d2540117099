package jobs

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
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
		page, err := g.store.List(g.t.Context(), history.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range page.Runs {
			got = append(got, string(r.Status)+" "+r.Reason)
		}
		if !slices.Equal(got, []string{"skipped overlap", "skipped overlap", "succeeded "}) {
			t.Errorf("runs %q", got)
		}
	})
}

func TestHistoryThatCannotBeWrittenStopsNothing(t *testing.T) {
	var log bytes.Buffer
	inBubble(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) }, func(g *rig) {
		if err := g.store.Close(); err != nil { // the disk is gone
			t.Fatal(err)
		}
		r := g.invoke(Invocation{Function: "compact", IdempotencyKey: "k"})
		if summary(r) != "succeeded a:compacted#1 b:compacted#1 c:compacted#1" {
			t.Error(summary(r))
		}
		if kind, o := g.published(); kind != "tablekeeper.compaction_complete" || o.RunID != r.ID {
			t.Errorf("event %s %+v", kind, o)
		}
		if n := strings.Count(log.String(), "the work goes on"); n != 1 {
			t.Errorf("told %d times: %s", n, &log)
		}
	})
}

// TestHistoryThatFailsForAWhile makes a write fail in the middle of a run: at the end the record is whole.
func TestHistoryThatFailsForAWhile(t *testing.T) {
	for _, table := range []string{"runs", "entries", "phases", "log"} {
		t.Run(table, func(t *testing.T) {
			inBubble(t, nil, func(g *rig) {
				exec := func(statement string) {
					db, err := sql.Open("sqlite", g.store.Path()+"?_pragma=busy_timeout(5000)")
					if err != nil {
						t.Fatal(err)
					}
					defer db.Close()
					if _, err := db.ExecContext(context.Background(), statement); err != nil { // the context of t is outside of the bubble
						t.Fatal(err)
					}
				}
				exec("CREATE TRIGGER fault BEFORE INSERT ON " + table + " BEGIN SELECT RAISE(ABORT, 'injected'); END")
				g.compact.run = func(_ context.Context, c Call) (string, error) {
					defer c.Phase("work")(1)
					c.Log.Info("hello")
					time.Sleep(3 * time.Second)
					return `{"status":"compacted"}`, nil
				}
				r := g.invoke(Invocation{Function: "compact", Type: Async})
				time.Sleep(2 * time.Second)
				exec("DROP TRIGGER fault")
				if _, err := g.WaitRun(g.t.Context(), r.ID); err != nil {
					t.Fatal(err)
				}
				kept, err := g.store.Get(g.t.Context(), r.ID)
				if err != nil || summary(kept) != "succeeded a:compacted#1 b:compacted#1 c:compacted#1" || len(kept.Phases) != 3 || len(kept.Log) != 3 {
					t.Errorf("history has %s, %d phases, %d lines, %v", summary(kept), len(kept.Phases), len(kept.Log), err)
				}
			})
		})
	}
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
		page, err := g.store.List(g.t.Context(), history.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range page.Runs {
			got = append(got, string(r.Status)+" "+r.Reason)
		}
		if !slices.Equal(got, []string{"succeeded ", "cancelled shutdown", "succeeded "}) {
			t.Errorf("runs %q", got)
		}
	})
}

// child runs a function that never ends, on the history at path.
func child(path string) {
	ctx := context.Background()
	tpl, err := template.Read("t", []byte(testTemplate), nil)
	if err != nil {
		panic(err)
	}
	store, err := history.Open(ctx, path, history.Options{})
	if err != nil {
		panic(err)
	}
	fn := &script{tables: []string{"a", "b"}, run: func(_ context.Context, c Call) (string, error) {
		if c.Table == "a" {
			return `{"status":"compacted"}`, nil
		}
		time.Sleep(2 * time.Second) // long enough that the first table is saved
		fmt.Println(c.RunID)
		select {}
	}}
	r, err := New(Config{Template: tpl, History: store, Functions: map[string]Function{"compact": fn}})
	if err != nil {
		panic(err)
	}
	_, _ = r.Invoke(ctx, Invocation{Function: "compact"})
}

func TestRunOfAKilledProcessIsFoundLost(t *testing.T) {
	g := newRig(t, nil)
	defer g.close()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "JOBS_TEST_CHILD="+g.store.Path())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var id string
	if _, err := fmt.Fscan(out, &id); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	lost, err := g.Reap(t.Context())
	if err != nil || len(lost) != 1 || lost[0].ID != id {
		t.Fatalf("lost %+v, %v", lost, err)
	}
	r, err := g.store.Get(t.Context(), id)
	if err != nil || summary(r) != "lost a:compacted#1 b:lost(lost)#0" {
		t.Errorf("%s, %v", summary(r), err)
	}
	if kind, o := g.published(); kind != "tablekeeper.compaction_failed" || o.Status != history.Lost || len(g.failures) != 1 {
		t.Errorf("event %s %+v, failures %+v", kind, o, g.failures)
	}
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

func TestFailuresComeFirstInALongEvent(t *testing.T) {
	var list []history.Entry
	for i := range maxResults + 10 {
		status := "compacted"
		if i == maxResults+5 {
			status = "failed"
		}
		list = append(list, history.Entry{Table: fmt.Sprint(i), Status: status})
	}
	got, truncated := results(list)
	if !truncated || len(got) != maxResults || got[0].Status != "failed" || got[1].Table != "0" {
		t.Errorf("first is %+v", got[0])
	}
}

func TestEventTypes(t *testing.T) {
	for function, want := range map[string]string{"compact": "tablekeeper.compaction_failed", "recover": "tablekeeper.recovery_failed", "backup": "tablekeeper.backup_failed"} {
		if got := EventType(function, true); got != want {
			t.Errorf("%s: %s", function, got)
		}
	}
}

func TestFieldsKeepTheirOrder(t *testing.T) {
	f, err := parseFields(json.RawMessage(`{"z":1,"a":{"b":[1,2]},"z":2}`))
	if err != nil || string(f.encode()) != `{"z":2,"a":{"b":[1,2]}}` {
		t.Errorf("%s, %v", f.encode(), err)
	}
	for _, bad := range []string{`[]`, `{"a"}`, `{"a":1`, `x`} {
		if _, err := parseFields(json.RawMessage(bad)); err == nil {
			t.Errorf("%s is accepted", bad)
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
