package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Alerts tells who is away. The types are those of the API: whoever wires it in translates.
type Alerts interface {
	Open() []Alert
	Channels() []Channel
	Deliveries(ctx context.Context, before string, limit int) ([]Delivery, error)
	Redeliver(ctx context.Context, id string) error
	Test(ctx context.Context, channel string) error
	PushKey() (string, error) // "": web push is off
	Subscribe(ctx context.Context, sub PushSubscription) error
	Unsubscribe(ctx context.Context, endpoint string) error
}

// Alert is something that is wrong for as long as it lasts.
type Alert struct {
	Key      string        `json:"key"`
	Severity string        `json:"severity" enum:"critical,warning,info"`
	Since    time.Time     `json:"since"`
	Told     time.Time     `json:"told,omitzero"`
	Times    int           `json:"times" doc:"how often it was told"`
	Hint     string        `json:"hint,omitempty"`
	RunID    string        `json:"run_id,omitempty"`
	Members  []AlertMember `json:"members"`
	Count    int           `json:"count"`
}

// AlertMember is one table's part of an alert.
type AlertMember struct {
	Function string `json:"function"`
	Table    string `json:"table,omitempty"`
	Reason   string `json:"reason"`
	Detail   string `json:"detail,omitempty"`
}

// Channel is a way to tell somebody.
type Channel struct {
	Name string `json:"name"`
	Kind string `json:"kind,omitempty" enum:"webhook,sns,push"`
}

// Delivery is one message for one channel.
type Delivery struct {
	ID       string          `json:"id"`
	Channel  string          `json:"channel"`
	Status   string          `json:"status" enum:"pending,delivered,failed"`
	Attempts int             `json:"attempts"`
	Created  time.Time       `json:"created"`
	Next     time.Time       `json:"next,omitzero"`
	Ended    time.Time       `json:"ended,omitzero"`
	Error    string          `json:"error,omitempty"`
	Body     json.RawMessage `json:"body"`
}

// PushSubscription is what a browser's PushManager.subscribe() gave.
type PushSubscription struct {
	Endpoint   string `json:"endpoint" format:"uri" maxLength:"2000"`
	Expiration any    `json:"expirationTime,omitempty"`
	Keys       struct {
		P256dh string `json:"p256dh" maxLength:"200"`
		Auth   string `json:"auth" maxLength:"100"`
	} `json:"keys"`
}

type (
	alertList struct {
		Alerts []Alert `json:"alerts"`
	}
	channelList struct {
		Channels []Channel `json:"channels"`
		Push     bool      `json:"push" doc:"whether browsers can subscribe"`
	}
	deliveryList struct {
		Deliveries []Delivery `json:"deliveries"`
		Next       string     `json:"next,omitempty" doc:"before of the next page"`
	}
	tested struct {
		Channel   string `json:"channel"`
		Delivered bool   `json:"delivered"`
	}
	pushKey struct {
		Key string `json:"key" doc:"applicationServerKey; empty: web push is off"`
	}
)

func (s *Server) registerAlerts(api huma.API) {
	huma.Register(api, s.operation(http.MethodGet, "/alerts", "list-alerts", "alerts", "What is wrong now, the gravest first"),
		func(context.Context, *struct{}) (*answer[alertList], error) {
			list := alertList{Alerts: []Alert{}}
			if s.opts.Alerts != nil {
				list.Alerts = append(list.Alerts, s.opts.Alerts.Open()...)
			}
			return reply(list, nil)
		})
	huma.Register(api, s.operation(http.MethodGet, "/alerts/channels", "list-channels", "alerts", "How people are told"),
		func(context.Context, *struct{}) (*answer[channelList], error) {
			list := channelList{Channels: []Channel{}}
			if s.opts.Alerts == nil {
				return reply(list, nil)
			}
			list.Channels = append(list.Channels, s.opts.Alerts.Channels()...)
			key, err := s.opts.Alerts.PushKey()
			list.Push = key != ""
			return reply(list, err)
		})
	huma.Register(api, s.operation(http.MethodPost, "/alerts/test", "test-channel", "alerts", "Send a test message, and wait for the answer"),
		func(ctx context.Context, in *struct {
			Body struct {
				Channel string `json:"channel" maxLength:"200"`
			}
		}) (*answer[tested], error) {
			a, err := s.alerts()
			if err != nil {
				return nil, err
			}
			if err := hasChannel(a, in.Body.Channel); err != nil {
				return nil, err
			}
			if err := a.Test(ctx, in.Body.Channel); err != nil {
				return nil, problem(http.StatusBadGateway, err.Error(), cmp.Or(hintIn(err), "correct the channel in tablekeeper.yaml")).coded("not_delivered")
			}
			return reply(tested{in.Body.Channel, true}, nil)
		})
	s.registerDeliveries(api)
	s.registerPush(api)
}

