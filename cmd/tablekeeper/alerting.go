package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"tablekeeper/infra/admin"
	"tablekeeper/infra/alerts"
	"tablekeeper/jobs/history"
)

// openAlerts opens the alerts' channels; nil if none is configured.
func (h *house) openAlerts(ctx context.Context) (*alerts.Service, error) {
	cfg := h.cfg.Alerts
	if len(cfg.Webhooks)+len(cfg.Topics)+len(cfg.Heartbeats) == 0 && cfg.Push.Contact == "" {
		return nil, nil
	}
	folder, err := h.stateFolder()
	if err != nil {
		return nil, err
	}
	opts := alerts.Options{Folder: folder, Bus: h.bus, Contact: cfg.Push.Contact, PushToPrivate: cfg.Push.AllowPrivate, PushURL: dashboardURL(h.cfg, h.cfg.Listen),
		Timing: alerts.Timing{Repeat: time.Duration(cfg.Repeat)}, Entries: h.entriesOf, Now: h.now, Logger: h.log}
	for _, w := range cfg.Webhooks {
		secret, err := readSecret(w.SecretFile)
		if err != nil {
			return nil, err
		}
		opts.Webhooks = append(opts.Webhooks, alerts.Webhook{Name: w.Name, URL: w.URL, Secret: secret, AllowPrivate: w.AllowPrivate})
	}
	for _, t := range cfg.Topics {
		opts.Topics = append(opts.Topics, alerts.SNS{Name: t.Name, TopicARN: t.ARN, Region: t.Region, Endpoint: t.Endpoint})
	}
	for _, b := range cfg.Heartbeats {
		opts.Heartbeats = append(opts.Heartbeats, alerts.Heartbeat{Name: b.Name, URL: b.URL, Functions: b.Functions, AllowPrivate: b.AllowPrivate})
	}
	s, err := alerts.New(ctx, opts)
	if err != nil {
		return nil, usage("correct alerts: in tablekeeper.yaml; see docs/configuration.md", "%w", err)
	}
	return s, nil
}

// entriesOf are all entries of a run.
func (h *house) entriesOf(ctx context.Context, run string) ([]history.Entry, error) {
	full, err := h.history.Get(ctx, run)
	return full.Entries, err
}

func readSecret(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", usage("correct alerts.webhooks.secret_file", "read the secret of a webhook: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// openAlerts counts the alerts that last, for the metrics.
func (f *front) openAlerts() func() map[string]int {
	if f.alerts == nil {
		return nil
	}
	return func() map[string]int {
		counts := map[string]int{string(alerts.Warning): 0, string(alerts.Critical): 0}
		for _, a := range f.alerts.Open() {
			counts[string(a.Severity)]++
		}
		return counts
	}
}

// alertsView shows the alerts as the API has them.
type alertsView struct{ *alerts.Service }

// Open implements admin.Alerts.
func (v alertsView) Open() []admin.Alert {
	var all []admin.Alert
	for _, a := range v.Service.Open() {
		shown := admin.Alert{Key: a.Key, Severity: string(a.Severity), Since: a.Since, Told: a.Told, Times: a.Times, Hint: a.Hint, RunID: a.RunID, Count: len(a.Members), Members: []admin.AlertMember{}}
		for _, m := range a.Members {
			shown.Members = append(shown.Members, admin.AlertMember{Function: m.Function, Table: m.Table, Reason: m.Reason, Detail: m.Detail})
		}
		all = append(all, shown)
	}
	return all
}

// Channels implements admin.Alerts.
func (v alertsView) Channels() []admin.Channel {
	var all []admin.Channel
	for _, name := range v.Service.Channels() {
		all = append(all, admin.Channel{Name: name, Kind: v.Kind(name)})
	}
	return all
}

// Deliveries implements admin.Alerts.
func (v alertsView) Deliveries(ctx context.Context, before string, limit int) ([]admin.Delivery, error) {
	found, err := v.Service.Deliveries(ctx, before, limit)
	all := make([]admin.Delivery, len(found))
	for i, d := range found {
		all[i] = admin.Delivery{ID: d.ID, Channel: d.Channel, Status: string(d.Status), Attempts: d.Attempts, Created: d.Created, Next: d.Next, Ended: d.Ended, Error: d.Error, Body: d.Body}
	}
	return all, err
}

// Subscribe implements admin.Alerts.
func (v alertsView) Subscribe(ctx context.Context, s admin.PushSubscription) error {
	sub := alerts.Subscription{Endpoint: s.Endpoint}
	sub.Keys.P256dh, sub.Keys.Auth = s.Keys.P256dh, s.Keys.Auth
	if err := v.Service.Subscribe(ctx, sub); err != nil {
		return fmt.Errorf("subscribe this browser: %w", err)
	}
	return nil
}
