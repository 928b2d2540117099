package schedule

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a target and a memory that keep what happens.
type bench struct {
	t     *testing.T
	start time.Time
	skew  atomic.Int64 // of the clock on the wall
	work  time.Duration

	mu     sync.Mutex
	events []string
	slots  map[string]time.Time
	paused map[string]bool
	broken error
}

func newBench(t *testing.T) *bench {
	return &bench{t: t, start: time.Now(), slots: map[string]time.Time{}, paused: map[string]bool{}}
}

func (b *bench) now() time.Time { return time.Now().Add(time.Duration(b.skew.Load())) }

func (b *bench) add(what string, f Firing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	line := fmt.Sprintf("%s %s at %v", what, f.Job.Name, time.Since(b.start).Round(time.Minute))
	if f.CatchUp {
		line += fmt.Sprintf(" catch-up missed=%d", f.Missed)
	}
	b.events = append(b.events, line)
}

func (b *bench) Fire(ctx context.Context, f Firing) bool {
	b.add("fire", f)
	select {
	case <-time.After(b.work):
		return true
	case <-ctx.Done():
		return false
	}
}

func (b *bench) Overlap(_ context.Context, f Firing) { b.add("overlap", f) }

func (b *bench) JobState(_ context.Context, name string) (time.Time, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.slots[name], b.paused[name], b.broken
}

func (b *bench) SetJobSlot(_ context.Context, name string, slot time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slots[name] = slot
	return b.broken
}

func (b *bench) SetJobPaused(_ context.Context, name string, paused bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.paused[name] = paused
	return b.broken
}

func (b *bench) job(name, expression string) Job {
	return Job{Name: name, Function: name, Expression: mustParse(b.t, expression, "")}
}

// run starts a scheduler and stops it when f returns.
func (b *bench) run(f func(s *Scheduler), jobs ...Job) {
	b.t.Helper()
	s, err := New(b.t.Context(), jobs, b, b, Options{Now: b.now})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		b.t.Fatal(err)
	}
	f(s)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) want(lines ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := cmp.Diff(lines, b.events); d != "" {
		b.t.Error(d)
	}
}

func inBubble(t *testing.T, f func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newBench(t)) }) // the bubble begins at 2000-01-01 00:00 UTC, a Saturday
}

func TestFiresOnTime(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.run(func(*Scheduler) { time.Sleep(13 * time.Hour) }, b.job("backup", "rate(6 hours)"), b.job("verify", "cron(30 3 * * ? *)"))
		b.want("fire backup at 0s", "fire verify at 3h30m0s", "fire backup at 6h0m0s", "fire backup at 12h0m0s")
	})
}

func TestAtFiresOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		job := b.job("restore", "at(2000-01-01T02:00:00)")
		b.run(func(*Scheduler) { time.Sleep(24 * time.Hour) }, job)
		b.run(func(s *Scheduler) {
			time.Sleep(24 * time.Hour)
			if next := s.States()[0].Next; !next.IsZero() {
				t.Errorf("next is %v", next)
			}
		}, job)
		b.want("fire restore at 2h0m0s")
	})
}

func TestMissedRunsAreCaughtUpOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		jobs := []Job{b.job("backup", "rate(6 hours)"), b.job("verify", "cron(0 3 * * ? *)")}
		b.run(func(*Scheduler) { time.Sleep(time.Hour) }, jobs...)
		time.Sleep(48 * time.Hour)
		b.run(func(*Scheduler) { time.Sleep(4 * time.Hour) }, jobs...)
		// verify never ran before: what it missed while nobody had promised it is not made up for.
		b.want("fire backup at 0s", "fire backup at 49h0m0s catch-up missed=7", "fire verify at 51h0m0s")
		b.run(func(*Scheduler) { time.Sleep(2 * time.Hour) }, jobs...)
		time.Sleep(24 * time.Hour)
		b.events = nil
		b.run(func(*Scheduler) { time.Sleep(time.Minute) }, jobs...)
		slices.Sort(b.events)
		b.want("fire backup at 79h0m0s catch-up missed=3", "fire verify at 79h0m0s catch-up missed=0")
	})
}

func TestOverlapIsTold(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.work = 150 * time.Minute
		b.run(func(s *Scheduler) {
			time.Sleep(90 * time.Minute)
			if !s.States()[0].Running {
				t.Error("the job does not count as running")
			}
			time.Sleep(151 * time.Minute)
		}, b.job("verify", "rate(1 hour)"))
		b.want("fire verify at 0s", "overlap verify at 1h0m0s", "overlap verify at 2h0m0s", "fire verify at 3h0m0s", "overlap verify at 4h0m0s")
	})
}

func TestSlotThatAStopInterruptedIsCaughtUp(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		job := b.job("verify", "cron(0 3 * * ? *)")
		b.work = time.Hour
		b.run(func(*Scheduler) { time.Sleep(3*time.Hour + 30*time.Minute) }, job)
		b.slots["verify"] = b.start // it ran the day before
		b.run(func(*Scheduler) { time.Sleep(90 * time.Minute) }, job)
		b.want("fire verify at 3h0m0s", "fire verify at 3h30m0s catch-up missed=0")
	})
}

func TestPauseSurvivesARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		job := b.job("backup", "rate(6 hours)")
		b.run(func(s *Scheduler) {
			time.Sleep(time.Hour)
			if err := s.Pause(t.Context(), "backup"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(24 * time.Hour)
		}, job)
		b.run(func(s *Scheduler) {
			time.Sleep(4 * time.Hour)
			if st := s.States()[0]; !st.Paused || !st.Next.IsZero() || s.Upcoming("backup", 3) != nil {
				t.Errorf("paused job is %+v", st)
			}
			if err := s.Resume(t.Context(), "backup"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Hour)
		}, job)
		b.want("fire backup at 0s", "fire backup at 30h0m0s") // in phase, and nothing caught up
		b.run(func(s *Scheduler) {
			var unknown *UnknownJobError
			if err := s.Pause(t.Context(), "bakcup"); !errors.As(err, &unknown) {
				t.Errorf("pausing an unknown job: %v", err)
			}
		}, job)
	})
}

// A job that has never run is paused over its first slot: that is not caught up either. A rate that has never run is due at once.
func TestPauseBeforeTheFirstSlot(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.paused["backup"] = true
		b.run(func(s *Scheduler) {
			if err := s.Pause(t.Context(), "verify"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(12*time.Hour + 30*time.Second) // between two looks at the clock
			for _, name := range []string{"verify", "backup"} {
				if err := s.Resume(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(16 * time.Hour)
		}, b.job("verify", "cron(0 3 * * ? *)"), b.job("backup", "rate(1 day)"))
		b.want("fire backup at 12h1m0s", "fire verify at 27h0m0s")
	})
}

func TestDisabledNeverFires(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		job := b.job("backup", "rate(1 hour)")
		job.Disabled = true
		b.run(func(*Scheduler) { time.Sleep(5 * time.Hour) }, job)
		b.want()
	})
}

func TestWindowHoldsASlotBack(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		job := b.job("compact", "rate(6 hours)")
		w, err := ParseWindow("22:00-05:00", "")
		if err != nil {
			t.Fatal(err)
		}
		job.Window = w
		b.run(func(s *Scheduler) {
			time.Sleep(20 * time.Hour)
			if got := s.Upcoming("compact", 2); len(got) != 2 || got[0].Hour() != 22 || got[1].Hour() != 0 {
				t.Errorf("upcoming %v", got)
			}
			time.Sleep(10 * time.Hour)
		}, job)
		b.want("fire compact at 0s", "fire compact at 22h0m0s", "fire compact at 24h0m0s")
	})
}

// jump sets the clock on the wall while timers go on, as a suspended machine or an administrator does.
func TestClockForward(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.run(func(*Scheduler) {
			time.Sleep(30 * time.Minute)
			b.skew.Store(int64(10 * 365 * 24 * time.Hour))
			time.Sleep(90 * time.Minute)
		}, b.job("minutely", "cron(* * * * ? *)"), b.job("backup", "rate(6 hours)"), b.job("verify", "cron(0 3 * * ? *)"))
		var kinds []string
		for _, e := range b.events {
			if !strings.Contains(e, "minutely") || strings.Contains(e, "catch-up") {
				// Each job looks at the clock once a minute: it sees the jump in this minute or in the next.
				kinds = append(kinds, strings.NewReplacer("30m0s", "the jump", "31m0s", "the jump").Replace(e))
			}
		}
		slices.Sort(kinds)
		want := []string{"fire backup at 0s", "fire backup at the jump catch-up missed=14599", "fire minutely at the jump catch-up missed=10000", "fire verify at the jump catch-up missed=3649"}
		if d := cmp.Diff(want, kinds); d != "" {
			t.Error(d)
		}
		if len(b.events) > 130 {
			t.Errorf("a storm of %d events", len(b.events))
		}
	})
}

func TestClockBackDoesNotStall(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.skew.Store(int64(4 * 365 * 24 * time.Hour))
		b.run(func(*Scheduler) {
			time.Sleep(time.Hour)
			b.skew.Store(0)
			time.Sleep(24 * time.Hour)
		}, b.job("backup", "rate(6 hours)"), b.job("verify", "cron(0 3 * * ? *)"))
		b.want("fire backup at 0s", "fire verify at 3h0m0s", "fire backup at 6h0m0s", "fire backup at 12h0m0s", "fire backup at 18h0m0s", "fire backup at 24h0m0s")
	})
}

func TestSmallStepBackDoesNotFireTwice(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.run(func(*Scheduler) {
			time.Sleep(time.Hour + time.Second)
			b.skew.Store(int64(-30 * time.Second))
			time.Sleep(30 * time.Minute)
		}, b.job("sweep", "cron(0 * * * ? *)"))
		b.want("fire sweep at 1h0m0s")
	})
}

func TestBrokenMemoryStopsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.broken = errors.New("disk full")
		b.run(func(s *Scheduler) {
			time.Sleep(7 * time.Hour)
			if err := s.Pause(t.Context(), "backup"); err == nil {
				t.Error("a pause that was not kept is no error")
			}
		}, b.job("backup", "rate(6 hours)"))
		b.want("fire backup at 0s", "fire backup at 6h0m0s")
	})
}

func TestTwoJobsOfOneNameAreRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		if _, err := New(t.Context(), []Job{b.job("a", "rate(1 day)"), b.job("a", "rate(1 day)")}, b, b, Options{}); err == nil {
			t.Error("accepted")
		}
	})
}

func TestUpcoming(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		s, err := New(t.Context(), []Job{b.job("verify", "cron(0 3 ? * MON *)")}, b, b, Options{Now: b.now})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, at := range s.Upcoming("verify", 3) {
			got = append(got, at.Format(time.DateTime))
		}
		if d := cmp.Diff([]string{"2000-01-03 03:00:00", "2000-01-10 03:00:00", "2000-01-17 03:00:00"}, got); d != "" {
			t.Error(d)
		}
		if s.Upcoming("nobody", 3) != nil {
			t.Error("an unknown job has times")
		}
	})
}
