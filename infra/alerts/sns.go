package alerts

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
)

// SNS is a topic of Amazon SNS. Credentials come from the standard AWS sources.
type SNS struct {
	Name     string
	TopicARN string
	Region   string // default: the one in the ARN
	Endpoint string // default: AWS
}

type topic struct {
	client *sns.Client
	arn    string
}

func newSNS(ctx context.Context, s SNS) (channel, error) {
	parts := strings.SplitN(s.TopicARN, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "sns" {
		return nil, fmt.Errorf("sns %s: %q is not the ARN of a topic (arn:aws:sns:REGION:ACCOUNT:NAME)", s.Name, s.TopicARN)
	}
	region := s.Region
	if region == "" {
		region = parts[3]
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(region),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(sendTimeout)))
	if err != nil {
		return nil, fmt.Errorf("sns %s: %w", s.Name, err)
	}
	client := sns.NewFromConfig(cfg, func(o *sns.Options) {
		o.RetryMaxAttempts = 1 // the outbox retries
		if s.Endpoint != "" {
			o.BaseEndpoint = aws.String(s.Endpoint)
		}
	})
	return topic{client: client, arn: s.TopicARN}, nil
}

// send publishes the notice. The attributes severity, state, key and table are there for filter policies.
func (t topic) send(ctx context.Context, d Delivery) error {
	n, err := opened(d)
	if err != nil {
		return err
	}
	attributes := map[string]types.MessageAttributeValue{}
	set := func(name, value string) {
		if value != "" {
			attributes[name] = types.MessageAttributeValue{DataType: aws.String("String"), StringValue: aws.String(value)}
		}
	}
	set("severity", string(n.Severity))
	set("state", n.State)
	set("key", n.Key)
	if len(n.Tables) == 1 {
		set("table", n.Tables[0])
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout+5*time.Second)
	defer cancel()
	_, err = t.client.Publish(ctx, &sns.PublishInput{TopicArn: aws.String(t.arn), Subject: aws.String(subject(n.Title)),
		Message: aws.String(string(d.Body)), MessageAttributes: attributes})
	if err != nil {
		return fmt.Errorf("sns: %w", err)
	}
	return nil
}

// subject fits a title into what SNS allows: fewer than 100 ASCII characters without line breaks.
func subject(title string) string {
	ascii := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, "tablekeeper: "+title)
	return ascii[:min(len(ascii), 99)]
}
