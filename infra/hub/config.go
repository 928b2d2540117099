package hub

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tablekeeper/storage/stores"
)

// Expected is the version that a change builds on.
type Expected struct {
	Author    string `json:"author"`
	IfVersion *int64 `json:"if_version,omitempty" minimum:"0" doc:"go ahead only if this is the present version; 0: the key is not there. Without it: always"`
}

func (e Expected) version() int64 {
	if e.IfVersion == nil {
		return stores.AnyVersion
	}
	return *e.IfVersion
}

func registerConfig(api huma.API, config *stores.Config, p problems) {
	huma.Register(api, operation(http.MethodGet, "/config", "list-config", "config", "The present values, by key"),
		func(ctx context.Context, in *struct {
			Prefix string `query:"prefix"`
			Paging
		}) (*answer[list[stores.Setting]], error) {
			all, err := config.List(ctx, in.Prefix, in.After, in.Limit)
			return listed(all, in.Limit, func(s stores.Setting) string { return s.Key }), p.of(err)
		})
	huma.Register(api, operation(http.MethodGet, "/config/{key}", "get-config", "config", "One value"),
		func(ctx context.Context, in *struct {
			Key string `path:"key"`
		}) (*answer[stores.Setting], error) {
			setting, err := config.Get(ctx, in.Key)
			return respond(p, setting, err)
		})
	huma.Register(api, operation(http.MethodPut, "/config/{key}", "set-config", "config", "Set a value"),
		func(ctx context.Context, in *struct {
			Key  string `path:"key"`
			Body struct {
				Expected
				Value string `json:"value"`
			}
		}) (*answer[stores.Setting], error) {
			setting, err := config.Set(ctx, in.Key, in.Body.Value, in.Body.Author, in.Body.version())
			return respond(p, setting, err)
		})
	huma.Register(api, operation(http.MethodPost, "/config/{key}/delete", "delete-config", "config", "End a key; its versions stay"),
		func(ctx context.Context, in *struct {
			Key  string `path:"key"`
			Body Expected
		}) (*answer[stores.Setting], error) {
			setting, err := config.Delete(ctx, in.Key, in.Body.Author, in.Body.version())
			return respond(p, setting, err)
		})
	huma.Register(api, operation(http.MethodGet, "/config/{key}/versions", "list-config-versions", "config", "The versions of a key, newest first"),
		func(ctx context.Context, in *struct {
			Key   string `path:"key"`
			Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
		}) (*answer[list[stores.Setting]], error) {
			versions, err := config.Versions(ctx, in.Key, in.Limit)
			return respond(p, list[stores.Setting]{Items: versions}, err)
		})
	huma.Register(api, operation(http.MethodGet, "/config-changes", "watch-config", "config", "What changed after a revision, waiting for the first change if asked to"),
		func(ctx context.Context, in *struct {
			Prefix string `query:"prefix"`
			WaitMS int64  `query:"wait_ms" minimum:"0" maximum:"60000"`
			Paging
		}) (*answer[list[stores.Setting]], error) {
			changes, err := awaitChanges(ctx, config, in.Prefix, in.After, in.Limit, time.Duration(in.WaitMS)*time.Millisecond)
			if err != nil {
				return nil, p.of(err)
			}
			page := list[stores.Setting]{Items: changes, Next: in.After}
			if n := len(changes); n > 0 {
				page.Next = changes[n-1].Revision
			}
			return &answer[list[stores.Setting]]{page}, nil
		})
}

// awaitChanges returns the changes there are, or waits for the first one.
func awaitChanges(ctx context.Context, config *stores.Config, prefix, after string, limit int, wait time.Duration) ([]stores.Setting, error) {
	changes, err := config.Changes(ctx, prefix, after, limit)
	if err != nil || len(changes) > 0 || wait == 0 {
		return changes, err
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for setting, err := range config.Watch(waiting, prefix, after) {
		if err != nil {
			if waiting.Err() != nil && ctx.Err() == nil {
				break
			}
			return nil, err
		}
		return []stores.Setting{setting}, nil
	}
	return changes, nil
}
