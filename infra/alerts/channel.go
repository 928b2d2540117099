package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"tablekeeper/jobs/events"
)

// Webhook is a receiver of signed CloudEvents.
type Webhook struct {
	Name         string
	URL          string
	Secret       string // whsec_...; "" leaves messages unsigned
	AllowPrivate bool   // the receiver may be in a private network
}

// Heartbeat is a URL to ping when a function starts (URL/start), ends well (URL) or fails (URL/fail), as healthchecks.io and
// its likes understand it.
type Heartbeat struct {
	Name         string
	URL          string
	Functions    []string // empty: backup
	AllowPrivate bool
}

// channel takes notices. What it returns decides whether the same delivery is tried again.
type channel interface {
	send(ctx context.Context, d Delivery) error
}

const sendTimeout = 30 * time.Second

// NoticeType is the type of the CloudEvent that carries a notice.
const NoticeType = events.Prefix + "alert"

// envelope wraps a notice as a CloudEvent; its subject is the table, where there is one only.
func envelope(n Notice, id, source string, now time.Time) ([]byte, error) {
	data, err := json.Marshal(n)
	if err != nil {
		return nil, err
	}
	e := events.Event{SpecVersion: "1.0", ID: id, Source: source, Type: NoticeType, Time: now.UTC(), DataContentType: "application/json", Data: data}
	if len(n.Tables) == 1 {
		e.Subject = n.Tables[0]
	}
	return json.Marshal(e)
}

// opened reads the notice back from a delivery.
func opened(d Delivery) (n Notice, err error) {
	var e events.Event
	if err := json.Unmarshal(d.Body, &e); err != nil {
		return n, err
	}
	err = json.Unmarshal(e.Data, &n)
	return n, err
}

// checkURL accepts http and https URLs with a host.
func checkURL(what, raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("%s: %q is not an http or https URL", what, redact(raw))
	}
	return nil
}

// redact leaves out of a URL what may be a secret: user, path and query of a webhook often are.
func redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return "…"
	}
	return u.Scheme + "://" + u.Host + "/…"
}

// withoutURL takes the URL out of an HTTP client's error.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		u.URL = redact(u.URL)
	}
	return err
}

func newWebhook(w Webhook, now func() time.Time) (channel, error) {
	if err := checkURL("webhook "+w.Name, w.URL); err != nil {
		return nil, err
	}
	secret, err := parseSecret(w.Secret)
	if err != nil {
		return nil, fmt.Errorf("webhook %s: %w", w.Name, err)
	}
	return webhook{client: guardedClient(w.AllowPrivate, sendTimeout), url: w.URL, secret: secret, now: now}, nil
}

func (w webhook) send(ctx context.Context, d Delivery) error {
	return withoutURL(w.post(ctx, d.ID, d.Body))
}

// push sends to every subscribed browser. A browser that is gone is forgotten; the delivery has failed if no browser took it, and for
// good if there is none.
type push struct {
	pusher pusher
	box    *outbox
	url    string // of the dashboard
}

// pushMessage is what the service worker shows.
type pushMessage struct {
	Title string `json:"title"`
	Body  string `json:"body"`
	Tag   string `json:"tag"` // a newer message with the same tag takes the place of the older
	URL   string `json:"url"`
}

func (p push) send(ctx context.Context, d Delivery) error {
	n, err := opened(d)
	if err != nil {
		return err
	}
	message, err := json.Marshal(pushMessage{Title: clip(n.Title, 200), Body: clip(n.Detail, 1000), Tag: n.Key, URL: p.url})
	if err != nil {
		return err
	}
	subscribed, err := p.box.subscriptions(ctx)
	if err != nil {
		return err
	}
	taken := 0
	var failures []error
	for _, s := range subscribed {
		err := withoutURL(p.pusher.send(ctx, s, message, "", n.Severity == Critical))
		switch {
		case err == nil:
			taken++
		case errors.Is(err, ErrGone):
			err = p.box.unsubscribe(ctx, s.Endpoint)
		}
		if err != nil {
			failures = append(failures, err)
		}
	}
	switch {
	case taken > 0:
		return nil
	case len(failures) > 0:
		return errors.Join(failures...)
	}
	return fmt.Errorf("push: %w", ErrNobody)
}

// clip shortens a text to n bytes, at a rune.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}
