package jobs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"tablekeeper/jobs/history"
)

// fields is a JSON object that keeps the order of its keys.
type fields struct {
	keys   []string
	values map[string]json.RawMessage
}

func parseFields(raw json.RawMessage) (fields, error) {
	f := fields{values: map[string]json.RawMessage{}}
	if len(bytes.TrimSpace(raw)) == 0 {
		return f, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return f, errors.New("not a JSON object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return f, err
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return f, err
		}
		f.put(key.(string), v)
	}
	if _, err := d.Token(); err != nil {
		return f, err
	}
	return f, nil
}

func (f *fields) put(key string, v json.RawMessage) {
	if _, ok := f.values[key]; !ok {
		f.keys = append(f.keys, key)
	}
	f.values[key] = v
}

func (f *fields) putText(key, v string) {
	if v == "" {
		return
	}
	quoted, err := json.Marshal(v)
	if err == nil {
		f.put(key, quoted)
	}
}

func (f *fields) text(key string) (s string) {
	if json.Unmarshal(f.values[key], &s) != nil {
		return ""
	}
	return s
}

func (f *fields) number(key string) (n float64) {
	if json.Unmarshal(f.values[key], &n) != nil {
		return 0
	}
	return n
}

func (f *fields) encode() json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, key := range f.keys {
		if i > 0 {
			b.WriteByte(',')
		}
		quoted, err := json.Marshal(key)
		if err != nil {
			continue
		}
		b.Write(quoted)
		b.WriteByte(':')
		b.Write(f.values[key])
	}
	b.WriteByte('}')
	return b.Bytes()
}

// statusDegraded is the one status besides failed that stands for a failure: the table is empty.
const statusDegraded = "degraded"

// entryOf makes the entry of an attempt: what the function reported, with the fields that every entry has. It gives the
// error for which the table counts as failed, if it does.
func entryOf(table string, number int, a attempt, cancelled bool) (history.Entry, error) {
	f, err := parseFields(a.report)
	if a.err == nil && err != nil {
		a.err = fmt.Errorf("the function's entry: %w", err)
	}
	status, reason := f.text("status"), f.text("reason")
	switch {
	case a.err == nil && status == "":
		a.err = errors.New("the function's entry has no status")
	case a.err == nil && status == history.EntryFailed:
		a.err = &reportedError{reason}
	}
	if a.err != nil && status != statusDegraded {
		status = history.EntryFailed
	}
	if a.err != nil && reason == "" {
		reason = reasonOf(a.err, cancelled)
	}
	out := fields{values: map[string]json.RawMessage{}}
	out.putText("table", table)
	out.putText("status", status)
	out.putText("reason", reason)
	out.put("duration_ms", integer(duration(f.number("duration_ms"), a.took)))
	for _, key := range f.keys {
		if _, ours := out.values[key]; !ours {
			out.put(key, f.values[key])
		}
	}
	out.put("retried", json.RawMessage(strconv.FormatBool(number > 1)))
	out.put("attempts", integer(int64(number)))
	if a.err != nil {
		out.putText("error", a.err.Error())
		out.putText("hint", hintOf(a.err))
	}
	return history.Entry{Table: table, Status: status, Reason: reason, DurationMS: duration(f.number("duration_ms"), a.took), Attempts: number,
		Report: out.encode()}, a.err
}

// reportedError is a failure that the function put into its entry instead of an error.
type reportedError struct{ reason string }

func (e *reportedError) Error() string {
	if e.reason == "" {
		return "failed, without a reason"
	}
	return e.reason
}

func duration(reported float64, took time.Duration) int64 {
	if reported > 0 && reported < 1e12 {
		return int64(reported)
	}
	return took.Milliseconds()
}

func integer(n int64) json.RawMessage { return json.RawMessage(strconv.FormatInt(n, 10)) }

func reasonOf(err error, cancelled bool) string {
	if cancelled {
		return "cancelled"
	}
	if _, ok := errors.AsType[*timeoutError](err); ok {
		return "timed_out"
	}
	if _, ok := errors.AsType[*panicError](err); ok {
		return "panic"
	}
	return "error"
}

// skippedEntry is a table that was not tried; holder is who was in the way, if anyone.
func skippedEntry(table, reason, holder string) history.Entry {
	f := fields{values: map[string]json.RawMessage{}}
	f.putText("table", table)
	f.putText("status", history.EntrySkipped)
	f.putText("reason", reason)
	f.put("duration_ms", integer(0))
	f.put("retried", json.RawMessage("false"))
	f.putText("holder", holder)
	return history.Entry{Table: table, Status: history.EntrySkipped, Reason: reason, Report: f.encode()}
}
