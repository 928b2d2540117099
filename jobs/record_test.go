package jobs

import (
	"bytes"
	"context"
	"database/sql"
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

	"tablekeeper/jobs/history"
	"tablekeeper/jobs/template"
)

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
				g.exec("CREATE TRIGGER fault BEFORE INSERT ON " + table + " BEGIN SELECT RAISE(ABORT, 'injected'); END")
				g.compact.run = func(_ context.Context, c Call) (string, error) {
					defer c.Phase("work")(1)
					c.Log.Info("hello")
					time.Sleep(3 * time.Second)
					return `{"status":"compacted"}`, nil
				}
				r := g.invoke(Invocation{Function: "compact", Type: Async})
				time.Sleep(2 * time.Second)
				g.exec("DROP TRIGGER fault")
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

// exec changes the history behind the runner's back.
func (g *rig) exec(statement string) {
	g.t.Helper()
	db, err := sql.Open("sqlite", g.store.Path()+"?_pragma=busy_timeout(5000)")
	if err != nil {
		g.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(context.Background(), statement); err != nil { // the context of t is outside of the bubble
		g.t.Fatal(err)
	}
}

// TestHistoryThatFailsAtTheEnd makes the last write of two runs fail: they are not under way for ever.
func TestHistoryThatFailsAtTheEnd(t *testing.T) {
	var recorded []string
	inBubble(t, func(c *Config) { c.Recorded = func(r history.Run) { recorded = append(recorded, r.ID) } }, func(g *rig) {
		s, err := g.Serve(g.t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var runs []string
		for i := range 2 {
			g.compact.run = func(context.Context, Call) (string, error) {
				time.Sleep(3 * time.Second)
				return `{"status":"compacted"}`, nil
			}
			r := g.invoke(Invocation{Function: "compact", Type: Async})
			time.Sleep(2 * time.Second)
			g.exec("CREATE TRIGGER fault BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'injected'); END")
			if _, err := g.WaitRun(g.t.Context(), r.ID); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Minute)
			if len(recorded) != i {
				t.Errorf("%d runs count as recorded", len(recorded))
			}
			g.exec("DROP TRIGGER fault")
			if i == 0 {
				time.Sleep(2 * time.Minute)
			} else if err := s.Stop(g.t.Context()); err != nil { // a stop comes before the next try
				t.Error(err)
			}
			runs = append(runs, r.ID)
			kept, err := g.store.Get(g.t.Context(), r.ID)
			if err != nil || summary(kept) != "succeeded a:compacted#1 b:compacted#1 c:compacted#1" {
				t.Errorf("history has %s, %v", summary(kept), err)
			}
		}
		if !slices.Equal(recorded, runs) {
			t.Errorf("recorded %q, want %q", recorded, runs)
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
		for saved := false; !saved; runtime.Gosched() { // what became of the first table
			kept, err := store.Get(ctx, c.RunID)
			saved = err == nil && len(kept.Entries) > 0 && kept.Entries[0].Status == "compacted"
		}
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
