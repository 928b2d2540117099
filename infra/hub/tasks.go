package hub

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tablekeeper/storage/stores"
)

// Lease is what a worker shows to act on the task it holds.
type Lease struct {
	Lease string `json:"lease" doc:"the lease that claim returned"`
}

func registerTasks(api huma.API, tasks *stores.TaskQueue, p problems) {
	huma.Register(api, operation(http.MethodPost, "/tasks", "enqueue-task", "tasks", "Add a task"),
		func(ctx context.Context, in *struct {
			Body struct {
				ID          string    `json:"id,omitempty" doc:"a UUID of the caller's choice: the same one twice is added once"`
				Queue       string    `json:"queue"`
				Priority    int       `json:"priority,omitempty" doc:"higher ones are claimed first"`
				Payload     string    `json:"payload,omitempty"`
				MaxAttempts int       `json:"max_attempts,omitempty" doc:"default 3"`
				NotBefore   time.Time `json:"not_before,omitzero"`
			}
		}) (*answer[stores.Task], error) {
			task, err := tasks.Enqueue(ctx, stores.Task{ID: in.Body.ID, Queue: in.Body.Queue, Priority: in.Body.Priority, Payload: in.Body.Payload,
				MaxAttempts: in.Body.MaxAttempts, NotBefore: in.Body.NotBefore})
			return respond(p, task, err)
		})
	huma.Register(api, operation(http.MethodPost, "/tasks/claim", "claim-task", "tasks", "Lease the next task of a queue; 404 if none is ready"),
		func(ctx context.Context, in *struct {
			Body struct {
				Queue   string `json:"queue"`
				Worker  string `json:"worker"`
				LeaseMS int64  `json:"lease_ms,omitempty" minimum:"0" doc:"default 30000"`
			}
		}) (*answer[stores.Task], error) {
			task, err := tasks.Claim(ctx, in.Body.Queue, in.Body.Worker, time.Duration(in.Body.LeaseMS)*time.Millisecond)
			return respond(p, task, err)
		})
	huma.Register(api, operation(http.MethodGet, "/tasks/{id}", "get-task", "tasks", "One task"),
		func(ctx context.Context, in *struct {
			ID string `path:"id"`
		}) (*answer[stores.Task], error) {
			task, err := tasks.Get(ctx, in.ID)
			return respond(p, task, err)
		})
	registerLeases(api, tasks, p)
	registerDeadLetters(api, tasks, p)
}

func registerLeases(api huma.API, tasks *stores.TaskQueue, p problems) {
	huma.Register(api, operation(http.MethodPost, "/tasks/{id}/extend", "extend-task", "tasks", "Lengthen a lease"),
		func(ctx context.Context, in *struct {
			ID   string `path:"id"`
			Body struct {
				Lease
				LeaseMS int64 `json:"lease_ms" minimum:"1"`
			}
		}) (*answer[leasedUntil], error) {
			until, err := tasks.Extend(ctx, in.ID, in.Body.Lease.Lease, time.Duration(in.Body.LeaseMS)*time.Millisecond)
			return respond(p, leasedUntil{until}, err)
		})
	huma.Register(api, operation(http.MethodPost, "/tasks/{id}/complete", "complete-task", "tasks", "End a task with its result"),
		func(ctx context.Context, in *struct {
			ID   string `path:"id"`
			Body struct {
				Lease
				Result string `json:"result,omitempty"`
			}
		}) (*struct{}, error) {
			return nil, p.of(tasks.Complete(ctx, in.ID, in.Body.Lease.Lease, in.Body.Result))
		})
	huma.Register(api, operation(http.MethodPost, "/tasks/{id}/fail", "fail-task", "tasks", "End an attempt: ready again, or a dead letter after the last"),
		func(ctx context.Context, in *struct {
			ID   string `path:"id"`
			Body struct {
				Lease
				Error        string `json:"error"`
				RetryAfterMS int64  `json:"retry_after_ms,omitempty" minimum:"0"`
			}
		}) (*struct{}, error) {
			return nil, p.of(tasks.Fail(ctx, in.ID, in.Body.Lease.Lease, in.Body.Error, time.Duration(in.Body.RetryAfterMS)*time.Millisecond))
		})
}

func registerDeadLetters(api huma.API, tasks *stores.TaskQueue, p problems) {
	huma.Register(api, operation(http.MethodGet, "/tasks/queues/{queue}", "count-tasks", "tasks", "How many tasks of a queue are in each state"),
		func(ctx context.Context, in *struct {
			Queue string `path:"queue"`
		}) (*answer[map[stores.TaskState]int], error) {
			counts, err := tasks.Counts(ctx, in.Queue)
			return respond(p, counts, err)
		})
	huma.Register(api, operation(http.MethodGet, "/tasks/queues/{queue}/dead-letters", "list-dead-letters", "tasks", "Tasks whose attempts are spent"),
		func(ctx context.Context, in *struct {
			Queue string `path:"queue"`
			Paging
		}) (*answer[list[stores.DeadLetter]], error) {
			letters, err := tasks.DeadLetters(ctx, in.Queue, in.After, in.Limit)
			return listed(letters, in.Limit, func(d stores.DeadLetter) string { return d.ID }), p.of(err)
		})
	huma.Register(api, operation(http.MethodPost, "/tasks/{id}/requeue", "requeue-task", "tasks", "Put a dead letter back into its queue"),
		func(ctx context.Context, in *struct {
			ID string `path:"id"`
		}) (*struct{}, error) {
			return nil, p.of(tasks.Requeue(ctx, in.ID))
		})
	huma.Register(api, operation(http.MethodDelete, "/tasks/{id}", "discard-task", "tasks", "Remove a dead letter for good"),
		func(ctx context.Context, in *struct {
			ID string `path:"id"`
		}) (*struct{}, error) {
			return nil, p.of(tasks.Discard(ctx, in.ID))
		})
}

type leasedUntil struct {
	LeaseUntil time.Time `json:"lease_until"`
}
