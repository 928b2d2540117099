package hub

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"tablekeeper/storage/stores"
)

// Subscriber names a subscription.
type Subscriber struct {
	Channel string `path:"channel"`
	Agent   string `path:"agent"`
}

func registerChannels(api huma.API, channels *stores.Channels, p problems) {
	huma.Register(api, operation(http.MethodPost, "/channels", "create-channel", "channels", "Create a channel"),
		func(ctx context.Context, in *struct {
			Body struct {
				Name    string `json:"name"`
				Topic   string `json:"topic,omitempty"`
				Creator string `json:"creator"`
			}
		}) (*answer[stores.Channel], error) {
			ch, err := channels.Create(ctx, stores.Channel{Name: in.Body.Name, Topic: in.Body.Topic, Creator: in.Body.Creator})
			return respond(p, ch, err)
		})
	huma.Register(api, operation(http.MethodGet, "/channels", "list-channels", "channels", "The channels, by name"),
		func(ctx context.Context, in *Paging) (*answer[list[stores.Channel]], error) {
			all, err := channels.List(ctx, in.After, in.Limit)
			return listed(all, in.Limit, func(ch stores.Channel) string { return ch.Name }), p.of(err)
		})
	huma.Register(api, operation(http.MethodPost, "/channels/{channel}/posts", "publish", "channels", "Publish a post"),
		func(ctx context.Context, in *struct {
			Channel string `path:"channel"`
			Body    struct {
				From string `json:"from"`
				Key  string `json:"key,omitempty" doc:"the same key of the same sender twice is published once"`
				Body string `json:"body"`
			}
		}) (*answer[stores.Post], error) {
			post, err := channels.Publish(ctx, stores.Post{Channel: in.Channel, From: in.Body.From, Key: in.Body.Key, Body: in.Body.Body})
			return respond(p, post, err)
		})
	huma.Register(api, operation(http.MethodGet, "/channels/{channel}/posts", "list-posts", "channels", "The posts of a channel, oldest first"),
		func(ctx context.Context, in *struct {
			Channel string `path:"channel"`
			Paging
		}) (*answer[list[stores.Post]], error) {
			posts, err := channels.Read(ctx, in.Channel, in.After, in.Limit)
			return listed(posts, in.Limit, postID), p.of(err)
		})
	registerSubscriptions(api, channels, p)
}

func registerSubscriptions(api huma.API, channels *stores.Channels, p problems) {
	const path = "/channels/{channel}/subscriptions/{agent}"
	huma.Register(api, operation(http.MethodPut, path, "subscribe", "channels", "Listen to a channel"),
		func(ctx context.Context, in *struct {
			Subscriber
			From string `query:"from" enum:"now,beginning" default:"now"`
		}) (*struct{}, error) {
			return nil, p.of(channels.Subscribe(ctx, in.Channel, in.Agent, in.From == "beginning"))
		})
	huma.Register(api, operation(http.MethodDelete, path, "unsubscribe", "channels", "Stop listening"),
		func(ctx context.Context, in *Subscriber) (*struct{}, error) {
			return nil, p.of(channels.Unsubscribe(ctx, in.Channel, in.Agent))
		})
	huma.Register(api, operation(http.MethodGet, path+"/posts", "read-on", "channels", "What the agent has not yet read"),
		func(ctx context.Context, in *struct {
			Subscriber
			Limit int `query:"limit" default:"100" minimum:"1" maximum:"1000"`
		}) (*answer[list[stores.Post]], error) {
			posts, err := channels.ReadOn(ctx, in.Channel, in.Agent, in.Limit)
			return respond(p, list[stores.Post]{Items: posts}, err)
		})
	huma.Register(api, operation(http.MethodPut, path+"/cursor", "advance", "channels", "Say up to which post the agent has read"),
		func(ctx context.Context, in *struct {
			Subscriber
			Body struct {
				ID string `json:"id" doc:"the id of the post read last"`
			}
		}) (*struct{}, error) {
			return nil, p.of(channels.Advance(ctx, in.Channel, in.Agent, in.Body.ID))
		})
}

func postID(post stores.Post) string { return post.ID }
