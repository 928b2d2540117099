package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"tablekeeper/functions"
)

// dispatch sends one message a table. Delivered twice, the event sends the same messages, which the queue knows for five minutes
// and the workers' marks for longer.
func (h *handler) dispatch(ctx context.Context, in request) ([]byte, error) {
	tables, err := h.expand(ctx, in.Event)
	if err != nil {
		return nil, err
	}
	jobs := make([]job, len(tables))
	for i, name := range tables {
		if jobs[i], err = h.jobFor(in, name); err != nil {
			return nil, err
		}
	}
	if err := h.spread(ctx, jobs); err != nil {
		return nil, err
	}
	h.Log.Info("dispatched", "function", h.set.Function, "event", in.ID, "tables", len(jobs))
	if err := h.metrics.put(map[string]int64{"TablesDispatched": int64(len(jobs))}, map[string]any{"event": in.ID}, false); err != nil {
		h.Log.Warn("metrics are lost", "error", err)
	}
	return json.Marshal(&report{Function: h.set.Function, EventID: in.ID, Tables: len(tables), Dispatched: len(jobs)})
}

// jobFor is the event for one of its tables.
func (h *handler) jobFor(in request, name string) (job, error) {
	fields := map[string]json.RawMessage{}
	err := json.Unmarshal(in.Event, &fields)
	if err != nil {
		return job{}, err
	}
	if fields["tables"], err = json.Marshal([]string{name}); err != nil {
		return job{}, err
	}
	event, err := json.Marshal(fields)
	return job{ID: in.ID, Event: event, Table: name}, err
}

// senders is how many batches are on their way at a time: 10,000 tables are 1,000 batches.
const senders = 16

// spread sends the jobs, in several batches at a time.
func (h *handler) spread(ctx context.Context, jobs []job) error {
	var (
		mu   sync.Mutex
		errs []error
		wg   sync.WaitGroup
	)
	slots := make(chan struct{}, senders)
	for len(jobs) > 0 {
		n := min(batch, len(jobs))
		part := jobs[:n]
		jobs = jobs[n:]
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := h.queue.send(ctx, h.set.Queue, part); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// batchAnswer tells which messages are to be delivered again.
type batchAnswer struct {
	Failures []batchFailure `json:"batchItemFailures"`
}

type batchFailure struct {
	ID string `json:"itemIdentifier"`
}

// maxReceives is how often a message is delivered before the queue gives it up; the template says the same.
const maxReceives = 3

// batch works on messages of the queue. Those of one table are done one after the other, and a failure holds back the later
// ones.
func (h *handler) batch(ctx context.Context, records []record) ([]byte, error) {
	r := &report{Function: h.set.Function, Tables: len(records)}
	answer := batchAnswer{Failures: []batchFailure{}}
	byGroup := map[string][]record{}
	var first []job
	failed := func(rec record, after time.Duration) {
		answer.Failures = append(answer.Failures, batchFailure{rec.MessageID})
		if rec.Receipt == "" || h.set.Queue == "" {
			return
		}
		if err := h.queue.again(context.WithoutCancel(ctx), h.set.Queue, rec.Receipt, after); err != nil {
			h.Log.Warn("the message comes again later than it could", "error", err)
		}
	}
	for _, rec := range records {
		var j job
		if err := json.Unmarshal([]byte(rec.Body), &j); err != nil || j.Table == "" || j.ID == "" {
			r.add(result{job: j, err: &functions.EventError{Problem: fmt.Sprintf("message %s is no job: %.200q", rec.MessageID, rec.Body)}})
			failed(rec, 0) // it ends in the queue of failed messages, for people to see
			continue
		}
		if byGroup[j.Table] == nil {
			first = append(first, j)
		}
		byGroup[j.Table] = append(byGroup[j.Table], rec)
	}
	for _, res := range h.all(ctx, first) {
		group := byGroup[res.job.Table]
		later := group[1:]
		switch {
		case !res.begun || res.unlucky():
			r.Remaining = append(r.Remaining, res.job.Table)
			failed(group[0], 0)
		case res.err != nil:
			r.add(res)
			if !h.settled(ctx, group[0], res) {
				failed(group[0], backoff(group[0]))
			}
		default:
			r.add(res)
			h.announce(ctx, res)
		}
		for _, rec := range later { // its turn comes when the first is settled
			failed(rec, 0)
		}
	}
	h.count(r)
	return json.Marshal(answer)
}

func receives(rec record) int {
	n, _ := strconv.Atoi(rec.Attributes["ApproximateReceiveCount"])
	return max(n, 1)
}

// backoff is how long a table that failed is left alone.
func backoff(rec record) time.Duration { return time.Duration(receives(rec)) * time.Minute }

// settled tells that a failed message is not to come again: trying again is of no use. People are told then, and when it has
// failed for the last time.
func (h *handler) settled(ctx context.Context, rec record, res result) bool {
	final := permanent(res.err)
	if final || receives(rec) >= maxReceives {
		h.tell(ctx, h.set.Function+" of "+res.job.Table+" failed: "+reasonOf(res.err), map[string]any{
			"type": "tablekeeper." + h.set.Function + "_failed", "function": h.set.Function, "table": res.job.Table, "event_id": res.job.ID,
			"reason": reasonOf(res.err), "error": res.err.Error(), "hint": hintOf(res.err), "entry": res.entry,
		})
	}
	return final
}

// announce tells people what they must know though it is no failure: a table that was repaired, restored or emptied.
func (h *handler) announce(ctx context.Context, res result) {
	var e functions.Entry
	if json.Unmarshal(res.entry, &e) != nil {
		return
	}
	switch e.Status {
	case functions.Repaired, functions.Restored, functions.Degraded:
		h.tell(ctx, fmt.Sprintf("%s: %s was %s", h.set.Function, res.job.Table, e.Status), map[string]any{
			"type": "tablekeeper." + h.set.Function + "_complete", "function": h.set.Function, "table": res.job.Table, "event_id": res.job.ID, "entry": res.entry,
		})
	case functions.Compacted, functions.Skipped, functions.BackedUp, functions.Verified, functions.Swept: // as it should be
	case functions.Failed: // is told as a failure
	}
}

// maxSubject is what SNS takes, in bytes.
const maxSubject = 100

func (h *handler) tell(ctx context.Context, subject string, message map[string]any) {
	if h.set.Topic == "" {
		return
	}
	text, err := json.Marshal(message)
	if err == nil {
		err = h.topic.publish(context.WithoutCancel(ctx), h.set.Topic, subject[:min(len(subject), maxSubject)], string(text))
	}
	if err != nil {
		h.Log.Error("nobody was told", "subject", subject, "error", err)
	}
}
