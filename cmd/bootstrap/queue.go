package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// job is the work of one event on one table, and the body of a message in the queue.
type job struct {
	ID         string          `json:"id"` // of the event, the same however often it is delivered
	Event      json.RawMessage `json:"event"`
	Table      string          `json:"table"`
	Generation int             `json:"generation,omitempty"` // how often it was put back for want of time
}

// group is the message group: messages of one group are worked on one after the other.
func (j job) group() string { return j.Table }

// deduplication is what SQS knows the message by for five minutes: the same for the same event, table and generation.
func (j job) deduplication() string {
	sum := sha256.Sum256([]byte(j.ID + "\x00" + j.Table + "\x00" + strconv.Itoa(j.Generation)))
	return hex.EncodeToString(sum[:])
}

// queue sends jobs to workers.
type queue interface {
	send(ctx context.Context, url string, jobs []job) error
	// again makes a message that was received visible after a while.
	again(ctx context.Context, url, receipt string, after time.Duration) error
}

// topic tells people.
type topic interface {
	publish(ctx context.Context, arn, subject, message string) error
}

// batch is how many messages SQS takes at once.
const batch = 10

// sqsQueue is the queue in AWS.
type sqsQueue struct{ client *sqs.Client }

func (q sqsQueue) send(ctx context.Context, url string, jobs []job) error {
	for len(jobs) > 0 {
		n := min(batch, len(jobs))
		if err := q.sendBatch(ctx, url, jobs[:n]); err != nil {
			return err
		}
		jobs = jobs[n:]
	}
	return nil
}

// sendBatch tries again what the queue did not take, once: the rest is for the retry of the event, which repeats no message
// that was taken.
func (q sqsQueue) sendBatch(ctx context.Context, url string, jobs []job) error {
	for attempt := 0; ; attempt++ {
		failed, err := q.offer(ctx, url, jobs)
		if err != nil {
			return fmt.Errorf("send to %s: %w", url, err)
		}
		if len(failed) == 0 {
			return nil
		}
		if attempt == 1 {
			return fmt.Errorf("send to %s: %d of %d messages were refused: %s", url, len(failed), len(jobs), aws.ToString(failed[0].Message))
		}
		var left []job
		for _, f := range failed {
			if i, err := strconv.Atoi(aws.ToString(f.Id)); err == nil && i < len(jobs) {
				left = append(left, jobs[i])
			}
		}
		jobs = left
	}
}

func (q sqsQueue) offer(ctx context.Context, url string, jobs []job) ([]types.BatchResultErrorEntry, error) {
	in := &sqs.SendMessageBatchInput{QueueUrl: &url}
	for i, j := range jobs {
		body, err := json.Marshal(j)
		if err != nil {
			return nil, err
		}
		in.Entries = append(in.Entries, types.SendMessageBatchRequestEntry{
			Id: aws.String(strconv.Itoa(i)), MessageBody: aws.String(string(body)),
			MessageGroupId: aws.String(j.group()), MessageDeduplicationId: aws.String(j.deduplication()),
		})
	}
	out, err := q.client.SendMessageBatch(ctx, in)
	if err != nil {
		return nil, err
	}
	return out.Failed, nil
}

func (q sqsQueue) again(ctx context.Context, url, receipt string, after time.Duration) error {
	_, err := q.client.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{QueueUrl: &url, ReceiptHandle: &receipt, VisibilityTimeout: int32(after / time.Second)})
	if err != nil {
		return fmt.Errorf("put a message back: %w", err)
	}
	return nil
}

// snsTopic is the topic in AWS.
type snsTopic struct{ client *sns.Client }

func (t snsTopic) publish(ctx context.Context, arn, subject, message string) error {
	if _, err := t.client.Publish(ctx, &sns.PublishInput{TopicArn: &arn, Subject: &subject, Message: &message}); err != nil {
		return fmt.Errorf("publish to %s: %w", arn, err)
	}
	return nil
}
