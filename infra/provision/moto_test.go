package provision

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"tablekeeper/infra/mototest"
	"tablekeeper/storage/bucket/remote"
)

func onMoto(t *testing.T, address, name string, want Wanted) *Provisioner {
	t.Helper()
	u, err := url.Parse(fmt.Sprintf("aws://%s?region=eu-central-1&endpoint=%s", name, url.QueryEscape(address)))
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(t.Context(), u, want, Options{AWS: true, SNSEndpoint: address,
		Remote: remote.Options{Keys: &remote.Keys{ID: "test", Secret: "test"}, Getenv: func(string) string { return "" }}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestAsOnAWS makes all of it on a stand-in for AWS.
func TestAsOnAWS(t *testing.T) {
	address := mototest.Start(t)
	want := usual
	want.Topic = "backups"
	want.Subscriptions = []Subscription{{"email", "ops@example.com"}, {"https", "https://example.com/hook"}}
	p := onMoto(t, address, "fleet", want)
	same(t, "before", look(t, p), `missing bucket
missing versioning
missing lifecycle superseded
missing lifecycle noncurrent
missing lifecycle incomplete-uploads
missing public access block
missing ownership
missing encryption
missing policy
missing topic
missing subscription ops@example.com
missing subscription https://example.com/hook`)
	first := apply(t, p)
	if strings.Contains(first, string(Cannot)) || strings.Contains(first, string(Missing)) {
		t.Errorf("apply:\n%s", first)
	}
	again := onMoto(t, address, "fleet", want)
	settled := look(t, again)
	if got := strings.ReplaceAll(first, "made ", "right "); got != settled {
		t.Errorf("check:\n%s\nwant:\n%s", settled, got)
	}
	same(t, "apply again", apply(t, again), settled)
	topics, err := p.sns.ListTopics(t.Context(), &sns.ListTopicsInput{})
	if err != nil || len(topics.Topics) != 1 {
		t.Fatalf("%+v, %v", topics, err)
	}
	subscriptions, err := p.sns.ListSubscriptionsByTopic(t.Context(), &sns.ListSubscriptionsByTopicInput{TopicArn: topics.Topics[0].TopicArn})
	if err != nil || len(subscriptions.Subscriptions) != 2 {
		t.Errorf("%+v, %v", subscriptions, err)
	}
	byARN := want
	byARN.Topic = aws.ToString(topics.Topics[0].TopicArn)
	if steps, err := onMoto(t, address, "fleet", byARN).Look(t.Context()); err != nil || Drifted(steps) > 0 {
		t.Errorf("by its ARN: %+v, %v", steps, err)
	}
	byARN.Topic = strings.Replace(byARN.Topic, ":backups", ":elsewhere", 1)
	if err := onMoto(t, address, "fleet", byARN).Apply(t.Context(), func(Step) {}); err == nil {
		t.Error("a topic was made of an ARN")
	}
	t.Run("policy of others", func(t *testing.T) { policyOfOthers(t, onMoto(t, address, "policies", usual)) })
	t.Run("each call fails", func(t *testing.T) { eachCallFails(t, address, want) })
}

func policyOfOthers(t *testing.T, p *Provisioner) {
	apply(t, p)
	theirs := `{"Version":"2012-10-17","Id":"theirs","Statement":{"Sid":"Theirs","Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":"s3:GetObject","Resource":"arn:aws:s3:::policies/*"}}`
	if _, err := p.s3.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: p.name(), Policy: &theirs}); err != nil {
		t.Fatal(err)
	}
	if got := look(t, p); !strings.Contains(got, "differs policy") {
		t.Errorf("check:\n%s", got)
	}
	apply(t, p)
	statements, document, err := p.policy(t.Context())
	if err != nil || len(statements) != 2 || !strings.Contains(string(statements[0]), "Theirs") || string(document["Id"]) != `"theirs"` {
		data, _ := json.Marshal(statements)
		t.Errorf("%s, %v", data, err)
	}
	if steps, err := p.Look(t.Context()); err != nil || Drifted(steps) > 0 {
		t.Errorf("%+v, %v", steps, err)
	}
}

// breaking fails request n of a client, and counts.
type breaking struct {
	http.RoundTripper
	n, seen int
}

func (b *breaking) RoundTrip(r *http.Request) (*http.Response, error) {
	b.seen++
	if b.seen-1 != b.n {
		return b.RoundTripper.RoundTrip(r)
	}
	return &http.Response{StatusCode: http.StatusForbidden, Header: http.Header{}, Request: r, ContentLength: 0, Body: http.NoBody,
		ProtoMajor: 1, ProtoMinor: 1, Status: "403 Forbidden"}, nil
}

// eachCallFails refuses call 0, 1, 2, ... of a whole Apply until none is refused: each is told, and the next Apply makes the rest.
func eachCallFails(t *testing.T, address string, want Wanted) {
	for n := 0; ; n++ {
		name := fmt.Sprintf("broken-%d", n)
		want.Topic = name
		p := onMoto(t, address, name, want)
		b := &breaking{RoundTripper: http.DefaultTransport, n: n}
		client := &http.Client{Transport: b}
		p.s3 = s3.New(p.s3.Options(), func(o *s3.Options) { o.HTTPClient = client })
		p.sns = sns.New(p.sns.Options(), func(o *sns.Options) { o.HTTPClient = client })
		err := p.Apply(t.Context(), func(Step) {})
		if b.seen <= n {
			if err != nil {
				t.Error(err)
			}
			if n < 20 {
				t.Errorf("only %d calls", n)
			}
			return
		}
		if err == nil {
			t.Errorf("call %d failed, and nobody was told", n)
		}
		whole := onMoto(t, address, name, want)
		if err := whole.Apply(t.Context(), func(Step) {}); err != nil {
			t.Errorf("after call %d failed: %v", n, err)
		}
		if steps, err := whole.Look(t.Context()); err != nil || Drifted(steps) > 0 {
			t.Errorf("after call %d failed: %+v, %v", n, steps, err)
		}
	}
}
