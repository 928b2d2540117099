package provision

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
)

// topic is the topic and its subscriptions. Subscriptions of others stay.
type topic struct {
	p   *Provisioner
	arn string // "" while there is none
}

const (
	displayName = "tablekeeper" // as in the template; what a text message begins with
	pending     = "PendingConfirmation"
)

// name is that of the topic, without the rest of an ARN.
func (t *topic) name() string {
	return t.p.want.Topic[strings.LastIndex(t.p.want.Topic, ":")+1:]
}

func (t *topic) wanted() []Step {
	steps := []Step{{Part: "topic", Status: Missing, Want: t.name()}}
	for _, s := range t.p.want.Subscriptions {
		steps = append(steps, Step{Part: "subscription " + s.Endpoint, Status: Missing, Want: "by " + s.Protocol})
	}
	return steps
}

func (t *topic) look(ctx context.Context) ([]Step, error) {
	steps := t.wanted()
	var err error
	if t.arn, err = t.find(ctx); err != nil {
		return nil, wrap(ctx, "look for topic "+t.p.want.Topic, err)
	}
	if t.arn == "" {
		return steps, nil
	}
	steps[0].Status, steps[0].Now = Right, t.arn
	subscribed, err := t.subscribed(ctx)
	if err != nil {
		return nil, wrap(ctx, "look at the subscriptions of "+t.arn, err)
	}
	for i, s := range t.p.want.Subscriptions {
		state, ok := subscribed[s]
		if !ok {
			continue
		}
		steps[i+1].Status, steps[i+1].Now = Right, "by "+s.Protocol
		if state == pending {
			steps[i+1].Why = "not confirmed yet: its owner was sent a message with a link to confirm it"
		}
	}
	return steps, nil
}

// find is the topic's ARN, "" if there is no such topic.
func (t *topic) find(ctx context.Context) (string, error) {
	pages := sns.NewListTopicsPaginator(t.p.sns, &sns.ListTopicsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", err
		}
		for _, found := range page.Topics {
			arn := aws.ToString(found.TopicArn)
			if arn == t.p.want.Topic || strings.HasSuffix(arn, ":"+t.p.want.Topic) {
				return arn, nil
			}
		}
	}
	return "", nil
}

// subscribed are all subscriptions, with their ARN or the word that stands for it until they are confirmed.
func (t *topic) subscribed(ctx context.Context) (map[Subscription]string, error) {
	all := map[Subscription]string{}
	pages := sns.NewListSubscriptionsByTopicPaginator(t.p.sns, &sns.ListSubscriptionsByTopicInput{TopicArn: &t.arn})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range page.Subscriptions {
			all[Subscription{aws.ToString(s.Protocol), aws.ToString(s.Endpoint)}] = aws.ToString(s.SubscriptionArn)
		}
	}
	return all, nil
}

func (t *topic) set(ctx context.Context) error {
	if t.arn == "" {
		if strings.HasPrefix(t.p.want.Topic, "arn:") {
			return fmt.Errorf("there is no topic %s; to make one, give a name instead of an ARN", t.p.want.Topic)
		}
		out, err := t.p.sns.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String(t.name()), Attributes: map[string]string{"DisplayName": displayName}})
		if err != nil {
			return wrap(ctx, "make topic "+t.name(), err)
		}
		t.arn = aws.ToString(out.TopicArn)
	}
	subscribed, err := t.subscribed(ctx)
	if err != nil {
		return wrap(ctx, "look at the subscriptions of "+t.arn, err)
	}
	for _, s := range t.p.want.Subscriptions {
		if _, ok := subscribed[s]; ok {
			continue
		}
		_, err := t.p.sns.Subscribe(ctx, &sns.SubscribeInput{TopicArn: &t.arn, Protocol: aws.String(s.Protocol), Endpoint: aws.String(s.Endpoint)})
		if err != nil {
			return wrap(ctx, "subscribe "+s.Endpoint+" to "+t.arn, err)
		}
	}
	return nil
}
