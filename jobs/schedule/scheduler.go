package schedule

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/go-co-op/gocron/v2"
)

const (
	// pulse is how long a clock that was set, or a machine that slept, can go unnoticed: timers follow the monotonic
	// clock, schedules the one on the wall.
	pulse = time.Minute
	// late is how late a slot may be served before it counts as caught up. EventBridge's own precision is a minute.
	late = time.Minute
	// stepBack is how far the clock may be set back without slots being served again.
	stepBack = 5 * time.Minute
	// maxMissed ends the counting of missed slots: a clock that was years off must not stall the rest.
	maxMissed = 10_000
)

// Job is a function with an event, at times.
type Job struct {
	Name       string // unique
	Function   string
	Expression Expression
	Event      json.RawMessage
	Window     Window // when it may begin; slots outside wait for it
	Disabled   bool   // the template's State: DISABLED; listed, never fired
}

// Firing is a job's slot that has come.
type Firing struct {
	Job     Job
	Slot    time.Time // the newest slot that has passed
	CatchUp bool      // more than a minute ago: the service was down, asleep, or the clock was set
	Missed  int       // slots before it that passed unserved; this firing stands for them all
}

// Target does what is due.
type Target interface {
	// Fire does the work and returns when it has ended; until then the job counts as running. ctx ends when the
	// scheduler stops. Not served means that a stop came in between: the slot is caught up after the next start.
	Fire(ctx context.Context, f Firing) (served bool)
	// Overlap is told, instead, when the job's last firing is still running.
	Overlap(ctx context.Context, f Firing)
}

// Memory keeps what must survive a restart.
type Memory interface {
	// JobState is what was kept under this name; zero values if nothing was.
	JobState(ctx context.Context, name string) (lastSlot time.Time, paused bool, err error)
	SetJobSlot(ctx context.Context, name string, slot time.Time) error
	SetJobPaused(ctx context.Context, name string, paused bool) error
}

// Options of a Scheduler. Zero values are defaults.
type Options struct {
	Logger *slog.Logger     // default: discards
	Now    func() time.Time // the clock on the wall; default time.Now
}

// Scheduler drives jobs. Make it with New, then Start and Stop it once.
type Scheduler struct {
	target Target
	memory Memory
	log    *slog.Logger
	now    func() time.Time
	cron   gocron.Scheduler

	mu   sync.Mutex
	jobs []*plan
}

// plan is a job and where it stands.
type plan struct {
	Job
	last    time.Time // newest slot served
	slot    time.Time // slot that comes next; zero is never
	paused  bool
	running bool
}

// State is a job as an operator sees it.
type State struct {
	Job
	Next    time.Time // when it fires next; zero if never
	Last    time.Time // newest slot served; zero if none
	Paused  bool
	Running bool
}

// New plans the jobs; what was missed since their last slot is due at once, one time for all slots of a job. A rate
// that never ran is due at once too, as in EventBridge for a schedule without a start date.
func New(ctx context.Context, jobs []Job, target Target, memory Memory, opts Options) (*Scheduler, error) {
	s := &Scheduler{target: target, memory: memory, log: opts.Logger, now: opts.Now}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	for _, job := range jobs {
		if s.find(job.Name) != nil {
			return nil, fmt.Errorf("schedule %s: a second job has this name", job.Name)
		}
		p := &plan{Job: job}
		var err error
		if p.last, p.paused, err = memory.JobState(ctx, job.Name); err != nil {
			s.log.Error("schedule starts without its memory", "job", job.Name, "error", err)
		}
		p.begin(s.now())
		s.jobs = append(s.jobs, p)
	}
	return s, nil
}

func (p *plan) begin(now time.Time) {
	switch {
	case !p.last.IsZero():
		p.slot = p.after(now)
	case p.Expression.Every() > 0:
		p.slot = now
	default:
		p.slot = p.Expression.Next(now)
	}
}