func (s *Server) registerDeliveries(api huma.API) {
	huma.Register(api, s.operation(http.MethodGet, "/alerts/deliveries", "list-deliveries", "alerts", "What was sent, newest first"),
		func(ctx context.Context, in *struct {
			Before string `query:"before" maxLength:"64"`
			Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"500"`
		}) (*answer[deliveryList], error) {
			list := deliveryList{Deliveries: []Delivery{}}
			if s.opts.Alerts == nil {
				return reply(list, nil)
			}
			all, err := s.opts.Alerts.Deliveries(ctx, in.Before, in.Limit)
			if list.Deliveries = append(list.Deliveries, all...); len(all) == in.Limit {
				list.Next = all[len(all)-1].ID
			}
			return reply(list, err)
		})
	again := s.operation(http.MethodPost, "/alerts/deliveries/{id}/redeliver", "redeliver", "alerts", "Send an ended delivery once more")
	again.DefaultStatus = http.StatusAccepted
	huma.Register(api, again, func(ctx context.Context, in *struct {
		ID string `path:"id" maxLength:"64"`
	}) (*struct{}, error) {
		a, err := s.alerts()
		if err == nil {
			err = a.Redeliver(ctx, in.ID)
		}
		return nil, explain(err)
	})
}

func (s *Server) registerPush(api huma.API) {
	huma.Register(api, s.operation(http.MethodGet, "/alerts/push/key", "get-push-key", "alerts", "What a browser needs to subscribe"),
		func(context.Context, *struct{}) (*answer[pushKey], error) {
			if s.opts.Alerts == nil {
				return reply(pushKey{}, nil)
			}
			key, err := s.opts.Alerts.PushKey()
			return reply(pushKey{key}, err)
		})
	huma.Register(api, s.operation(http.MethodPost, "/alerts/push/subscriptions", "subscribe-push", "alerts", "Tell this browser, too"),
		func(ctx context.Context, in *struct{ Body PushSubscription }) (*struct{}, error) {
			a, err := s.alerts()
			if err != nil {
				return nil, err
			}
			if err := a.Subscribe(ctx, in.Body); err != nil {
				return nil, problem(http.StatusUnprocessableEntity, err.Error(), cmp.Or(hintIn(err), "send what PushManager.subscribe() gave, from a browser that can be reached"))
			}
			return nil, nil
		})
	huma.Register(api, s.operation(http.MethodDelete, "/alerts/push/subscriptions", "unsubscribe-push", "alerts", "Tell this browser no more"),
		func(ctx context.Context, in *struct {
			Endpoint string `query:"endpoint" required:"true" maxLength:"2000"`
		}) (*struct{}, error) {
			a, err := s.alerts()
			if err == nil {
				err = a.Unsubscribe(ctx, in.Endpoint)
			}
			return nil, explain(err)
		})
}

func (s *Server) alerts() (Alerts, error) {
	if s.opts.Alerts == nil {
		return nil, problem(http.StatusNotFound, "no alerts are configured", "set alerts: in tablekeeper.yaml").coded("no_alerts")
	}
	return s.opts.Alerts, nil
}

func hasChannel(a Alerts, channel string) error {
	names := []string{}
	for _, c := range a.Channels() {
		if c.Name == channel {
			return nil
		}
		names = append(names, c.Name)
	}
	return problem(http.StatusNotFound, "there is no such channel", "there are: "+joined(names))
}
