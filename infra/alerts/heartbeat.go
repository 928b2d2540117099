package alerts

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"tablekeeper/jobs"
	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
)

// heartbeat pings. It is no channel: a ping that is late is of no use, so none is kept.
type heartbeat struct {
	client    *http.Client
	url       string
	functions []string
	running   map[string]bool // ids of the runs whose start was told
	stages    chan string
}

func newHeartbeat(h Heartbeat) (*heartbeat, error) {
	if err := checkURL("heartbeat "+h.Name, h.URL); err != nil {
		return nil, err
	}
	functions := h.Functions
	if len(functions) == 0 {
		functions = []string{"backup"}
	}
	return &heartbeat{client: guardedClient(h.AllowPrivate, 10*time.Second), url: h.URL, functions: functions, running: map[string]bool{}, stages: make(chan string, 16)}, nil
}

// The stages of a ping.
const (
	started = "start"
	failed  = "fail"
	done    = ""
)

// stale is the age from which a ping would say what is true no more: after a start the past is read.
const stale = 24 * time.Hour

// hear turns an event into a ping. The start of a run is told by its first progress.
func (h *heartbeat) hear(e events.Event, now time.Time) {
	var said jobs.Outcome // a progress event has the same names
	if json.Unmarshal(e.Data, &said) != nil || !slices.Contains(h.functions, said.Function) {
		return
	}
	running := h.running[said.RunID]
	if e.Type != events.RunProgress {
		delete(h.running, said.RunID)
	}
	stage := done
	switch {
	case now.Sub(e.Time) > stale || said.Status == history.Cancelled || e.Type == events.RunProgress && running:
		return
	case e.Type == events.RunProgress:
		stage = started
		h.running[said.RunID] = true
	case e.Type == jobs.EventType(said.Function, true):
		stage = failed
	}
	h.tell(stage)
}

// tell hands a stage on. While the receiver hangs the newest are kept: it is the end of a run that counts.
func (h *heartbeat) tell(stage string) {
	for {
		select {
		case h.stages <- stage:
			return
		default:
		}
		select {
		case <-h.stages:
		default:
		}
	}
}

// run pings until ctx ends.
func (h *heartbeat) run(ctx context.Context, log *slog.Logger) {
	for {
		select {
		case stage := <-h.stages:
			if err := h.ping(ctx, stage); err != nil && ctx.Err() == nil {
				log.Warn("heartbeat was not received", "stage", stage, "error", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (h *heartbeat) ping(ctx context.Context, stage string) error {
	to, err := url.JoinPath(h.url, stage)
	if err != nil {
		return err
	}
	if stage == done {
		to = h.url
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, nil)
	if err != nil {
		return withoutURL(err)
	}
	response, err := h.client.Do(request)
	if err != nil {
		return withoutURL(err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		return statusError(response)
	}
	return nil
}
