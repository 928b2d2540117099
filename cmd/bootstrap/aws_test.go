package main

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// cloud stands in for SQS and SNS: it takes what the SDK sends, and keeps it.
type cloud struct {
	server *httptest.Server

	mu        sync.Mutex
	sent      map[string][]message // by queue
	seen      map[string]bool      // deduplication ids
	refuse    int                  // so many entries of the next batch
	again     []string             // receipts
	published []string
	secrets   map[string]string // by name
}

type message struct {
	ID, Group, Deduplication, Body string
}

const (
	ownQueue     = "http://sqs.invalid/000000000000/own.fifo"
	recoverQueue = "http://sqs.invalid/000000000000/recover.fifo"
	topicARN     = "arn:aws:sns:eu-central-1:000000000000:backups"
)

func newCloud(t *testing.T) *cloud {
	c := &cloud{sent: map[string][]message{}, seen: map[string]bool{}}
	c.server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.server.Close)
	return c
}

// env points the SDK at the cloud.
func (c *cloud) env() map[string]string {
	return map[string]string{"AWS_ENDPOINT_URL_SQS": c.server.URL, "AWS_ENDPOINT_URL_SNS": c.server.URL, "AWS_ENDPOINT_URL_SECRETS_MANAGER": c.server.URL, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
		"TABLEKEEPER_QUEUE": ownQueue, "TABLEKEEPER_RECOVER_QUEUE": recoverQueue, "TABLEKEEPER_TOPIC": topicARN}
}

func (c *cloud) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch target := r.Header.Get("X-Amz-Target"); {
	case target == "AmazonSQS.SendMessageBatch":
		c.take(w, body)
	case target == "AmazonSQS.ChangeMessageVisibility":
		var in struct{ ReceiptHandle string }
		_ = json.Unmarshal(body, &in)
		c.again = append(c.again, in.ReceiptHandle)
		fmt.Fprint(w, `{}`)
	case target == "secretsmanager.GetSecretValue":
		var in struct{ SecretId string } //nolint:revive // as the API has it
		_ = json.Unmarshal(body, &in)
		text, ok := c.secrets[in.SecretId]
		if !ok {
			w.Header().Set("X-Amzn-ErrorType", "AccessDeniedException")
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"ARN": in.SecretId, "SecretString": text})
	case strings.Contains(string(body), "Action=Publish"):
		c.published = append(c.published, string(body))
		fmt.Fprint(w, `<PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>`)
	default:
		http.Error(w, "not here", http.StatusBadRequest)
	}
}

// keep makes a secret.
func (c *cloud) keep(arn, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.secrets == nil {
		c.secrets = map[string]string{}
	}
	c.secrets[arn] = text
}

func (c *cloud) take(w http.ResponseWriter, body []byte) {
	var in struct {
		QueueUrl string //nolint:revive // as the API has it
		Entries  []struct{ Id, MessageBody, MessageGroupId, MessageDeduplicationId string }
	}
	if err := json.Unmarshal(body, &in); err != nil || len(in.Entries) > batch {
		http.Error(w, "bad batch", http.StatusBadRequest)
		return
	}
	var good, bad []map[string]any
	for _, e := range in.Entries {
		if c.refuse > 0 {
			c.refuse--
			bad = append(bad, map[string]any{"Id": e.Id, "Code": "InternalError", "SenderFault": false, "Message": "try again"})
			continue
		}
		good = append(good, map[string]any{"Id": e.Id, "MessageId": "m-" + e.MessageDeduplicationId[:12], "MD5OfMessageBody": md5Of(e.MessageBody)})
		if key := in.QueueUrl + e.MessageDeduplicationId; !c.seen[key] {
			c.seen[key] = true
			c.sent[in.QueueUrl] = append(c.sent[in.QueueUrl], message{e.Id, e.MessageGroupId, e.MessageDeduplicationId, e.MessageBody})
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"Successful": good, "Failed": bad})
}

// messages takes what is in a queue.
func (c *cloud) messages(queue string) []message {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.sent[queue]
	delete(c.sent, queue)
	return all
}

// records are messages as Lambda hands them to a function.
func records(messages []message, receives int) string {
	var all []map[string]any
	for i, m := range messages {
		all = append(all, map[string]any{"eventSource": "aws:sqs", "messageId": fmt.Sprintf("%s-%d", m.Group, i), "receiptHandle": "receipt-" + m.Group, "body": m.Body,
			"attributes": map[string]string{"ApproximateReceiveCount": fmt.Sprint(receives), "MessageGroupId": m.Group}})
	}
	text, _ := json.Marshal(map[string]any{"Records": all})
	return string(text)
}

func md5Of(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}
