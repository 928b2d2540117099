package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"tablekeeper/storage/bucket"
)

// The ids of our rules, as in the template, which has them for the whole of its bucket. Where we have a prefix of a bucket the id ends in it.
const (
	ruleSuperseded = "superseded"
	ruleNoncurrent = "noncurrent"
	ruleUploads    = "incomplete-uploads"
)

// lifecycle is the bucket's lifecycle configuration. S3 replaces it as a whole, so it is read, our rules are put into it, and it is
// written; there is no way to exclude somebody who does the same at that moment.
type lifecycle struct {
	p       *Provisioner
	refused map[string]string // rules that the server does not take, and what that means
}

const (
	cannotRules   = "it has no lifecycle rules: tablekeeper sweep removes superseded backups instead"
	cannotUploads = "it takes no such rule; MinIO gives up unfinished uploads by itself, after 24 hours"
)

// ours are the rules that are wanted.
func (l *lifecycle) ours() []types.LifecycleRule {
	w := l.p.want
	prefix := l.prefix()
	rules := []types.LifecycleRule{{ID: l.id(ruleSuperseded), Status: types.ExpirationStatusEnabled, Filter: tagged(prefix),
		Expiration: &types.LifecycleExpiration{Days: days(w.SupersededDays)}}}
	if w.NoncurrentDays > 0 {
		rules = append(rules, types.LifecycleRule{ID: l.id(ruleNoncurrent), Status: types.ExpirationStatusEnabled, Filter: under(prefix),
			NoncurrentVersionExpiration: &types.NoncurrentVersionExpiration{NoncurrentDays: days(w.NoncurrentDays)}})
	}
	if w.UploadDays > 0 {
		rules = append(rules, types.LifecycleRule{ID: l.id(ruleUploads), Status: types.ExpirationStatusEnabled, Filter: under(prefix),
			AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: days(w.UploadDays)}})
	}
	return rules
}

// maxID is how long S3 lets the id of a rule be, in bytes.
const maxID = 255

func (l *lifecycle) id(base string) *string {
	id := base
	if l.p.loc.Prefix != "" {
		id += ":" + l.p.loc.Prefix
	}
	if len(id) > maxID {
		sum := sha256.Sum256([]byte(id))
		id = base + ":" + hex.EncodeToString(sum[:])
	}
	return &id
}

func days(n int) *int32 { return aws.Int32(int32(n)) }

// prefix keeps our rules to our part of a bucket that others may use too. In the template the bucket is ours alone.
func (l *lifecycle) prefix() string {
	if l.p.loc.Prefix == "" {
		return ""
	}
	return l.p.loc.Prefix + "/"
}

func under(prefix string) *types.LifecycleRuleFilter {
	return &types.LifecycleRuleFilter{Prefix: aws.String(prefix)}
}

func tagged(prefix string) *types.LifecycleRuleFilter {
	tag := types.Tag{Key: aws.String(bucket.SupersededTag), Value: aws.String(bucket.SupersededValue)}
	if prefix == "" {
		return &types.LifecycleRuleFilter{Tag: &tag}
	}
	return &types.LifecycleRuleFilter{And: &types.LifecycleRuleAndOperator{Prefix: aws.String(prefix), Tags: []types.Tag{tag}}}
}

func (l *lifecycle) wanted() []Step {
	var steps []Step
	for _, r := range l.ours() {
		steps = append(steps, Step{Part: partOf(r), Status: Missing, Want: describe(r)})
	}
	return steps
}

func partOf(r types.LifecycleRule) string { return "lifecycle " + aws.ToString(r.ID) }

// read is the configuration as it is; nil rules if there is none.
func (l *lifecycle) read(ctx context.Context) (*s3.GetBucketLifecycleConfigurationOutput, error) {
	out, err := l.p.s3.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: l.p.name()})
	if err != nil {
		return &s3.GetBucketLifecycleConfigurationOutput{}, absent(err, "NoSuchLifecycleConfiguration")
	}
	return out, nil
}