// after is the first slot that has not been served.
func (p *plan) after(now time.Time) time.Time {
	x := p.Expression.Anchored(p.last)
	if p.last.Sub(now) > stepBack {
		return x.Next(now) // the clock was set back: what was served lies in a future that may never come
	}
	return x.Next(p.last)
}

// Start begins to fire jobs. It returns at once.
func (s *Scheduler) Start() error {
	cron, err := gocron.NewScheduler(gocron.WithLocation(time.UTC), gocron.WithLogger(quiet{s.log}))
	if err != nil {
		return fmt.Errorf("start schedules: %w", err)
	}
	for _, p := range s.jobs {
		_, err := cron.NewJob(gocron.CronJob(p.Expression.String(), false),
			gocron.NewTask(func(ctx context.Context) { s.wake(ctx, p) }),
			gocron.WithCronImplementation(beat{s, p}), gocron.WithName(p.Name))
		if err != nil {
			return fmt.Errorf("start schedule %s: %w", p.Name, err)
		}
	}
	s.mu.Lock()
	s.cron = cron
	s.mu.Unlock()
	cron.Start()
	return nil
}

// Stop fires nothing more, ends the context of what is running, and waits for it until ctx ends.
func (s *Scheduler) Stop(ctx context.Context) error {
	s.mu.Lock()
	cron := s.cron
	s.mu.Unlock()
	if cron == nil {
		return nil
	}
	if err := cron.ShutdownWithContext(ctx); err != nil {
		return fmt.Errorf("stop schedules: %w", err)
	}
	return nil
}

// beat tells gocron when to look at a job again: at its slot, but within a pulse in any case.
type beat struct {
	s *Scheduler
	p *plan
}

func (b beat) IsValid(string, *time.Location, time.Time) error { return nil }

func (b beat) Next(time.Time) time.Time {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	now := b.s.now()
	wait := pulse
	if due := b.p.due(now); !due.IsZero() {
		wait = min(pulse, due.Sub(now))
	}
	// Due, and being served at this moment: look again soon, never in a tight loop.
	return time.Now().Add(max(wait, time.Second))
}

