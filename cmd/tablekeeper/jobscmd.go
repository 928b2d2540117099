package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/cmd/tablekeeper/settings"
	"tablekeeper/jobs/history"
	"tablekeeper/jobs/schedule"
)

// upcoming is how many of a job's next runs are shown.
const upcoming = 3

// jobReport is a job as it is shown.
type jobReport struct {
	Name     string      `json:"name"`
	Function string      `json:"function"`
	Schedule string      `json:"schedule"`
	Timezone string      `json:"timezone"`
	State    string      `json:"state"` // scheduled, running, paused, disabled
	Last     time.Time   `json:"last,omitzero"`
	Next     []time.Time `json:"next"`
}

func jobReports(s *schedule.Scheduler) []jobReport {
	reports := []jobReport{}
	for _, j := range s.States() {
		r := jobReport{
			Name: j.Name, Function: j.Function, Schedule: j.Expression.String(), Timezone: j.Expression.Location().String(),
			State: "scheduled", Last: j.Last, Next: s.Upcoming(j.Name, upcoming),
		}
		switch {
		case j.Disabled:
			r.State = "disabled"
		case j.Paused:
			r.State = "paused"
		case j.Running:
			r.State = "running"
		}
		reports = append(reports, r)
	}
	return reports
}

func newJobs(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "jobs",
		Short: "Show what is scheduled and when it runs next; pause and resume",
		Example: `  tablekeeper jobs
  tablekeeper jobs pause BackupSchedule
  tablekeeper jobs resume BackupSchedule`,
		Args: knownCommand, Annotations: goesElsewhere(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withJobs(cmd.Context(), func(b jobBoard) error { return p.showJobs(cmd.Context(), b) })
		},
	}
	cmd.AddCommand(newPause(p, "pause", "Keep a job from running until it is resumed"), newPause(p, "resume", "Let a paused job run again"))
	return cmd
}

func newPause(p *program, verb, short string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " JOB", Short: short, Example: "  tablekeeper jobs " + verb + " BackupSchedule", Args: one("JOB"), Annotations: goesElsewhere(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withJobs(cmd.Context(), func(b jobBoard) error {
				if err := b.change(cmd.Context(), verb, args[0]); err != nil {
					return err
				}
				if p.json {
					return p.screen.Document(map[string]string{"job": args[0], "done": verb})
				}
				p.screen.Note("%sd %s.", verb, args[0])
				return nil
			})
		},
	}
}

// jobBoard is where jobs are seen and changed: the running service, or the history that the next one will read.
type jobBoard interface {
	list(ctx context.Context) ([]jobReport, error)
	change(ctx context.Context, verb, job string) error
	serving() bool
}

func (p *program) withJobs(ctx context.Context, use func(jobBoard) error) error {
	there, err := p.server()
	switch {
	case err != nil:
		return err
	case there != nil:
		return use(jobsThere{there})
	}
	f, err := p.openFleet(ctx, false)
	if err != nil {
		return err
	}
	s, err := findService(ctx, f.cfg.State)
	if err != nil {
		return err
	}
	if s != nil {
		return use(s)
	}
	planned, err := f.readPlan()
	if err != nil {
		return err
	}
	state, err := f.stateFolder()
	if err != nil {
		return err
	}
	store, err := history.Open(ctx, filepath.Join(state, history.File), history.Options{Logger: f.log, Now: p.now})
	if err != nil {
		return err
	}
	defer store.Close()
	scheduler, err := schedule.New(ctx, planned, nil, store, schedule.Options{Logger: f.log, Now: p.now})
	if err != nil {
		return err
	}
	return use(idleJobs{scheduler})
}

// idleJobs are the jobs where no service runs.
type idleJobs struct{ scheduler *schedule.Scheduler }

func (i idleJobs) list(context.Context) ([]jobReport, error) { return jobReports(i.scheduler), nil }
func (i idleJobs) serving() bool                             { return false }

func (i idleJobs) change(ctx context.Context, verb, job string) error {
	change := i.scheduler.Pause
	if verb == "resume" {
		change = i.scheduler.Resume
	}
	err := change(ctx, job)
	var unknown *schedule.UnknownJobError
	if errors.As(err, &unknown) {
		return unknownJob(job, jobReports(i.scheduler))
	}
	return err
}

func unknownJob(job string, known []jobReport) error {
	names := make([]string, len(known))
	for i, j := range known {
		names[i] = j.Name
	}
	hint := "there are " + strings.Join(names, ", ")
	if near := settings.Nearest(job, names); near != "" {
		hint = "did you mean " + near + "?"
	}
	return fail(exitNotFound, hint, "no job is named %q", job)
}

func (s *service) serving() bool { return true }

func (s *service) list(ctx context.Context) ([]jobReport, error) {
	var reports []jobReport
	_, err := s.ask(ctx, http.MethodGet, "/jobs", &reports)
	return reports, err
}

func (s *service) change(ctx context.Context, verb, job string) error {
	status, err := s.ask(ctx, http.MethodPost, "/jobs/"+url.PathEscape(job)+"/"+verb, nil)
	if status == http.StatusNotFound {
		known, listErr := s.list(ctx)
		if listErr != nil {
			return listErr
		}
		return unknownJob(job, known)
	}
	return err
}

// ask calls the service and decodes its answer into v, if v is not nil.
func (s *service) ask(ctx context.Context, method, path string, v any) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return 0, fail(exitTemporary, "look at the service's log", "ask the service (pid %d): %w", s.PID, err)
	}
	defer resp.Body.Close()
	const most = 16 << 20
	body, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return resp.StatusCode, fmt.Errorf("ask the service: %w", err)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		var problem struct {
			Error string `json:"error"`
		}
		_ = json.Unmarshal(body, &problem) // without it the status says enough
		return resp.StatusCode, fmt.Errorf("the service answers %s: %s", resp.Status, problem.Error)
	}
	if v != nil {
		err = json.Unmarshal(body, v)
	}
	return resp.StatusCode, err
}

func (p *program) showJobs(ctx context.Context, b jobBoard) error {
	reports, err := b.list(ctx)
	if err != nil {
		return err
	}
	if p.json {
		return p.screen.Document(map[string]any{"serving": b.serving(), "jobs": reports})
	}
	rows := make([][]screen.Cell, len(reports))
	for i, r := range reports {
		rows[i] = r.row(p.now())
	}
	p.screen.Table([]string{"job", "function", "schedule", "state", "last", "next", "then"}, rows)
	if !b.serving() {
		p.screen.Note("No service is running: these are the times if `tablekeeper serve` were started now.")
	}
	return nil
}

func (r jobReport) row(now time.Time) []screen.Cell {
	next, then := "never", ""
	if len(r.Next) > 0 {
		next = r.Next[0].Local().Format("Mon 15:04:05") + " (" + screen.Ago(r.Next[0], now) + ")"
		var times []string
		for _, t := range slices.Clone(r.Next)[1:] {
			times = append(times, t.Local().Format("Mon 15:04"))
		}
		then = strings.Join(times, ", ")
	}
	zone := ""
	if r.Timezone != "UTC" && strings.HasPrefix(r.Schedule, "cron") {
		zone = " " + r.Timezone
	}
	state := screen.Status(r.State)
	return []screen.Cell{
		{Text: r.Name}, {Text: r.Function}, {Text: r.Schedule + zone}, state, {Text: screen.Ago(r.Last, now)}, {Text: next}, {Text: then, Tone: screen.Dim},
	}
}
