package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/cmd/tablekeeper/settings"
	"tablekeeper/infra/provision"
	"tablekeeper/jobs/template"
)

// uploadDays is for how long an unfinished upload is kept, as in the template.
const uploadDays = 2

type provisionFlags struct {
	check, dryRun, yes bool
	topic, endpoint    string
	subscribe          []string
}

func newProvision(p *program) *cobra.Command {
	var f provisionFlags
	cmd := &cobra.Command{
		Use:   "provision",
		Short: "Make the bucket what the template would: versions, retention, protection",
		Long: `provision makes the configured bucket, if it is missing, and sets what template.yaml sets on AWS: versioning, the lifecycle rule that lets
superseded backups expire after RetentionDays, rules for old versions and unfinished uploads; on AWS also the public access block, ownership, encryption and
the refusal of plain HTTP. With --topic it makes an SNS topic and its subscriptions: --subscribe, and the parameters AlertEmail and AlertEndpoint.

It shows a plan first. What is as it should be is left alone, so it can be run again at any time; what a server cannot do is named. Rules, policies and
subscriptions of others stay. --check changes nothing and ends with status 21 if something is not as it should be.`,
		Example: `  tablekeeper --bucket 's3://backups?endpoint=http://127.0.0.1:9000' provision
  tablekeeper provision --yes --topic backups --subscribe ops@example.com
  tablekeeper provision --check`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.provision(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.check, "check", false, "change nothing; status 21 if something is not as it should be")
	fl.BoolVarP(&f.dryRun, "dry-run", "n", false, "change nothing; only show the plan")
	fl.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	fl.StringVar(&f.topic, "topic", "", "`NAME` or ARN of an SNS topic")
	fl.StringArrayVar(&f.subscribe, "subscribe", nil, "`ADDRESS` that the topic tells: ops@example.com or https://...; may be given again")
	fl.StringVar(&f.endpoint, "sns-endpoint", "", "`URL` of SNS, if it is not AWS's")
	return cmd
}

func (p *program) provision(ctx context.Context, f provisionFlags) error {
	if f.yes && (f.check || f.dryRun) {
		return usage("leave one of them out", "--yes excludes --check and --dry-run")
	}
	target, err := p.provisioner(ctx, f)
	if err != nil || target == nil {
		return err
	}
	steps, err := target.Look(ctx)
	if err != nil {
		return err
	}
	pending := provision.Pending(steps)
	if f.check || f.dryRun || pending == 0 {
		return p.showDrift(target, steps, f.check)
	}
	if err := p.agree(steps, f); err != nil {
		return err
	}
	return p.carryOut(ctx, target)
}

// provisioner is nil for a folder, which has nothing to be set.
func (p *program) provisioner(ctx context.Context, f provisionFlags) (*provision.Provisioner, error) {
	cfg, err := p.configure()
	if err != nil {
		return nil, err
	}
	if err := needBucket(cfg); err != nil {
		return nil, err
	}
	t, err := readTemplate(cfg)
	if err != nil {
		return nil, err
	}
	want, err := wantedOf(t, f)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(cfg.Bucket)
	if err != nil {
		return nil, usage("--bucket s3://bucket/prefix?endpoint=https://host", "bucket %q: %w", cfg.Bucket, err)
	}
	if u.Scheme == "file" {
		return nil, p.showFolder(cfg, f)
	}
	target, err := provision.New(ctx, withKeyFiles(cfg, u), want, provision.Options{SNSEndpoint: f.endpoint})
	if err != nil {
		return nil, usage("see docs/configuration.md, Where backups go", "%w", err)
	}
	return target, nil
}

func (p *program) showFolder(cfg settings.Config, f provisionFlags) error {
	if f.topic != "" {
		return usage("give a bucket at an S3 store", "a topic is made with the keys of the bucket, and %s is a folder", addressOf(cfg.Bucket))
	}
	if p.json {
		return p.screen.Document(provisionReport{Bucket: addressOf(cfg.Bucket), Steps: []provision.Step{}})
	}
	p.screen.Line("%s is a folder: it needs nothing. sweep removes superseded backups from it.", addressOf(cfg.Bucket))
	return nil
}

// wantedOf is what the template's parameters say. A template of the user's own need not have those but for RetentionDays.
func wantedOf(t *template.Template, f provisionFlags) (provision.Wanted, error) {
	w := provision.Wanted{UploadDays: uploadDays, Topic: f.topic}
	for name, to := range map[string]*int{"RetentionDays": &w.SupersededDays, "NoncurrentDays": &w.NoncurrentDays} {
		if _, ok := t.Parameter(name); !ok && name != "RetentionDays" {
			continue
		}
		n, err := t.Number(name)
		if err != nil {
			return w, usage("", "%w", err)
		}
		if n < 1 || n > math.MaxInt16 {
			return w, usage("give it 1 or more", "parameter %s: %g days", name, n)
		}
		*to = int(math.Ceil(n))
	}
	addresses := f.subscribe
	for _, name := range []string{"AlertEmail", "AlertEndpoint"} {
		if parameter, ok := t.Parameter(name); ok && parameter.Value != "" {
			addresses = append(addresses, parameter.Value)
		}
	}
	for _, address := range addresses {
		s, err := subscriptionOf(address)
		if err != nil {
			return w, err
		}
		w.Subscriptions = append(w.Subscriptions, s)
	}
	if w.Topic == "" && len(f.subscribe) > 0 {
		return w, usage("--topic NAME", "--subscribe needs a topic")
	}
	return w, nil
}

func subscriptionOf(address string) (provision.Subscription, error) {
	scheme, _, isURL := strings.Cut(address, "://")
	switch {
	case isURL && (scheme == "https" || scheme == "http"):
		return provision.Subscription{Protocol: scheme, Endpoint: address}, nil
	case strings.HasPrefix(address, "arn:aws") && strings.Contains(address, ":sqs:"):
		return provision.Subscription{Protocol: "sqs", Endpoint: address}, nil
	case !isURL && strings.Contains(address, "@"):
		return provision.Subscription{Protocol: "email", Endpoint: strings.TrimPrefix(address, "mailto:")}, nil
	}
	return provision.Subscription{}, usage("give ops@example.com, https://... or the ARN of a queue", "%q is no address that a topic can tell", address)
}

// provisionReport is how things are, as --json shows it.
type provisionReport struct {
	Bucket string           `json:"bucket"`
	Drift  int              `json:"drift"`
	Steps  []provision.Step `json:"steps"`
}

// showDrift shows how things are; as a check, with an exit status that says so.
func (p *program) showDrift(target *provision.Provisioner, steps []provision.Step, check bool) error {
	drift := provision.Drifted(steps)
	code := exitDone
	if check && drift > 0 {
		code = exitUnhealthy
	}
	if p.json {
		if err := p.screen.Document(provisionReport{target.String(), drift, steps}); err != nil {
			return err
		}
		return exitWith(code)
	}
	p.showSteps(steps)
	if drift == 0 && !p.quiet {
		p.screen.Line("%s is as it should be, as far as its server can.", target)
	}
	if drift > 0 {
		p.screen.Line("%s: not as it should be.", screen.Count(drift, "setting"))
	}
	return exitWith(code)
}

func (p *program) showSteps(steps []provision.Step) {
	for _, s := range steps {
		p.showStep(s)
	}
}

func (p *program) showStep(s provision.Step) {
	if p.quiet && !s.Drift() {
		return
	}
	symbol := map[provision.Status]screen.Cell{
		provision.Right: {Text: "✓ right", Tone: screen.Good}, provision.Made: {Text: "✓ made", Tone: screen.Good},
		provision.Missing: {Text: "+ missing", Tone: screen.Careful}, provision.Differs: {Text: "! differs", Tone: screen.Careful},
		provision.Cannot: {Text: "– cannot", Tone: screen.Dim}, provision.Danger: {Text: "✗ danger", Tone: screen.Bad},
		provision.Failed: {Text: "✗ failed", Tone: screen.Bad},
	}[s.Status]
	value := s.Want
	switch s.Status {
	case provision.Right, provision.Made, provision.Danger:
		value = s.Now
	case provision.Differs:
		value = s.Now + ", but should be " + s.Want
	case provision.Missing, provision.Cannot, provision.Failed:
	}
	p.screen.Line("%s  %s: %s", symbol, s.Part, value)
	if s.Why != "" {
		p.screen.Line("   %s", s.Why)
	}
}

// agree shows the plan, and asks.
func (p *program) agree(steps []provision.Step, f provisionFlags) error {
	if !p.json {
		p.showSteps(steps)
	}
	if f.yes {
		return nil
	}
	n := screen.Count(provision.Pending(steps), "setting")
	if !p.screen.Interactive {
		return fail(exitUnsure, "--yes, if that is what you want", "setting %s needs to be confirmed; nothing was changed", n)
	}
	fmt.Fprintf(p.stderr, "Set %s? Type yes to go on: ", n)
	answer, _ := bufio.NewReader(p.stdin).ReadString('\n')
	if strings.TrimSpace(answer) != "yes" {
		return fail(exitUnsure, "type yes, or use --yes", "not confirmed; nothing was changed")
	}
	return nil
}

// carryOut sets what is not as wanted. As JSON the whole outcome is one document, also after a failure.
func (p *program) carryOut(ctx context.Context, target *provision.Provisioner) error {
	report := provisionReport{Bucket: target.String(), Steps: []provision.Step{}}
	if !p.json {
		p.screen.Note("Setting:")
	}
	err := target.Apply(ctx, func(s provision.Step) {
		report.Steps = append(report.Steps, s)
		if !p.json && s.Status != provision.Right {
			p.showStep(s)
		}
	})
	report.Drift = provision.Drifted(report.Steps)
	if p.json {
		err = errors.Join(err, p.screen.Document(report))
	}
	if err != nil {
		return err
	}
	if report.Drift > 0 {
		return exitWith(exitUnhealthy)
	}
	if !p.json && !p.quiet {
		p.screen.Line("%s is as it should be, as far as its server can.", target)
	}
	return nil
}
