package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"tablekeeper/functions"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/awss3"
	"tablekeeper/storage/bucket/dir"
	"tablekeeper/storage/bucket/minio"
	"tablekeeper/storage/bucket/remote"
	"tablekeeper/storage/shelf"
)

// parts are what the outside gives a handler.
type parts struct {
	Stdout io.Writer // of metrics
	Log    *slog.Logger
	Now    func() time.Time
}

// handler is one function, ready for invocations. Lambda gives it one at a time.
type handler struct {
	parts
	set       settings
	place     place
	backups   bucket.Bucket
	address   string // of backups, as records name it
	catalogue *archive.Catalogue
	state     bucket.Bucket
	once      *once
	queue     queue
	topic     topic
	secrets   secrets
	keyring   *keyring
	metrics   *metrics
	scratch   *scratch
}

// open wires the handler. It asks nobody yet: a cold start is short.
func open(ctx context.Context, set settings, p parts) (*handler, error) {
	h := &handler{parts: p, set: set, metrics: &metrics{out: p.Stdout, function: set.Function, now: p.Now}}
	var err error
	if h.scratch, err = openScratch(set.Scratch); err != nil {
		return nil, err
	}
	if h.backups, h.address, err = openBucket(ctx, set.Bucket, p.Log); err != nil {
		return nil, err
	}
	h.catalogue = archive.NewCatalogue(h.backups, archive.CatalogueOptions{Recipients: set.Recipients})
	h.keyring = &keyring{handler: h}
	if h.state, _, err = openBucket(ctx, set.State, p.Log); err != nil {
		return nil, err
	}
	h.once = &once{bucket: h.state, function: set.Function, now: p.Now}
	defaults := shelf.Settings{Threshold: set.Threshold, MaxPause: set.MaxPause, RPO: set.RPO}
	if set.onEFS() {
		h.place = &folder{path: filepath.Clean(set.Tables), defaults: defaults, function: set.Function}
	} else {
		// Nobody waits for a table that is worked on in /tmp.
		defaults.MaxPause = 24 * time.Hour
		tables, _, err := openBucket(ctx, set.Tables, p.Log)
		if err != nil {
			return nil, err
		}
		h.place = &objects{bucket: tables, state: h.state, scratch: h.scratch, defaults: defaults}
	}
	return h, h.connect(ctx)
}

func (h *handler) connect(ctx context.Context) error {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return fmt.Errorf("read the configuration of the SDK: %w", err)
	}
	h.queue, h.topic = sqsQueue{sqs.NewFromConfig(cfg)}, snsTopic{sns.NewFromConfig(cfg)}
	h.secrets = secretsManager{secretsmanager.NewFromConfig(cfg)}
	return nil
}

// openBucket is the one place that knows which package serves which scheme.
func openBucket(ctx context.Context, address string, log *slog.Logger) (bucket.Bucket, string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, "", fmt.Errorf("bucket %q: %w", address, err)
	}
	var b bucket.Bucket
	switch u.Scheme {
	case "aws":
		b, err = awss3.Open(ctx, u, remote.Options{})
	case "s3":
		b, err = minio.Open(ctx, u, remote.Options{})
	case "file":
		b, err = openDir(u)
	default:
		err = fmt.Errorf("bucket %s: the scheme %q is not known", u.Redacted(), u.Scheme)
	}
	if err != nil {
		return nil, "", err
	}
	return bucket.Steady(b, bucket.SteadyOptions{Logger: log}), addressOf(u), nil
}

func openDir(u *url.URL) (bucket.Bucket, error) {
	path, err := dir.Path(u)
	if err != nil {
		return nil, err
	}
	return dir.Open(path)
}

// request is an invocation's payload, whatever it came by.
type request struct {
	ID      string // of the event
	Event   json.RawMessage
	Records []record // of SQS; then there is no event
}

// record is a message of SQS as Lambda hands it over.
type record struct {
	Source     string            `json:"eventSource"`
	MessageID  string            `json:"messageId"`
	Receipt    string            `json:"receiptHandle"`
	Body       string            `json:"body"`
	Attributes map[string]string `json:"attributes"`
}

// read finds out what a payload is: messages of SQS; an event of an EventBridge rule, whose detail is the event; or the event itself, in which event_id
// may say what makes two deliveries one. Without it that is Lambda's request id, which all attempts at one asynchronous
// invocation share.
func read(ctx context.Context, payload []byte) (request, error) {
	var in struct {
		Records    []record        `json:"Records"`
		ID         string          `json:"id"`
		DetailType string          `json:"detail-type"`
		Detail     json.RawMessage `json:"detail"`
	}
	r := request{Event: payload}
	if text := bytes.TrimSpace(payload); len(text) == 0 || string(text) == "null" {
		r.Event = json.RawMessage("{}")
	}
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		r.ID = lc.AwsRequestID
	}
	// What has another shape is for the function to refuse.
	if json.Unmarshal(payload, &in) == nil {
		switch {
		case len(in.Records) > 0 && in.Records[0].Source == "aws:sqs":
			r.Records = in.Records
			return r, nil
		case in.DetailType != "" && in.ID != "":
			r.ID, r.Event = in.ID, in.Detail
		}
	}
	return r, r.takeID()
}

// takeID takes event_id out of the event.
func (r *request) takeID() error {
	var fields map[string]json.RawMessage
	if json.Unmarshal(r.Event, &fields) != nil || fields["event_id"] == nil {
		return nil //nolint:nilerr // the function will refuse it
	}
	var id string
	if err := json.Unmarshal(fields["event_id"], &id); err != nil || id == "" || len(id) > 200 {
		return &functions.EventError{Problem: "event_id is no text of 1 to 200 characters", Try: "leave it out, or give each event its own"}
	}
	delete(fields, "event_id")
	event, err := json.Marshal(fields)
	r.ID, r.Event = id, event
	return err
}

// patterns are the tables that an event names; and whether it names each of them.
func patterns(event json.RawMessage) (named []string, each bool) {
	var e struct {
		Tables []string `json:"tables"`
		Table  string   `json:"table"`
	}
	if json.Unmarshal(event, &e) != nil {
		return nil, true // the function will refuse it
	}
	if e.Table != "" {
		return []string{e.Table}, true
	}
	for _, p := range e.Tables {
		if strings.ContainsAny(p, "*?[") {
			return e.Tables, false
		}
	}
	return e.Tables, len(e.Tables) > 0
}

// Invoke implements lambda.Handler.
func (h *handler) Invoke(ctx context.Context, payload []byte) (out []byte, err error) {
	start := h.Now()
	defer func() {
		if cause := recover(); cause != nil {
			err = &crash{cause}
		}
		if err != nil {
			h.Log.Error("invocation failed", "function", h.set.Function, "reason", reasonOf(err), "error", err, "hint", hintOf(err), "ms", h.Now().Sub(start).Milliseconds())
		}
		err = typed(err)
	}()
	in, err := read(ctx, payload)
	if err != nil {
		return nil, err
	}
	if err := h.keyring.unlock(ctx); err != nil {
		return nil, err
	}
	switch _, each := patterns(in.Event); {
	case in.Records != nil:
		return h.batch(ctx, in.Records)
	case h.set.Function == "sweep":
		return h.sweep(ctx, in)
	case h.set.Queue != "" && !each:
		return h.dispatch(ctx, in)
	}
	return h.direct(ctx, in)
}
