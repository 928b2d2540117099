package provision

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/buckettest"
	"tablekeeper/storage/needtest"
)

var usual = Wanted{SupersededDays: 30, NoncurrentDays: 7, UploadDays: 2}

// on is a Provisioner for a bucket of a server.
func on(t *testing.T, s *buckettest.Server, name string, want Wanted, opts Options) *Provisioner {
	t.Helper()
	opts.Remote = s.Options()
	p, err := New(t.Context(), s.URL(t, "s3", name), want, opts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// look is how things are, a line for each part.
func look(t *testing.T, p *Provisioner) string {
	t.Helper()
	steps, err := p.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return lines(steps)
}

func lines(steps []Step) string {
	var all []string
	for _, s := range steps {
		all = append(all, string(s.Status)+" "+s.Part)
	}
	return strings.Join(all, "\n")
}

func apply(t *testing.T, p *Provisioner) string {
	t.Helper()
	var steps []Step
	if err := p.Apply(t.Context(), func(s Step) { steps = append(steps, s) }); err != nil {
		t.Error(err)
	}
	for _, s := range steps {
		if s.Status == Failed || s.Status == Cannot && s.Why == "" {
			t.Errorf("%+v", s)
		}
	}
	return lines(steps)
}

func same(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

const protectionLeft = `
cannot public access block
cannot ownership
cannot encryption
cannot policy`

func TestMinIO(t *testing.T) {
	server := buckettest.StartMinIO(t)
	t.Run("a new bucket", func(t *testing.T) { aNewBucket(t, server) })
	t.Run("drift", func(t *testing.T) { drift(t, server) })
	t.Run("rules of others", func(t *testing.T) { rulesOfOthers(t, server) })
	t.Run("two prefixes", func(t *testing.T) { twoPrefixes(t, server) })
	t.Run("refused", func(t *testing.T) { refused(t, server) })
	t.Run("retention", func(t *testing.T) { retention(t, server) })
}

func aNewBucket(t *testing.T, server *buckettest.Server) {
	p := on(t, server, "made-by-provision", usual, Options{})
	same(t, "before", look(t, p), `missing bucket
missing versioning
missing lifecycle superseded
missing lifecycle noncurrent
missing lifecycle incomplete-uploads
missing public access block
missing ownership
missing encryption
missing policy`)
	if _, err := p.s3.HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: p.name()}); err == nil {
		t.Error("looking made the bucket")
	}
	same(t, "apply", apply(t, p), `made bucket
made versioning
made lifecycle superseded
made lifecycle noncurrent
cannot lifecycle incomplete-uploads`+protectionLeft)
	settled := `right bucket
right versioning
right lifecycle superseded
right lifecycle noncurrent
cannot lifecycle incomplete-uploads` + protectionLeft
	same(t, "again", apply(t, on(t, server, "made-by-provision", usual, Options{})), settled)
	again := on(t, server, "made-by-provision", usual, Options{})
	same(t, "check", look(t, again), settled)
	if steps, _ := again.Look(t.Context()); Drifted(steps) != 0 {
		t.Errorf("what the server cannot do counts as drift: %+v", steps)
	}
}

func drift(t *testing.T, server *buckettest.Server) {
	p := on(t, server, server.NewBucket(t), usual, Options{})
	apply(t, p)
	longer := usual
	longer.SupersededDays = 90
	changed := on(t, server, p.loc.Bucket, longer, Options{})
	if got := look(t, changed); !strings.Contains(got, "differs lifecycle superseded") {
		t.Errorf("another retention is no drift: %s", got)
	}
	if got := apply(t, changed); !strings.Contains(got, "made lifecycle superseded") {
		t.Errorf("apply: %s", got)
	}
	if _, err := p.s3.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{Bucket: p.name(),
		VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusSuspended}}); err != nil {
		t.Fatal(err)
	}
	if got := look(t, changed); !strings.Contains(got, "differs versioning") {
		t.Errorf("suspended versioning is no drift: %s", got)
	}
	apply(t, changed)
	steps, err := changed.Look(t.Context())
	if err != nil || Drifted(steps) > 0 {
		t.Errorf("%+v, %v", steps, err)
	}
}

