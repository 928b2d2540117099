package main

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/cmd/tablekeeper/settings"
	"tablekeeper/infra/admin"
	"tablekeeper/infra/admin/client"
)

func newNotify(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "notify",
		Short:   "Test that alerts reach somebody",
		Example: "  tablekeeper notify test",
		Args:    knownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newNotifyTest(p))
	return cmd
}

func newNotifyTest(p *program) *cobra.Command {
	var channel string
	cmd := &cobra.Command{
		Use:   "test",
		Short: "Send a test alert through each channel, and say which arrived",
		Long: `test sends a message through each channel under alerts: in tablekeeper.yaml and waits for the receiver's answer. A running service sends it,
else this command does. Heartbeats are not pinged: a ping would say that a backup went well. The exit status is 1 if a channel failed.`,
		Example: `  tablekeeper notify test
  tablekeeper notify test --channel ops --json`,
		Args: cobra.NoArgs, Annotations: goesElsewhere(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withNotifier(cmd.Context(), func(n notifier) error { return p.testChannels(cmd.Context(), n, channel) })
		},
	}
	cmd.Flags().StringVar(&channel, "channel", "", "only the channel of this `NAME`")
	return cmd
}

// notifier sends test messages: a service, here or elsewhere, or this process.
type notifier interface {
	Channels(ctx context.Context) ([]admin.Channel, error)
	TestChannel(ctx context.Context, channel string) error
}

func (p *program) withNotifier(ctx context.Context, use func(notifier) error) (err error) {
	there, err := p.server()
	switch {
	case err != nil:
		return err
	case there != nil:
		return use(there)
	}
	cfg, err := p.configure()
	if err != nil {
		return err
	}
	if cfg.State == "" {
		return usage("--state DIR, or --tables FOLDER", "it is not known where the alerts are kept")
	}
	s, err := findService(ctx, cfg.State)
	if err != nil {
		return err
	}
	if s != nil {
		return use(s)
	}
	h := &house{fleet: &fleet{cfg: cfg, log: p.logger(cfg, false)}, now: p.now}
	service, err := h.openAlerts(ctx)
	if err != nil || service == nil {
		return errors.Join(err, use(ownNotifier{}))
	}
	defer func() { err = errors.Join(err, service.Close()) }()
	return use(ownNotifier{&alertsView{service}})
}

// ownNotifier sends from this process. Without a view nothing is configured.
type ownNotifier struct{ view *alertsView }

// Channels implements notifier.
func (o ownNotifier) Channels(context.Context) ([]admin.Channel, error) {
	if o.view == nil {
		return nil, nil
	}
	return o.view.Channels(), nil
}

// TestChannel implements notifier.
func (o ownNotifier) TestChannel(ctx context.Context, channel string) error {
	return o.view.Test(ctx, channel)
}

// Channels implements notifier.
func (s *service) Channels(ctx context.Context) ([]admin.Channel, error) {
	var all []admin.Channel
	_, err := s.ask(ctx, http.MethodGet, "/alerts/channels", &all)
	return all, err
}

// TestChannel implements notifier.
func (s *service) TestChannel(ctx context.Context, channel string) error {
	var answer testAnswer
	if _, err := s.ask(ctx, http.MethodPost, "/alerts/channels/"+url.PathEscape(channel)+"/test", &answer); err != nil {
		return err
	}
	return answer.failure()
}

// testAnswer is what the socket says of a test message; Error is "" if it arrived.
type testAnswer struct {
	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`
}

func (a testAnswer) failure() error {
	if a.Error == "" {
		return nil
	}
	return fail(exitFailed, a.Hint, "%s", a.Error)
}

// testReport is how the test of a channel went.
type testReport struct {
	Channel   string `json:"channel"`
	Kind      string `json:"kind"`
	Delivered bool   `json:"delivered"`
	Error     string `json:"error,omitempty"`
	Hint      string `json:"hint,omitempty"`
}

func (p *program) testChannels(ctx context.Context, n notifier, only string) error {
	all, err := n.Channels(ctx)
	if err != nil {
		return err
	}
	if all, err = chooseChannels(all, only); err != nil {
		return err
	}
	code := exitDone
	for _, c := range all {
		report := testReport{Channel: c.Name, Kind: c.Kind, Delivered: true}
		if err := n.TestChannel(ctx, c.Name); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			report.Delivered, code = false, exitFailed
			report.Error, report.Hint = wordsOf(err)
		}
		if err := p.showTested(report); err != nil {
			return err
		}
	}
	return exitWith(code)
}

// wordsOf is what to show of a failed test; that a server elsewhere said it is no news.
func wordsOf(err error) (text, hint string) {
	_, hint = explain(err)
	var refusal *client.RefusalError
	if errors.As(err, &refusal) {
		return refusal.Detail, hint
	}
	return err.Error(), hint
}

func chooseChannels(all []admin.Channel, only string) ([]admin.Channel, error) {
	if len(all) == 0 {
		return nil, fail(exitNotFound, "set alerts: in tablekeeper.yaml; see docs/alerts.md", "no alert channel is configured: nobody would be told")
	}
	if only == "" {
		return all, nil
	}
	var names []string
	for _, c := range all {
		names = append(names, c.Name)
	}
	i := slices.Index(names, only)
	if i < 0 {
		hint := "there are " + strings.Join(names, ", ")
		if near := settings.Nearest(only, names); near != "" {
			hint = "did you mean " + near + "?"
		}
		return nil, fail(exitNotFound, hint, "no alert channel is named %q", only)
	}
	return all[i : i+1], nil
}

func (p *program) showTested(r testReport) error {
	switch {
	case p.json:
		return p.screen.Record(r)
	case !r.Delivered:
		p.screen.Warn("%s  %s (%s): %s", screen.Cell{Text: "✗ failed", Tone: screen.Bad}, r.Channel, r.Kind, r.Error)
		if r.Hint != "" {
			p.screen.Warn("Try: %s", r.Hint)
		}
	case !p.quiet:
		p.screen.Line("%s  %s (%s)", screen.Cell{Text: "✓ delivered", Tone: screen.Good}, r.Channel, r.Kind)
	}
	return nil
}

// channels answers with the alert channels, on the socket.
func (c *control) channels(w http.ResponseWriter, _ *http.Request) {
	all := []admin.Channel{}
	if c.alerts != nil {
		all = append(all, alertsView{c.alerts}.Channels()...)
	}
	answerJSON(w, http.StatusOK, all)
}

// testChannel sends a test message, on the socket.
func (c *control) testChannel(w http.ResponseWriter, r *http.Request) {
	if c.alerts == nil {
		answerJSON(w, http.StatusNotFound, testAnswer{Error: "no alerts are configured"})
		return
	}
	err := c.alerts.Test(r.Context(), r.PathValue("name"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		answerJSON(w, http.StatusNotFound, testAnswer{Error: err.Error()})
	case err != nil:
		answerJSON(w, http.StatusOK, testAnswer{err.Error(), hintIn(err)})
	default:
		answerJSON(w, http.StatusOK, testAnswer{})
	}
}
