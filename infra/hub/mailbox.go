package hub

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"tablekeeper/storage/stores"
)

func registerMailbox(api huma.API, box *stores.Mailbox, p problems) {
	huma.Register(api, operation(http.MethodPost, "/mailbox/{agent}/messages", "send-message", "mailbox", "Send a message to an agent"),
		func(ctx context.Context, in *struct {
			Agent string `path:"agent"`
			Body  struct {
				ID      string `json:"id,omitempty" doc:"a UUID of the sender's choice: the same one twice is sent once"`
				From    string `json:"from"`
				Subject string `json:"subject,omitempty"`
				Body    string `json:"body"`
			}
		}) (*answer[stores.Message], error) {
			m, err := box.Send(ctx, stores.Message{ID: in.Body.ID, To: in.Agent, From: in.Body.From, Subject: in.Body.Subject, Body: in.Body.Body})
			return respond(p, m, err)
		})
	huma.Register(api, operation(http.MethodPost, "/mailbox/{agent}/receive", "receive-messages", "mailbox", "The agent's oldest unacknowledged messages"),
		func(ctx context.Context, in *struct {
			Agent string `path:"agent"`
			Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
		}) (*answer[list[stores.Message]], error) {
			messages, err := box.Receive(ctx, in.Agent, in.Limit)
			return respond(p, list[stores.Message]{Items: messages}, err)
		})
	huma.Register(api, operation(http.MethodPost, "/mailbox/{agent}/acknowledge", "acknowledge-messages", "mailbox", "Mark messages as done"),
		func(ctx context.Context, in *struct {
			Agent string `path:"agent"`
			Body  struct {
				IDs []string `json:"ids" maxItems:"1000"`
			}
		}) (*answer[acknowledged], error) {
			n, err := box.Acknowledge(ctx, in.Agent, in.Body.IDs...)
			return respond(p, acknowledged{n}, err)
		})
	huma.Register(api, operation(http.MethodGet, "/mailbox/{agent}", "count-messages", "mailbox", "How many messages wait for an agent"),
		func(ctx context.Context, in *struct {
			Agent string `path:"agent"`
		}) (*answer[waiting], error) {
			n, err := box.Waiting(ctx, in.Agent)
			return respond(p, waiting{n}, err)
		})
}

type acknowledged struct {
	Acknowledged int `json:"acknowledged"`
}

type waiting struct {
	Waiting int `json:"waiting"`
}
