package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tablekeeper/cmd/tablekeeper/settings"
	"tablekeeper/functions"
	"tablekeeper/functions/restore"
	"tablekeeper/infra/admin"
	"tablekeeper/infra/admin/web"
	"tablekeeper/infra/metrics"
	"tablekeeper/jobs/schedule"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/shelf/health"
)

// front is what the service shows to the network: dashboard, admin API, the stores' API, metrics; and the alerts that go out.
type front struct {
	*control
	keys    *admin.Keys
	api     *admin.Server
	metrics *metrics.Metrics
	scrapes *http.Server // for metrics alone; nil: they are on the API's listener

	stop    context.CancelFunc
	running sync.WaitGroup
}

// openFront listens, and begins to serve. Close it.
func (p *program) openFront(ctx context.Context, c *control) (f *front, err error) {
	f = &front{control: c}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	f.stop = stop
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(ctx))
		}
	}()
	if f.alerts, err = c.house.openAlerts(ctx); err != nil {
		return f, err
	}
	if f.alerts != nil {
		f.running.Go(func() {
			if err := f.alerts.Run(background); err != nil {
				c.house.log.Error("the outbox of alerts was not closed", "error", err)
			}
		})
	}
	fleet := health.NewWatch(c.house.shelf, c.house.now)
	f.metrics = metrics.New(metrics.Source{Fleet: fleet, Active: c.house.runner.Active, Alerts: f.openAlerts(), Entries: c.house.entriesOf},
		metrics.Options{Version: toolVersion(), Now: c.house.now, Logger: c.house.log})
	f.running.Go(func() { f.metrics.Run(background, c.house.bus) })
	if err := f.listenMetrics(ctx); err != nil {
		return f, err
	}
	if settings.NoListen(c.house.cfg.Listen) {
		return f, nil
	}
	return f, p.openAPI(ctx, f, fleet)
}

// openAPI listens for people and programs.
func (p *program) openAPI(ctx context.Context, f *front, fleet *health.Watch) (err error) {
	cfg, log := f.house.cfg, f.house.log
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen)
	if err != nil && cfg.Origin("listen") == "default" {
		// Backups matter more than a page at an address that nobody chose.
		log.Warn("the dashboard is not served: its address is taken", "error", err, "hint", "listen: HOST:PORT in tablekeeper.yaml, or listen: off")
		return nil
	}
	if err != nil {
		return fail(exitTemporary, "give another address: listen: HOST:PORT", "listen: %w", err)
	}
	opened := false
	defer func() {
		if !opened {
			err = errors.Join(err, l.Close())
		}
	}()
	if f.keys, err = admin.OpenKeys(ctx, cfg.State, f.house.now); err != nil {
		return err
	}
	if cfg.TLS.CertificateFile != "" {
		if l, err = withTLS(l, cfg.TLS); err != nil {
			return err
		}
	} else if !settings.Loopback(cfg.Listen) {
		log.Warn("tokens and data cross the network readable for everybody on it", "hint", "set tls:, or put a proxy with HTTPS before it and listen on loopback")
	}
	opts := f.apiOptions()
	if opts.Lambda, err = f.house.lambdaOnNetwork(); err != nil {
		return err
	}
	f.api, err = admin.New(admin.House{
		Runner: f.house.runner, History: f.house.history, Bus: f.house.bus, Schedules: f.service, Shelf: f.house.shelf, Fleet: fleet, Keys: f.keys,
	}, opts)
	if err != nil {
		return err
	}
	if err := p.firstToken(ctx, f, l.Addr().String()); err != nil {
		return err
	}
	opened = true
	f.running.Go(func() {
		if err := f.api.Serve(l); err != nil {
			log.Error("the dashboard is not served any more", "error", err)
		}
	})
	log.Info("dashboard", "address", dashboardURL(cfg, l.Addr().String()))
	return nil
}

