package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"tablekeeper/jobs/events"
)

// Message is an event as clients get it: what every one has, and beside it the fields of the event's own data.
type Message struct{ event events.Event }

// MarshalJSON puts the data beside the fields that every message has; those win.
func (m Message) MarshalJSON() ([]byte, error) {
	fields := map[string]json.RawMessage{}
	if len(m.event.Data) > 0 && json.Unmarshal(m.event.Data, &fields) != nil {
		fields = map[string]json.RawMessage{"data": m.event.Data}
	}
	for name, value := range map[string]any{
		"type": strings.TrimPrefix(m.event.Type, events.Prefix), "sequence": m.event.Sequence, "timestamp": m.event.Time, "id": m.event.ID, "table": m.event.Subject,
	} {
		if name == "table" && value == "" {
			continue
		}
		encoded, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		fields[name] = encoded
	}
	return json.Marshal(fields)
}

// Schema implements huma.SchemaProvider.
func (Message) Schema(huma.Registry) *huma.Schema {
	return object("What happened. Each type has fields of its own beside these.", map[string]*huma.Schema{
		"type":     text("compaction_complete, compaction_failed, backup_complete, ..., corruption_detected, table_degraded, backup_overdue; run_progress only on the stream"),
		"sequence": integer("orders events; 0: not kept"), "timestamp": {Type: huma.TypeString, Format: "date-time"}, "id": text(""), "table": text("if it is about one"),
	})
}

// Hello is the first message of a stream.
type Hello struct {
	Type     string    `json:"type"` // hello
	Sequence int64     `json:"sequence"`
	At       time.Time `json:"timestamp"`
	Version  string    `json:"version"`
	Build    string    `json:"build"`
	Reset    bool      `json:"reset,omitempty"` // the client's sequence number is of another history: all it knows may be wrong
}

// Gap tells a client that it will never get some messages.
type Gap struct {
	Type string `json:"type"` // gap
	Lost int64  `json:"lost"`
}

type eventList struct {
	Events []Message `json:"events"`
	First  int64     `json:"first" doc:"the oldest sequence number that is kept"`
	Last   int64     `json:"last" doc:"the newest"`
	Next   int64     `json:"next" doc:"after of the next request"`
}

func (s *Server) registerEvents(api huma.API) {
	op := s.operation(http.MethodGet, "/events", "list-events", "events", "Events after a sequence number; as a WebSocket, the stream of them")
	op.Description = "With Upgrade: websocket it is the stream: first a hello, then each event. after resumes without gaps; without it the stream begins now. " +
		"A client that is too slow is closed with 1013."
	op.Middlewares = huma.Middlewares{s.upgrade}
	huma.Register(api, op, func(ctx context.Context, in *struct {
		After int64 `query:"after" minimum:"0"`
		Limit int   `query:"limit" default:"200" minimum:"1" maximum:"1000"`
	}) (*answer[eventList], error) {
		return reply(s.eventsAfter(ctx, in.After, in.Limit))
	})
}

func (s *Server) eventsAfter(ctx context.Context, after int64, limit int) (eventList, error) {
	list := eventList{Events: []Message{}, Next: after}
	kept, err := s.History.EventsAfter(ctx, after, limit)
	if err == nil {
		list.First, list.Last, err = s.History.EventBounds(ctx)
	}
	for _, e := range kept {
		list.Events, list.Next = append(list.Events, Message{e}), e.Sequence
	}
	return list, err
}

// upgrade takes the requests that want a stream.
func (s *Server) upgrade(ctx huma.Context, next func(huma.Context)) {
	if !strings.EqualFold(ctx.Header("Upgrade"), "websocket") {
		next(ctx)
		return
	}
	r, w := humago.Unwrap(ctx)
	s.stream(w, r.WithContext(ctx.Context()))
}
