// Package events is the bus: what happened, as CloudEvents on the topic "backups", each with a sequence number that
// survives restarts, so that a client who was away asks for what came after the last one it saw.
//
// Who is told how (WebSocket, webhook, SNS, push) is left to infra/; what the events say, to whoever publishes them.
package events

import (
	"context"
	"encoding/json"
	"time"
)

// Topic is the name of the bus, the same as of the SNS topic in the template.
const Topic = "backups"

// Prefix begins the type of every event of ours.
const Prefix = "tablekeeper."

// RunProgress is the type of the only events that are not kept: how far a run is.
const RunProgress = Prefix + "run_progress"

// Event is a CloudEvent 1.0 in its JSON format (github.com/cloudevents/spec, cloudevents/spec.md).
type Event struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`              // tablekeeper.compaction_complete
	Subject         string          `json:"subject,omitempty"` // the table, if it is about one
	Time            time.Time       `json:"time"`
	DataContentType string          `json:"datacontenttype,omitempty"`
	Data            json.RawMessage `json:"data,omitempty"`
	// Sequence orders the events of one history, from 1. 0: not kept, cannot be resumed after.
	Sequence int64 `json:"sequence,omitempty,string"`
}

// Log keeps events. jobs/history is one.
type Log interface {
	// AppendEvents keeps the events and gives each its sequence number, in place; all or none.
	AppendEvents(ctx context.Context, events []Event) error
	// EventsAfter are up to limit events after a sequence number, in order.
	EventsAfter(ctx context.Context, sequence int64, limit int) ([]Event, error)
	// EventBounds are the first and last sequence numbers kept; 0, 0 if there are none.
	EventBounds(ctx context.Context) (first, last int64, err error)
}