// due is when the job fires next: its slot, or the opening of its window after it.
func (p *plan) due(now time.Time) time.Time {
	if p.slot.IsZero() || p.paused || p.Disabled {
		return time.Time{}
	}
	if p.slot.Before(now) && p.Window.Open(now) {
		return p.slot
	}
	return p.Window.Next(later(p.slot, now))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (s *Scheduler) wake(ctx context.Context, p *plan) {
	f, before, overlap := s.take(p)
	if f.Job.Name == "" {
		return
	}
	s.keep(ctx, p, f.Slot) // first: a firing that kills the process must not do so again at every start
	if overlap {
		s.target.Overlap(ctx, f)
		return
	}
	defer func() {
		s.mu.Lock()
		p.running = false
		s.mu.Unlock()
	}()
	if !s.target.Fire(ctx, f) {
		s.keep(context.WithoutCancel(ctx), p, before)
	}
}

func (s *Scheduler) keep(ctx context.Context, p *plan, slot time.Time) {
	if err := s.memory.SetJobSlot(ctx, p.Name, slot); err != nil {
		s.log.Error("schedule did not keep its slot", "job", p.Name, "slot", slot, "error", err)
	}
}

// take claims the slot that has come, if one has, and plans the next. It gives the slot served before, too.
func (s *Scheduler) take(p *plan) (f Firing, before time.Time, overlap bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if !p.last.IsZero() && p.last.Sub(now) > stepBack || p.last.IsZero() && p.slot.After(now) {
		p.replan(now)
	}
	at := p.due(now)
	if at.IsZero() || at.After(now) {
		return Firing{}, time.Time{}, false
	}
	before = p.last
	f = Firing{Job: p.Job}
	f.Slot, f.Missed = p.newest(now)
	f.CatchUp = now.Sub(p.Window.Next(f.Slot)) > late || f.Missed == maxMissed
	p.last = f.Slot
	p.slot = p.after(now)
	overlap = p.running
	p.running = true
	return f, before, overlap
}

// replan follows a clock that was set back; it never puts a slot off.
func (p *plan) replan(now time.Time) {
	next := p.Expression.Anchored(p.last).Next(now)
	if !next.IsZero() && (p.slot.IsZero() || next.Before(p.slot)) {
		p.slot = next
	}
}

// newest is the newest slot up to now, and how many came before it since the last one served.
func (p *plan) newest(now time.Time) (slot time.Time, missed int) {
	slot = p.slot
	x := p.Expression.Anchored(slot)
	if every := x.Every(); every > 0 {
		missed = int(now.Sub(slot) / every)
		return slot.Add(time.Duration(missed) * every), missed
	}
	for next := x.Next(slot); !next.IsZero() && !next.After(now); next = x.Next(slot) {
		if missed++; missed == maxMissed {
			return now, missed
		}
		slot = next
	}
	return slot, missed
}

func (s *Scheduler) find(name string) *plan {
	i := slices.IndexFunc(s.jobs, func(p *plan) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return s.jobs[i]
}

// States are the jobs in the order given to New.
func (s *Scheduler) States() []State {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := make([]State, 0, len(s.jobs))
	now := s.now()
	for _, p := range s.jobs {
		states = append(states, State{Job: p.Job, Next: p.due(now), Last: p.last, Paused: p.paused, Running: p.running})
	}
	return states
}

// Upcoming are the next n times at which a job fires, as things stand. Unknown name: nil.
func (s *Scheduler) Upcoming(name string, n int) []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, now := s.find(name), s.now()
	if p == nil || p.due(now).IsZero() {
		return nil
	}
	times := []time.Time{p.due(now)}
	x := p.Expression.Anchored(p.slot)
	for slot := later(p.slot, now); len(times) < n; {
		if slot = x.Next(slot); slot.IsZero() {
			break
		}
		if due := p.Window.Next(slot); due.After(times[len(times)-1]) {
			times = append(times, due)
		}
	}
	return times
}

// Pause keeps a job from firing until Resume, over restarts too. Slots that pass meanwhile are not caught up.
func (s *Scheduler) Pause(ctx context.Context, name string) error {
	return s.setPaused(ctx, name, true)
}

// Resume lets a paused job fire again, from its next slot.
func (s *Scheduler) Resume(ctx context.Context, name string) error {
	return s.setPaused(ctx, name, false)
}

// UnknownJobError is the answer for a name that no job has.
type UnknownJobError struct{ Name string }

func (e *UnknownJobError) Error() string { return "no job is named " + e.Name }

func (s *Scheduler) setPaused(ctx context.Context, name string, paused bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.find(name)
	if p == nil {
		return &UnknownJobError{name}
	}
	if err := s.memory.SetJobPaused(ctx, name, paused); err != nil {
		return fmt.Errorf("pause or resume job %s: %w", name, err)
	}
	wasPaused := p.paused
	p.paused = paused
	if paused || !wasPaused {
		return nil
	}
	now := s.now()
	if p.last.IsZero() {
		p.begin(now)
		return nil
	}
	if !p.slot.IsZero() && !p.slot.After(now) {
		p.last, _ = p.newest(now)
		p.slot = p.after(now)
	}
	if err := s.memory.SetJobSlot(ctx, name, p.last); err != nil {
		return fmt.Errorf("resume job %s: %w", name, err)
	}
	return nil
}

// quiet passes gocron's warnings on and keeps the rest for debugging.
type quiet struct{ log *slog.Logger }

func (q quiet) Debug(msg string, args ...any) { q.log.Debug(msg, args...) }
func (q quiet) Info(msg string, args ...any)  { q.log.Debug(msg, args...) }
func (q quiet) Warn(msg string, args ...any)  { q.log.Warn(msg, args...) }
func (q quiet) Error(msg string, args ...any) { q.log.Error(msg, args...) }
