package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tablekeeper/jobs/history"
	"tablekeeper/jobs/schedule"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/shelf/health"
)

// Table is a table with all that is known of it.
type Table struct {
	health.Report
	Next    map[string]time.Time `json:"next" doc:"when a function is due, by function"`
	Free    []Point              `json:"free_history" doc:"oldest first"`
	Last    map[string]Last      `json:"last" doc:"by function"`
	Running *Running             `json:"running,omitempty"`
}

// Running is the run that is at work on a table.
type Running struct {
	RunID    string `json:"run_id"`
	Function string `json:"function"`
}

type tableList struct {
	Tables []Table `json:"tables"`
}

// Stored is a backup in the bucket.
type Stored struct {
	Backup     string    `json:"backup"`
	Table      string    `json:"table"`
	Created    time.Time `json:"created"`
	Size       int64     `json:"size"`
	Encrypted  bool      `json:"encrypted"`
	Proved     time.Time `json:"proved,omitzero"`
	Failed     time.Time `json:"failed,omitzero"`
	Degraded   bool      `json:"degraded,omitempty"`
	Superseded bool      `json:"superseded"`
}

type backupList struct {
	Backups []Stored `json:"backups"`
}

func (s *Server) registerFleet(api huma.API) {
	huma.Register(api, s.operation(http.MethodGet, "/fleet", "get-fleet", "fleet", "The whole fleet in one sentence"),
		func(ctx context.Context, _ *struct{}) (*answer[Fleet], error) { return reply(s.fleet(ctx)) })
	huma.Register(api, s.operation(http.MethodGet, "/tables", "list-tables", "fleet", "Every table, worst first"),
		func(ctx context.Context, in *struct {
			Health string `query:"health" enum:"missing,error,degraded,suspect,recovering,overdue,none,unproved,healthy"`
			Query  string `query:"q" maxLength:"64" doc:"a part of the name"`
		}) (*answer[tableList], error) {
			all, err := s.tables(ctx, func(r health.Report) bool {
				return (in.Health == "" || string(r.Health) == in.Health) && strings.Contains(r.Table, strings.ToLower(in.Query))
			})
			return reply(tableList{all}, err)
		})
	huma.Register(api, s.operation(http.MethodGet, "/tables/{table}", "get-table", "fleet", "One table"),
		func(ctx context.Context, in *struct {
			Table string `path:"table"`
		}) (*answer[Table], error) {
			t, err := s.Shelf.Get(in.Table)
			if err != nil {
				return nil, explain(err)
			}
			v, err := s.view(ctx)
			if err != nil {
				return nil, explain(err)
			}
			return reply(v.of(t, health.Look(ctx, t, s.now())), nil)
		})
	huma.Register(api, s.operation(http.MethodGet, "/tables/{table}/backups", "list-backups", "fleet", "The table's backups in the bucket, newest first"),
		func(ctx context.Context, in *struct {
			Table string `path:"table"`
		}) (*answer[backupList], error) {
			return reply(s.backups(ctx, in.Table))
		})
}

func (s *Server) backups(ctx context.Context, name string) (backupList, error) {
	_, all, err := s.known(ctx, name)
	if err == nil && s.opts.Backups == nil {
		err = problem(http.StatusNotFound, "no bucket is configured", "set bucket: in tablekeeper.yaml").coded("no_bucket")
	}
	if err == nil && all == nil {
		all, err = s.opts.Backups.Backups(ctx, name)
	}
	list := backupList{Backups: make([]Stored, len(all))}
	for i, b := range all {
		list.Backups[i] = StoredOf(b)
	}
	return list, err
}

// known is a table on the shelf, or one that was lost with all that was kept beside it and has backups, which come with it. Any other name is
// unknown, even where there would be a place for such a table.
func (s *Server) known(ctx context.Context, name string) (shelf.Table, []archive.Backup, error) {
	t, unknown := s.Shelf.Get(name)
	if unknown == nil {
		return t, nil, nil
	}
	t, err := s.Shelf.Place(name)
	if err != nil || s.opts.Backups == nil {
		return t, nil, unknown
	}
	all, err := s.opts.Backups.Backups(ctx, t.Name)
	if err == nil && len(all) == 0 {
		err = unknown
	}
	return t, all, err
}

// StoredOf is a backup as it is told.
func StoredOf(b archive.Backup) Stored {
	return Stored{Backup: b.Key.String(), Table: b.Key.Table, Created: b.Key.Created, Size: b.Size, Encrypted: b.Key.Encrypted,
		Proved: b.Proved, Failed: b.Failed, Degraded: b.Degraded, Superseded: b.Superseded}
}

func (s *Server) tables(ctx context.Context, want func(health.Report) bool) ([]Table, error) {
	if err := s.opts.Refresh(ctx); err != nil {
		return nil, err
	}
	reports, err := s.Fleet.All(ctx)
	if err != nil {
		return nil, err
	}
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	known := map[string]shelf.Table{}
	for _, t := range s.Shelf.Tables() {
		known[t.Name] = t
	}
	all := []Table{}
	for _, r := range reports {
		if t, ok := known[r.Table]; ok && want(r) {
			all = append(all, v.of(t, r))
		}
	}
	return all, nil
}

// view is what all tables of one answer are seen with.
type view struct {
	past
	running map[string]Running
	jobs    []schedule.State
	covers  func(schedule.Job, shelf.Table) bool
}

func (s *Server) view(ctx context.Context) (view, error) {
	v := view{running: map[string]Running{}, jobs: s.Schedules.States(), covers: s.opts.Covers}
	var err error
	v.past, err = s.chronicle.get(ctx)
	for _, head := range s.Runner.Active() {
		run, _ := s.Runner.Live(head.ID)
		for _, e := range run.Entries {
			if e.Status == history.EntryRunning {
				v.running[e.Table] = Running{run.ID, run.Function}
			}
		}
	}
	return v, err
}

func (v view) of(t shelf.Table, r health.Report) Table {
	seen := Table{Report: r, Next: map[string]time.Time{}, Free: v.free[t.Name], Last: v.last[t.Name]}
	if seen.Free == nil {
		seen.Free = []Point{}
	}
	if seen.Last == nil {
		seen.Last = map[string]Last{}
	}
	if running, ok := v.running[t.Name]; ok {
		seen.Running = &running
	}
	for _, j := range v.jobs {
		due, known := seen.Next[j.Function]
		if !slices.Contains(functionsOfATable, j.Function) || j.Next.IsZero() || j.Paused || j.Disabled || known && due.Before(j.Next) || !forTable(j.Job, t.Name) {
			continue
		}
		if v.covers == nil || v.covers(j.Job, t) {
			seen.Next[j.Function] = j.Next.UTC()
		}
	}
	return seen
}

// forTable tells whether a job's event names a table.
func forTable(j schedule.Job, name string) bool {
	var event struct {
		Tables []string `json:"tables"`
		Table  string   `json:"table"`
	}
	if len(j.Event) > 0 && json.Unmarshal(j.Event, &event) != nil {
		return false
	}
	if event.Table != "" {
		return event.Table == name
	}
	return len(event.Tables) == 0 || slices.ContainsFunc(event.Tables, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return ok && err == nil
	})
}