func rulesOfOthers(t *testing.T, server *buckettest.Server) {
	p := on(t, server, server.NewBucket(t)+"/shop", usual, Options{})
	rule := func(id string, filter *types.LifecycleRuleFilter, days int32) types.LifecycleRule {
		return types.LifecycleRule{ID: &id, Status: types.ExpirationStatusEnabled, Filter: filter, Expiration: &types.LifecycleExpiration{Days: &days}}
	}
	others := []types.LifecycleRule{
		rule("logs", under("logs/"), 3), rule("all", under(""), 365), rule("inside", under("shop/orders/"), 365), rule("hasty", tagged(""), 3),
	}
	_, err := p.s3.PutBucketLifecycleConfiguration(t.Context(), &s3.PutBucketLifecycleConfigurationInput{
		Bucket: p.name(), LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: others}})
	if err != nil {
		t.Fatal(err)
	}
	apply(t, p)
	got := look(t, p)
	same(t, "check", got, `right bucket
right versioning
right lifecycle superseded:shop
right lifecycle noncurrent:shop
cannot lifecycle incomplete-uploads:shop
danger lifecycle all
danger lifecycle inside
danger lifecycle hasty`+protectionLeft)
	out, err := p.s3.GetBucketLifecycleConfiguration(t.Context(), &s3.GetBucketLifecycleConfigurationInput{Bucket: p.name()})
	if err != nil || len(out.Rules) != len(others)+2 {
		t.Fatalf("%d rules, %v", len(out.Rules), err)
	}
	for i, other := range others {
		same(t, "rule of others", describe(out.Rules[i]), describe(other))
	}
	if steps, _ := p.Look(t.Context()); Drifted(steps) != 3 {
		t.Errorf("%d drifted, want the three dangers", Drifted(steps))
	}
}

// twoPrefixes share a bucket; and a rule for the whole bucket, which is the template's, will do for a prefix.
func twoPrefixes(t *testing.T, server *buckettest.Server) {
	name := server.NewBucket(t)
	one, other := on(t, server, name+"/one", usual, Options{}), on(t, server, name+"/other", usual, Options{})
	apply(t, one)
	apply(t, other)
	for _, p := range []*Provisioner{one, other} {
		if steps, err := p.Look(t.Context()); err != nil || Drifted(steps) > 0 {
			t.Errorf("%s: %+v, %v", p, steps, err)
		}
	}
	name = server.NewBucket(t)
	apply(t, on(t, server, name, usual, Options{}))
	if steps, err := on(t, server, name+"/backups", usual, Options{}).Look(t.Context()); err != nil || Drifted(steps) > 0 {
		t.Errorf("the template's own rules are drift: %+v, %v", steps, err)
	}
}

func refused(t *testing.T, server *buckettest.Server) {
	name := server.NewBucket(t)
	opts := server.Options()
	opts.Keys.Secret = "wrong"
	p, err := New(t.Context(), server.URL(t, "s3", name), usual, Options{Remote: opts})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Look(t.Context()); !errors.Is(err, bucket.ErrDenied) {
		t.Errorf("look with a wrong key: %v", err)
	}
	if err := p.Apply(t.Context(), func(Step) {}); !errors.Is(err, bucket.ErrDenied) {
		t.Errorf("apply with a wrong key: %v", err)
	}
	port, err := needtest.Port()
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(fmt.Sprintf("s3://nobody?endpoint=http://127.0.0.1:%d", port))
	if p, err = New(t.Context(), u, usual, Options{Remote: server.Options()}); err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(t.Context(), func(Step) {}); !errors.Is(err, bucket.ErrUnreachable) {
		t.Errorf("nobody there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Apply(ctx, func(Step) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestVersityGW(t *testing.T) {
	server := buckettest.StartVersityGW(t)
	p := on(t, server, "made-by-provision", usual, Options{})
	t.Log(apply(t, p))
	got := look(t, p)
	for _, want := range []string{"right bucket", "cannot versioning", "cannot lifecycle superseded", "cannot lifecycle noncurrent"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if steps, err := p.Look(t.Context()); err != nil || Drifted(steps) > 0 {
		t.Errorf("%+v, %v", steps, err)
	}
	steps, _ := p.Look(t.Context())
	if !strings.Contains(steps[2].Why, "sweep") {
		t.Errorf("%+v does not say who removes backups then", steps[2])
	}
}

func TestWanted(t *testing.T) {
	u, _ := url.Parse("s3://bucket")
	if _, err := New(t.Context(), u, Wanted{}, Options{}); err == nil {
		t.Error("no retention was taken for one")
	}
	p := &Provisioner{want: usual}
	p.loc.Prefix = strings.Repeat("long/", 100)
	l := &lifecycle{p: p}
	if id := aws.ToString(l.id(ruleSuperseded)); len(id) > maxID || id == aws.ToString(l.id(ruleNoncurrent)) {
		t.Errorf("id %s", id)
	}
}