// firstToken makes a token at the first start, and shows it as a link, once. On an address that others reach there must be one before.
func (p *program) firstToken(ctx context.Context, f *front, address string) error {
	tokens, err := f.keys.Tokens(ctx)
	if err != nil || len(tokens) > 0 {
		return err
	}
	if !settings.Loopback(f.house.cfg.Listen) {
		return usage("tablekeeper token add --role operator, then start again", "%s is reached by others, and nobody has a token yet", f.house.cfg.Listen)
	}
	secret, err := f.keys.AddToken(ctx, string(admin.Operator), admin.Operator)
	if err != nil {
		return err
	}
	link := signInLink(f.house.cfg, address, secret)
	if p.json {
		return p.screen.Record(map[string]string{"token": secret, "role": string(admin.Operator), "link": link})
	}
	p.screen.Line("Dashboard: %s", link)
	p.screen.Line("This link is shown once. For another: tablekeeper token add --role operator")
	return nil
}

func withTLS(l net.Listener, files settings.TLS) (net.Listener, error) {
	pair, err := tls.LoadX509KeyPair(files.CertificateFile, files.KeyFile)
	if err != nil {
		return l, usage("correct tls: in tablekeeper.yaml", "read the certificate: %w", err)
	}
	return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}), nil
}

func (f *front) apiOptions() admin.Options {
	cfg := f.house.cfg
	opts := admin.Options{
		Backups: f.house.first.Catalogue, Planner: f.house.planner(), Covers: f.house.covers, Refresh: f.house.refresh, Assets: web.Assets(),
		Secure: cfg.TLS.CertificateFile != "" || strings.HasPrefix(cfg.PublicURL, "https:"), Version: toolVersion(), Now: f.house.now, Logger: f.house.log,
	}
	if f.scrapes == nil {
		opts.Metrics = f.metrics.Handler()
	}
	if f.alerts != nil {
		opts.Alerts = alertsView{f.alerts}
	}
	if f.stores.Mailbox != nil {
		opts.Routes = []func(huma.API){routes(f.stores)}
	}
	if host, _, err := net.SplitHostPort(cfg.Listen); err == nil {
		opts.Hosts = append(opts.Hosts, strings.ToLower(host))
	}
	if u, err := url.Parse(cfg.PublicURL); err == nil && u.Host != "" {
		opts.Hosts = append(opts.Hosts, strings.ToLower(u.Hostname()))
	}
	return opts
}

// listenMetrics serves metrics where nobody is asked for a token, if an address for that is configured.
func (f *front) listenMetrics(ctx context.Context) error {
	address := f.house.cfg.MetricsListen
	if address == "" {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fail(exitTemporary, "give another address: metrics_listen: HOST:PORT", "listen for metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", f.metrics.Handler())
	f.scrapes = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	f.running.Go(func() {
		if err := f.scrapes.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			f.house.log.Error("metrics are not served any more", "error", err)
		}
	})
	return nil
}

// Close stops serving. It may be called on a front that is half open.
func (f *front) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
	defer cancel()
	var errs []error
	if f.api != nil {
		errs = append(errs, f.api.Shutdown(ctx))
	}
	if f.scrapes != nil {
		errs = append(errs, f.scrapes.Shutdown(ctx))
	}
	f.stop()
	f.running.Wait()
	if f.keys != nil {
		errs = append(errs, f.keys.Close())
	}
	return errors.Join(errs...)
}

// covers tells whether a job is about a table: some jobs are for those with a schedule of their own, the others for the rest.
func (h *house) covers(job schedule.Job, t shelf.Table) bool {
	_, expression, chosen := takeSchedule(job.Event)
	return !chosen || t.Settings.Schedules[job.Function] == expression
}

// planner plans restores as restorer does them.
func (h *house) planner() admin.Planner {
	from := func(s *store) *restore.Function {
		return restore.New(restore.Config{Shelf: h.shelf, Catalogue: s.Catalogue, Bucket: s.Address, Held: h.locks.of, Now: h.now})
	}
	if h.second == nil {
		return from(h.first)
	}
	return planners{from(h.first), from(h.second)}
}

// planners plan with the second bucket where the first has no good backup.
type planners struct{ first, second *restore.Function }

// Plan implements admin.Planner.
func (p planners) Plan(ctx context.Context, e restore.Event) (restore.Plan, error) {
	plan, err := p.first.Plan(ctx, e)
	if reason := functions.ReasonOf(err); err == nil || (reason != "no_backup" && reason != "no_good_backup") {
		return plan, err
	}
	again, secondErr := p.second.Plan(ctx, e)
	if secondErr != nil {
		return plan, errors.Join(err, fmt.Errorf("second bucket: %w", secondErr))
	}
	return again, nil
}