func (l *lifecycle) look(ctx context.Context) ([]Step, error) {
	steps := l.wanted()
	out, err := l.read(ctx)
	if unsupported(err) {
		for i := range steps {
			steps[i].Status, steps[i].Why = Cannot, cannotRules
		}
		return steps, nil
	}
	if err != nil {
		return nil, wrap(ctx, "look at the lifecycle rules of "+l.p.String(), err)
	}
	if strings.HasPrefix(l.p.server, "MinIO") {
		l.refused[*l.id(ruleUploads)] = cannotUploads
	}
	for i, want := range l.ours() {
		l.judge(&steps[i], want, out.Rules)
	}
	return append(steps, l.dangers(out.Rules)...), nil
}

// judge looks for a rule that does what is wanted, whatever its id: one that the template made for the whole bucket will do.
func (l *lifecycle) judge(step *Step, want types.LifecycleRule, rules []types.LifecycleRule) {
	for _, r := range rules {
		if l.covers(r, want) && effect(r) == effect(want) {
			step.Status, step.Now = Right, describe(r)
			return
		}
	}
	at := slices.IndexFunc(rules, func(r types.LifecycleRule) bool { return aws.ToString(r.ID) == aws.ToString(want.ID) })
	switch why, refused := l.refused[aws.ToString(want.ID)]; {
	case at >= 0:
		step.Status, step.Now = Differs, describe(rules[at])
	case refused:
		step.Status, step.Why = Cannot, why
	}
}

// covers tells whether a rule selects all that another does, by the same tags.
func (l *lifecycle) covers(r, want types.LifecycleRule) bool {
	prefix, tags, sizes := filterOf(r)
	_, wanted, _ := filterOf(want)
	return strings.HasPrefix(l.prefix(), prefix) && slices.Equal(tags, wanted) && !sizes
}

// dangers are rules of others that can remove a backup too early, or one that nothing newer stands for.
func (l *lifecycle) dangers(rules []types.LifecycleRule) []Step {
	var steps []Step
	for _, r := range rules {
		if aws.ToString(r.ID) == *l.id(ruleSuperseded) {
			continue
		}
		if why := l.danger(r); why != "" {
			steps = append(steps, Step{Part: partOf(r), Status: Danger, Now: describe(r), Why: why})
		}
	}
	return steps
}

func (l *lifecycle) danger(r types.LifecycleRule) string {
	e := r.Expiration
	prefix, tags, _ := filterOf(r)
	reaches := strings.HasPrefix(prefix, l.prefix()) || strings.HasPrefix(l.prefix(), prefix)
	if e == nil || r.Status != types.ExpirationStatusEnabled || !reaches || e.Date == nil && aws.ToInt32(e.Days) == 0 {
		return ""
	}
	const mark = bucket.SupersededTag + "=" + bucket.SupersededValue
	switch {
	case !slices.Contains(tags, mark):
		return "it removes backups by their age alone, the last good one of a table too: take it away, or give it the filter " + mark
	case e.Date != nil || int(aws.ToInt32(e.Days)) < l.p.want.SupersededDays:
		return "it removes superseded backups earlier than is wanted"
	}
	return ""
}

func (l *lifecycle) set(ctx context.Context) error {
	doing := "set the lifecycle rules of " + l.p.String()
	out, err := l.read(ctx)
	if err != nil {
		return wrap(ctx, doing, err)
	}
	err = l.write(ctx, out, l.ours())
	if status := statusOf(err); l.p.want.UploadDays > 0 && (status == http.StatusBadRequest || status == http.StatusNotImplemented) {
		// Some servers take all but this rule.
		l.refused[*l.id(ruleUploads)] = "it takes no such rule: " + err.Error()
		err = l.write(ctx, out, l.ours())
	}
	return wrap(ctx, doing, err)
}

