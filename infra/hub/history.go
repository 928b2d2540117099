package hub

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tablekeeper/storage/stores"
)

func registerHistory(api huma.API, history *stores.History, p problems) {
	huma.Register(api, operation(http.MethodPost, "/history", "append-history", "history", "Append a record"),
		func(ctx context.Context, in *struct {
			Body struct {
				ID   string    `json:"id,omitempty" doc:"a UUID of the caller's choice: the same one twice is one record"`
				From string    `json:"from"`
				To   string    `json:"to"`
				Kind string    `json:"kind"`
				Body string    `json:"body,omitempty"`
				At   time.Time `json:"at,omitzero" doc:"default: now"`
			}
		}) (*answer[stores.Record], error) {
			b := in.Body
			record, err := history.Append(ctx, stores.Record{ID: b.ID, From: b.From, To: b.To, Kind: b.Kind, Body: b.Body, At: b.At})
			return respond(p, record, err)
		})
	huma.Register(api, operation(http.MethodGet, "/history", "query-history", "history", "Records by time and party, oldest first"),
		func(ctx context.Context, in *struct {
			Party string    `query:"party" doc:"sender or recipient"`
			From  time.Time `query:"from" doc:"from this time on"`
			To    time.Time `query:"to" doc:"before this time"`
			Paging
		}) (*answer[list[stores.Record]], error) {
			after, err := parseHistoryCursor(in.After)
			if err != nil {
				return nil, p.of(err)
			}
			records, err := history.Query(ctx, stores.HistoryQuery{Party: in.Party, From: in.From, To: in.To, After: after, Limit: in.Limit})
			return listed(records, in.Limit, historyCursor), p.of(err)
		})
}

func historyCursor(r stores.Record) string { return r.At.Format(time.RFC3339Nano) + "_" + r.ID }

func parseHistoryCursor(s string) (stores.HistoryCursor, error) {
	if s == "" {
		return stores.HistoryCursor{}, nil
	}
	at, id, _ := strings.Cut(s, "_")
	t, err := time.Parse(time.RFC3339Nano, at)
	if err != nil {
		return stores.HistoryCursor{}, fmt.Errorf("%w: after %.64q is not the next of a page", stores.ErrInvalid, s)
	}
	return stores.HistoryCursor{At: t, ID: id}, nil
}
