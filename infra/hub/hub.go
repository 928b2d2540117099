// Package hub is the HTTP API of the six stores (storage/stores), for agents in any language, under /api/v1.
//
// It translates: a request to a call, an error to an RFC 9457 problem with a hint. What is kept and in which order is said in
// storage/stores; who may call is decided by whoever serves it.
package hub

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tablekeeper/storage/stores"
)

// Prefix is where the API lives.
const Prefix = "/api/v1"

// Stores are the six that the hub offers.
type Stores struct {
	Mailbox  *stores.Mailbox
	Channels *stores.Channels
	Tasks    *stores.TaskQueue
	Threads  *stores.Threads
	History  *stores.History
	Config   *stores.Config
}

// Register adds the routes of the stores to an API. unavailable tells which errors mean that a table is being repaired: they
// become 503 with Retry-After.
func Register(api huma.API, s Stores, unavailable func(error) bool) {
	group := huma.NewGroup(api, Prefix)
	answer := problems{unavailable: unavailable}
	registerMailbox(group, s.Mailbox, answer)
	registerChannels(group, s.Channels, answer)
	registerTasks(group, s.Tasks, answer)
	registerThreads(group, s.Threads, answer)
	registerHistory(group, s.History, answer)
	registerConfig(group, s.Config, answer)
}

// retryAfter is how long a client is told to wait for a table that is being repaired.
const retryAfter = 2 * time.Second

// problems turns errors of the stores into HTTP problems.
type problems struct{ unavailable func(error) bool }

func (p problems) of(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, stores.ErrInvalid):
		return huma.Error422UnprocessableEntity(err.Error())
	case errors.Is(err, stores.ErrNotFound):
		return huma.Error404NotFound(err.Error())
	case errors.Is(err, stores.ErrConflict):
		return huma.Error409Conflict(err.Error())
	case p.unavailable != nil && p.unavailable(err):
		problem := huma.Error503ServiceUnavailable("the table is being repaired; the same request will succeed when it is done")
		return huma.ErrorWithHeaders(problem, http.Header{"Retry-After": {strconv.Itoa(int(retryAfter.Seconds()))}})
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return huma.Error503ServiceUnavailable("the request ended before the table answered")
	}
	return huma.Error500InternalServerError("the store could not answer", err)
}

// answer is the body of a response.
type answer[T any] struct{ Body T }

// list is the body of a response with several items. Next is the cursor of the page after it, "" on the last page.
type list[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// listed builds a page; it has a next one if it is full.
func listed[T any](items []T, limit int, cursor func(T) string) *answer[list[T]] {
	page := list[T]{Items: items}
	if n := len(items); n > 0 && n == limit {
		page.Next = cursor(items[n-1])
	}
	return &answer[list[T]]{page}
}

// Paging is the part of a request that asks for a page.
type Paging struct {
	After string `query:"after" doc:"the next of the page before; empty for the first"`
	Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

// respond wraps a store's answer.
func respond[T any](p problems, value T, err error) (*answer[T], error) {
	if err != nil {
		return nil, p.of(err)
	}
	return &answer[T]{value}, nil
}

func operation(method, path, id, tag, summary string) huma.Operation {
	return huma.Operation{Method: method, Path: path, OperationID: id, Tags: []string{tag}, Summary: summary}
}