// write puts the rules in the place of their namesakes, among those of others.
func (l *lifecycle) write(ctx context.Context, now *s3.GetBucketLifecycleConfigurationOutput, ours []types.LifecycleRule) error {
	var rules []types.LifecycleRule
	mine := func(r types.LifecycleRule) bool {
		return slices.ContainsFunc(ours, func(o types.LifecycleRule) bool { return aws.ToString(o.ID) == aws.ToString(r.ID) })
	}
	for _, r := range now.Rules {
		if !mine(r) {
			rules = append(rules, r)
		}
	}
	for _, r := range ours {
		if _, refused := l.refused[aws.ToString(r.ID)]; !refused {
			rules = append(rules, r)
		}
	}
	_, err := l.p.s3.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{Bucket: l.p.name(),
		LifecycleConfiguration:             &types.BucketLifecycleConfiguration{Rules: rules},
		TransitionDefaultMinimumObjectSize: now.TransitionDefaultMinimumObjectSize})
	return err
}

// filterOf is what a rule selects by; more tells of conditions on the size.
func filterOf(r types.LifecycleRule) (prefix string, tags []string, more bool) {
	prefix = aws.ToString(r.Prefix) //nolint:staticcheck // deprecated, but rules that others made may have it
	f := r.Filter
	if f == nil {
		return prefix, nil, false
	}
	all := []types.Tag{}
	prefix += aws.ToString(f.Prefix)
	if f.Tag != nil {
		all = append(all, *f.Tag)
	}
	more = f.ObjectSizeGreaterThan != nil || f.ObjectSizeLessThan != nil
	if f.And != nil {
		prefix += aws.ToString(f.And.Prefix)
		all = append(all, f.And.Tags...)
		more = more || f.And.ObjectSizeGreaterThan != nil || f.And.ObjectSizeLessThan != nil
	}
	for _, t := range all {
		tags = append(tags, aws.ToString(t.Key)+"="+aws.ToString(t.Value))
	}
	slices.Sort(tags)
	return prefix, tags, more
}

// describe is all that a rule does, in words.
func describe(r types.LifecycleRule) string {
	prefix, tags, more := filterOf(r)
	what := "everything"
	if prefix != "" {
		what += " under " + prefix
	}
	if len(tags) > 0 {
		what += " tagged " + strings.Join(tags, ", ")
	}
	if more {
		what += " of certain sizes"
	}
	return what + ": " + effect(r)
}

// effect is what a rule does with what it selects: rules with the same words do the same.
func effect(r types.LifecycleRule) string {
	var does []string
	if e := r.Expiration; e != nil {
		does = append(does, expiry(e)...)
	}
	if n := r.NoncurrentVersionExpiration; n != nil {
		text := fmt.Sprintf("old versions go after %s", count(n.NoncurrentDays))
		if keep := aws.ToInt32(n.NewerNoncurrentVersions); keep > 0 {
			text += fmt.Sprintf(", all but %d", keep)
		}
		does = append(does, text)
	}
	if a := r.AbortIncompleteMultipartUpload; a != nil {
		does = append(does, "unfinished uploads go after "+count(a.DaysAfterInitiation))
	}
	if len(r.Transitions)+len(r.NoncurrentVersionTransitions) > 0 {
		does = append(does, "changes its storage class")
	}
	if r.Status != types.ExpirationStatusEnabled {
		does = append(does, "switched off")
	}
	return strings.Join(does, "; ")
}

func expiry(e *types.LifecycleExpiration) []string {
	var does []string
	if n := aws.ToInt32(e.Days); n > 0 {
		does = append(does, "goes after "+count(e.Days))
	}
	if e.Date != nil {
		does = append(does, "goes on "+e.Date.UTC().Format(time.DateOnly))
	}
	if aws.ToBool(e.ExpiredObjectDeleteMarker) {
		does = append(does, "lone delete markers go")
	}
	return does
}

func count(n *int32) string {
	if aws.ToInt32(n) == 1 {
		return "1 day"
	}
	return fmt.Sprintf("%d days", aws.ToInt32(n))
}
