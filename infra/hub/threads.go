package hub

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"tablekeeper/storage/stores"
)

func registerThreads(api huma.API, threads *stores.Threads, p problems) {
	huma.Register(api, operation(http.MethodPost, "/threads", "start-thread", "threads", "Begin a thread"),
		func(ctx context.Context, in *struct {
			Body struct {
				ID     string `json:"id,omitempty" doc:"a UUID of the author's choice: the same one twice begins one thread"`
				Author string `json:"author"`
				Title  string `json:"title"`
				Body   string `json:"body,omitempty"`
			}
		}) (*answer[stores.Thread], error) {
			thread, err := threads.Start(ctx, stores.Thread{ID: in.Body.ID, Author: in.Body.Author, Title: in.Body.Title, Body: in.Body.Body})
			return respond(p, thread, err)
		})
	huma.Register(api, operation(http.MethodGet, "/threads", "list-threads", "threads", "Threads, newest first"),
		func(ctx context.Context, in *struct {
			Author string `query:"author"`
			Before string `query:"before" doc:"the next of the page before"`
			Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
		}) (*answer[list[stores.Thread]], error) {
			all, err := threads.List(ctx, in.Author, in.Before, in.Limit)
			return listed(all, in.Limit, func(t stores.Thread) string { return t.ID }), p.of(err)
		})
	huma.Register(api, operation(http.MethodGet, "/threads/{id}", "get-thread", "threads", "The message a thread begins with"),
		func(ctx context.Context, in *struct {
			ID string `path:"id"`
		}) (*answer[stores.Thread], error) {
			thread, err := threads.Get(ctx, in.ID)
			return respond(p, thread, err)
		})
	huma.Register(api, operation(http.MethodPost, "/threads/{id}/replies", "reply", "threads", "Reply in a thread"),
		func(ctx context.Context, in *struct {
			ID   string `path:"id"`
			Body struct {
				Author string `json:"author"`
				Key    string `json:"key,omitempty" doc:"the same key of the same author twice is one reply"`
				Body   string `json:"body"`
			}
		}) (*answer[stores.Reply], error) {
			reply, err := threads.Reply(ctx, stores.Reply{Thread: in.ID, Author: in.Body.Author, Key: in.Body.Key, Body: in.Body.Body})
			return respond(p, reply, err)
		})
	huma.Register(api, operation(http.MethodGet, "/threads/{id}/replies", "list-replies", "threads", "The replies of a thread, oldest first"),
		func(ctx context.Context, in *struct {
			ID string `path:"id"`
			Paging
		}) (*answer[list[stores.Reply]], error) {
			replies, err := threads.Replies(ctx, in.ID, in.After, in.Limit)
			return listed(replies, in.Limit, func(r stores.Reply) string { return r.ID }), p.of(err)
		})
}
