// Package provision makes a bucket, and a topic if one is wanted, what template.yaml would make of them on AWS: versioning, the lifecycle rule
// that expires superseded backups, rules for noncurrent versions and unfinished uploads, protection from the public, subscriptions.
//
// Look says how things are and changes nothing; Apply sets what is not as wanted, looks again, and is idempotent. What a server cannot
// do is named (Cannot) and no error. What others configured is left as it is: rules, policies and subscriptions are added to theirs, nothing is ever
// removed. Where values come from, asking the user and exit statuses are left to cmd/.
package provision

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/remote"
)

// Wanted is how things should be.
type Wanted struct {
	SupersededDays int    // after which a superseded backup expires; required
	NoncurrentDays int    // after which an overwritten or deleted version goes for good; 0: no such rule
	UploadDays     int    // after which an unfinished upload is given up; 0: no such rule
	Topic          string // name or ARN of the topic; "": none
	Subscriptions  []Subscription
}

// Subscription is who is told by the topic: by email, https, http, sqs, ...
type Subscription struct {
	Protocol string
	Endpoint string
}

// Status is how one thing is.
type Status string

// The statuses.
const (
	Right   Status = "right"   // as wanted
	Missing Status = "missing" // not there at all
	Differs Status = "differs" // there, and not as wanted
	Cannot  Status = "cannot"  // this server does not do it; Why says what that means
	Danger  Status = "danger"  // not ours to change, and it can remove backups that are needed
	Made    Status = "made"    // by this Apply
	Failed  Status = "failed"  // Apply could not; Why says why
)

// Step is one thing that is wanted.
type Step struct {
	Part   string `json:"part"` // such as "versioning" or "lifecycle superseded"
	Status Status `json:"status"`
	Now    string `json:"now,omitempty"`
	Want   string `json:"want,omitempty"`
	Why    string `json:"why,omitempty"`
	// Try says that only trying tells whether the server can: Apply tries.
	Try bool `json:"-"`
}

// Open reports whether it is not as wanted, and Apply would change it.
func (s Step) Open() bool { return s.Status == Missing || s.Status == Differs }

// Pending counts the steps that Apply would set, or try to.
func Pending(steps []Step) int {
	n := 0
	for _, s := range steps {
		if s.Open() || s.Try {
			n++
		}
	}
	return n
}

// Drift reports whether it is not as it should be. What a server cannot do is no drift.
func (s Step) Drift() bool { return s.Open() || s.Status == Danger || s.Status == Failed }

// Drifted counts the steps that are not as they should be.
func Drifted(steps []Step) int {
	n := 0
	for _, s := range steps {
		if s.Drift() {
			n++
		}
	}
	return n
}

// Options are what the bucket's URL does not say.
type Options struct {
	Remote remote.Options
	// SNSEndpoint is where the topic is; default AWS.
	SNSEndpoint string
	// AWS says that the store is to be taken for AWS; it is anyway if its address is AWS's.
	AWS bool
}

// Provisioner looks at one bucket and topic, and sets them up.
type Provisioner struct {
	loc    remote.Location
	s3     *s3.Client
	sns    *sns.Client
	want   Wanted
	aws    bool
	server string // what the store calls itself, once it has answered
	parts  []part // in the order in which they are made; the bucket is the first
}

// part is something that is looked at and set as one.
type part interface {
	wanted() []Step // as if nothing were there
	look(ctx context.Context) ([]Step, error)
	set(ctx context.Context) error
}

// New makes a Provisioner for a bucket's URL (s3:// or aws://, see remote.Location). Nothing is sent yet.
func New(ctx context.Context, u *url.URL, want Wanted, opts Options) (*Provisioner, error) {
	if want.SupersededDays < 1 {
		return nil, errors.New("superseded backups must be kept for at least a day")
	}
	p := &Provisioner{want: want}
	if err := p.connect(ctx, u, opts); err != nil {
		return nil, err
	}
	p.aws = opts.AWS || isAWS(p.loc)
	p.parts = append([]part{p.bucket(), p.versioning(), &lifecycle{p: p, refused: map[string]string{}}}, p.protection()...)
	if want.Topic != "" {
		p.parts = append(p.parts, &topic{p: p})
	}
	return p, nil
}

// String is the bucket's address.
func (p *Provisioner) String() string { return p.loc.String() }

// Look says how things are.
func (p *Provisioner) Look(ctx context.Context) ([]Step, error) {
	var all []Step
	missing := false
	for i, part := range p.parts {
		if _, isTopic := part.(*topic); missing && !isTopic {
			all = append(all, part.wanted()...)
			continue
		}
		steps, err := part.look(ctx)
		if err != nil {
			return all, err
		}
		missing = missing || i == 0 && steps[0].Status == Missing
		all = append(all, steps...)
	}
	return all, nil
}

// Apply makes what is not as wanted, and says how each thing is then. It ends at what the server cannot be asked, and goes on after what the
// server refuses: then the step has Failed, and the error says so too.
func (p *Provisioner) Apply(ctx context.Context, told func(Step)) error {
	failed := 0
	for _, part := range p.parts {
		steps, err := p.settle(ctx, part)
		for _, s := range steps {
			told(s)
			if s.Status == Failed {
				failed++
			}
		}
		if err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("provision %s: %d of the steps failed", p, failed)
	}
	return nil
}

// settle makes one part right.
func (p *Provisioner) settle(ctx context.Context, part part) ([]Step, error) {
	before, err := part.look(ctx)
	if err != nil || Pending(before) == 0 {
		return before, err
	}
	if err := part.set(ctx); err != nil {
		if errors.Is(err, bucket.ErrUnreachable) || ctx.Err() != nil {
			return nil, err
		}
		return marked(before, err), nil
	}
	after, err := part.look(ctx)
	if err != nil {
		return nil, err
	}
	return compare(before, after), nil
}

// marked says of the open steps why they stay open.
func marked(steps []Step, err error) []Step {
	for i, s := range steps {
		switch {
		case s.Try && unsupported(err):
		case s.Open() || s.Try:
			steps[i].Status, steps[i].Why = Failed, err.Error()
			if unsupported(err) {
				steps[i].Status = Cannot
			}
		}
	}
	return steps
}

// compare marks what has been made, and what the server took without keeping it.
func compare(before, after []Step) []Step {
	open := map[string]bool{}
	for _, s := range before {
		open[s.Part] = s.Open() || s.Try
	}
	for i, s := range after {
		switch {
		case s.Open():
			after[i].Status, after[i].Why = Failed, "the server took it, but it is not so"
		case s.Status == Right && open[s.Part]:
			after[i].Status = Made
		}
	}
	return after
}
