package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tablekeeper/jobs/schedule"
)

const upcoming = 5 // next runs of a job that are shown

// Job is a schedule and where it stands.
type Job struct {
	Name     string          `json:"name"`
	Function string          `json:"function"`
	Schedule string          `json:"schedule"`
	Timezone string          `json:"timezone"`
	State    string          `json:"state" enum:"scheduled,running,paused,disabled"`
	Last     time.Time       `json:"last,omitzero"`
	Next     []time.Time     `json:"next"`
	Event    json.RawMessage `json:"event,omitempty"`
}

func (s *Server) job(state schedule.State) Job {
	j := Job{Name: state.Name, Function: state.Function, Schedule: state.Expression.String(), Timezone: state.Expression.Location().String(), State: "scheduled",
		Last: state.Last, Next: s.Schedules.Upcoming(state.Name, upcoming), Event: state.Event}
	switch {
	case state.Disabled:
		j.State = "disabled"
	case state.Paused:
		j.State = "paused"
	case state.Running:
		j.State = "running"
	}
	if j.Next == nil {
		j.Next = []time.Time{}
	}
	return j
}

type jobList struct {
	Jobs []Job `json:"jobs"`
}

func (s *Server) registerJobs(api huma.API) {
	huma.Register(api, s.operation(http.MethodGet, "/jobs", "list-jobs", "jobs", "What is scheduled, and when it runs next"),
		func(context.Context, *struct{}) (*answer[jobList], error) {
			all := jobList{Jobs: []Job{}}
			for _, state := range s.Schedules.States() {
				all.Jobs = append(all.Jobs, s.job(state))
			}
			return reply(all, nil)
		})
	s.registerJobChange(api, "pause", "Keep a job from running until it is resumed", s.Schedules.Pause)
	s.registerJobChange(api, "resume", "Let a paused job run again", s.Schedules.Resume)
}

func (s *Server) registerJobChange(api huma.API, verb, summary string, change func(context.Context, string) error) {
	huma.Register(api, s.operation(http.MethodPost, "/jobs/{job}/"+verb, verb+"-job", "jobs", summary),
		func(ctx context.Context, in *struct {
			Job string `path:"job" maxLength:"200"`
		}) (*answer[Job], error) {
			if err := change(ctx, in.Job); err != nil {
				return nil, explain(err)
			}
			states := s.Schedules.States()
			i := slices.IndexFunc(states, func(state schedule.State) bool { return state.Name == in.Job })
			if i < 0 {
				return nil, problem(http.StatusNotFound, "the job is gone", "GET "+Prefix+"/jobs lists the jobs")
			}
			return reply(s.job(states[i]), nil)
		})
}
