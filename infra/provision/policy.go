package provision

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
)

var noMetadata middleware.Metadata

// policySid names our statement of the bucket's policy, as the template does.
const policySid = "RefusePlainHTTP"

// transport is a statement of the bucket's policy that refuses what is not sent over TLS. The other statements stay.
func (p *Provisioner) transport() part {
	return &setting{p: p, name: "policy", want: "plain HTTP refused", byAWS: true,
		cannot: "left to this server: reach it by https",
		read: func(ctx context.Context) (string, bool, error) {
			statements, _, err := p.policy(ctx)
			if err != nil || len(statements) == 0 {
				return "", false, err
			}
			for _, s := range statements {
				if sameJSON(s, p.statement()) {
					return "plain HTTP refused", true, nil
				}
			}
			return fmt.Sprintf("%d other statements", len(statements)), false, nil
		},
		write: func(ctx context.Context) error {
			statements, document, err := p.policy(ctx)
			if err != nil {
				return err
			}
			statements = append(withoutSid(statements, policySid), p.statement())
			if document["Statement"], err = json.Marshal(statements); err != nil {
				return err
			}
			text, err := json.Marshal(document)
			if err != nil {
				return err
			}
			_, err = p.s3.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: p.name(), Policy: aws.String(string(text))})
			return err
		},
	}
}

// policy is the bucket's policy, and its statements; an empty one if it has none.
func (p *Provisioner) policy(ctx context.Context) ([]json.RawMessage, map[string]json.RawMessage, error) {
	document := map[string]json.RawMessage{"Version": json.RawMessage(`"2012-10-17"`)}
	out, err := p.s3.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: p.name()})
	if err != nil {
		return nil, document, absent(err, "NoSuchBucketPolicy")
	}
	if err := json.Unmarshal([]byte(aws.ToString(out.Policy)), &document); err != nil {
		return nil, nil, fmt.Errorf("read the policy: %w", err)
	}
	raw := document["Statement"]
	var statements []json.RawMessage
	// One statement may stand without brackets.
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		return []json.RawMessage{raw}, document, nil
	}
	if err := json.Unmarshal(raw, &statements); err != nil {
		return nil, nil, errors.New("the bucket's policy has no statements that can be read")
	}
	return statements, document, nil
}

func (p *Provisioner) statement() json.RawMessage {
	arn := "arn:" + partition(p.s3.Options().Region) + ":s3:::" + p.loc.Bucket
	text, _ := json.Marshal(map[string]any{ // strings alone: it cannot fail
		"Sid": policySid, "Effect": "Deny", "Principal": map[string]string{"AWS": "*"},
		"Action":    []string{"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"},
		"Resource":  []string{arn, arn + "/*"},
		"Condition": map[string]any{"Bool": map[string]string{"aws:SecureTransport": "false"}},
	})
	return text
}

func withoutSid(statements []json.RawMessage, sid string) []json.RawMessage {
	var rest []json.RawMessage
	for _, s := range statements {
		var named struct{ Sid string }
		// One that is not understood is not ours.
		_ = json.Unmarshal(s, &named)
		if named.Sid != sid {
			rest = append(rest, s)
		}
	}
	return rest
}

// sameJSON compares values, so that the order of members and spaces do not count.
func sameJSON(a, b json.RawMessage) bool {
	one, err := canonicalJSON(a)
	other, otherErr := canonicalJSON(b)
	return err == nil && otherErr == nil && bytes.Equal(one, other)
}

func canonicalJSON(raw json.RawMessage) ([]byte, error) {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}
