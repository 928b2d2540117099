package stores

import (
	"fmt"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"
)

func TestHistoryByTimeAndParty(t *testing.T) {
	ctx, at := t.Context(), newClock()
	history := must(NewHistory(ctx, openTable(t, "message_history"), at.now))(t)
	start := at.now()
	for i, pair := range [][2]string{{"alice", "bob"}, {"bob", "carol"}, {"carol", "carol"}, {"alice", "carol"}} {
		must(history.Append(ctx, Record{From: pair[0], To: pair[1], Kind: "chat", Body: fmt.Sprint(i)}))(t)
		at.move(time.Minute)
	}
	tests := []struct {
		name  string
		query HistoryQuery
		want  string
	}{
		{"all", HistoryQuery{}, "0123"},
		{"a party on either side", HistoryQuery{Party: "carol"}, "123"},
		{"from", HistoryQuery{From: start.Add(time.Minute)}, "123"},
		{"to is excluded", HistoryQuery{To: start.Add(2 * time.Minute)}, "01"},
		{"first page", HistoryQuery{Limit: 2}, "01"},
		{"a party in a window", HistoryQuery{Party: "alice", From: start.Add(time.Second)}, "3"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := bodies(must(history.Query(ctx, test.query))(t)); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
	two := must(history.Query(ctx, HistoryQuery{Limit: 2}))(t)
	next := must(history.Query(ctx, HistoryQuery{After: HistoryCursor{At: two[1].At, ID: two[1].ID}}))(t)
	if got := bodies(next); got != "23" {
		t.Errorf("the next page is %s", got)
	}
	if n := must(history.Purge(ctx, start.Add(2*time.Minute)))(t); n != 2 {
		t.Errorf("purged %d, want 2", n)
	}
}

func bodies(records []Record) string {
	var b strings.Builder
	for _, r := range records {
		b.WriteString(r.Body)
	}
	return b.String()
}
