package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"tablekeeper/jobs/history"
	"tablekeeper/jobs/schedule"
	"tablekeeper/jobs/template"
)

const (
	reapInterval  = time.Minute
	pruneInterval = time.Hour
)

// Schedules are the jobs that the template declares: one for each schedule of a function that the runner knows. A
// function's only schedule has the function's name, several are named function/EventID.
func (r *Runner) Schedules() []schedule.Job {
	var jobs []schedule.Job
	for _, f := range r.cfg.Template.Functions {
		if _, known := r.cfg.Functions[f.Name]; known {
			jobs = append(jobs, Schedules(f)...)
		}
	}
	return jobs
}

// Schedules are the jobs of one function.
func Schedules(f template.Function) []schedule.Job {
	var jobs []schedule.Job
	for _, s := range f.Schedules {
		name := f.Name
		if len(f.Schedules) > 1 {
			name += "/" + s.ID
		}
		jobs = append(jobs, schedule.Job{Name: name, Function: f.Name, Expression: s.Expression, Event: s.Input, Disabled: !s.Enabled})
	}
	return jobs
}

// Service is a runner with its schedules and its housekeeping: what `serve` runs.
type Service struct {
	*schedule.Scheduler
	runner *Runner
	log    *slog.Logger
	stop   context.CancelFunc
	done   sync.WaitGroup
}

// Serve finds what an earlier process has lost, then fires jobs until Stop. The jobs are the runner's Schedules, or
// those and others.
func (r *Runner) Serve(ctx context.Context, jobs []schedule.Job) (*Service, error) {
	if _, err := r.Reap(ctx); err != nil {
		r.log.Error("lost runs were not looked for", "error", err)
	}
	scheduler, err := schedule.New(ctx, jobs, firing{r}, r.cfg.History, schedule.Options{Logger: r.log, Now: r.cfg.Now})
	if err != nil {
		return nil, fmt.Errorf("plan schedules: %w", err)
	}
	if err := scheduler.Start(); err != nil {
		return nil, err
	}
	keeping, stop := context.WithCancel(context.Background())
	s := &Service{Scheduler: scheduler, runner: r, log: r.log, stop: stop}
	s.done.Go(func() { s.every(keeping, reapInterval, s.reap) })
	s.done.Go(func() { s.every(keeping, pruneInterval, s.prune) })
	return s, nil
}

// Stop takes no more work, cancels what is under way and waits for it until ctx ends.
func (s *Service) Stop(ctx context.Context) error {
	s.stop()
	err := errors.Join(s.runner.Shutdown(ctx), s.Scheduler.Stop(ctx))
	s.done.Wait()
	return err
}

func (s *Service) every(ctx context.Context, interval time.Duration, do func(context.Context) error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := do(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("housekeeping of the history", "error", err)
			}
		}
	}
}

func (s *Service) reap(ctx context.Context) error {
	s.runner.recordLate(ctx)
	_, err := s.runner.Reap(ctx)
	return err
}

func (s *Service) prune(ctx context.Context) error {
	_, err := s.runner.cfg.History.Prune(ctx)
	return err
}

// firing turns what is due into invocations.
type firing struct{ r *Runner }

func (f firing) invocation(due schedule.Firing) Invocation {
	inv := Invocation{Function: due.Job.Function, Event: due.Job.Event, Type: Sync, Trigger: TriggerSchedule, Actor: "schedule", Job: due.Job.Name}
	if due.CatchUp {
		inv.Trigger = TriggerCatchUp
	}
	return inv
}

// Fire invokes the function and waits. The runner's Shutdown stops it, not the end of the scheduler's context: so the
// record says why.
func (f firing) Fire(ctx context.Context, due schedule.Firing) (served bool) {
	if due.Missed > 0 || due.CatchUp {
		f.r.log.Warn("schedule catches up", "job", due.Job.Name, "slot", due.Slot, "missed", due.Missed)
	}
	run, err := f.r.Invoke(context.WithoutCancel(ctx), f.invocation(due))
	if errors.Is(err, ErrShuttingDown) || run.Status == history.Cancelled && run.Reason == reasonShutdown {
		return false
	}
	if err != nil {
		f.r.log.Error("schedule could not invoke its function", "job", due.Job.Name, "error", err)
		f.refused(ctx, due, err)
	}
	return true
}

// refused records a run for an invocation that was not accepted: a schedule has no caller to tell.
func (f firing) refused(ctx context.Context, due schedule.Firing, cause error) {
	run, err := f.r.record(ctx, f.invocation(due), func(rec *history.Run) {
		rec.Status, rec.Error, rec.Hint = history.Failed, cause.Error(), hintOf(cause)
	})
	if err != nil {
		f.r.log.Error("refused run is not recorded", "job", due.Job.Name, "error", err)
	}
	f.r.tell(run)
	f.r.failed(ctx, run, "RetriesExhausted")
}

// Overlap records that the job was passed over.
func (f firing) Overlap(ctx context.Context, due schedule.Firing) {
	if _, err := f.r.Skip(ctx, f.invocation(due), "overlap"); err != nil {
		f.r.log.Error("skipped run is not recorded", "job", due.Job.Name, "error", err)
	}
}
