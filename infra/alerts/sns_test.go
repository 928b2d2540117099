package alerts

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"tablekeeper/infra/mototest"
	"tablekeeper/jobs/events"
)

const motoRegion = "eu-central-1"

// cloud is SNS and SQS of a server that stands in for AWS, as whoever owns the topic uses them.
type cloud struct {
	t       *testing.T
	address string
	sns     *sns.Client
	sqs     *sqs.Client
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	address := mototest.Start(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	keys := credentials.NewStaticCredentialsProvider("test", "test", "")
	return &cloud{t, address,
		sns.New(sns.Options{Region: motoRegion, Credentials: keys, BaseEndpoint: &address}),
		sqs.New(sqs.Options{Region: motoRegion, Credentials: keys, BaseEndpoint: &address}),
	}
}

func (c *cloud) topic(name string) (arn string) {
	c.t.Helper()
	made, err := c.sns.CreateTopic(c.t.Context(), &sns.CreateTopicInput{Name: &name})
	if err != nil {
		c.t.Fatal(err)
	}
	return aws.ToString(made.TopicArn)
}

func (c *cloud) subscribe(arn, protocol, endpoint, filter string) {
	c.t.Helper()
	in := &sns.SubscribeInput{TopicArn: &arn, Protocol: &protocol, Endpoint: &endpoint}
	if filter != "" {
		in.Attributes = map[string]string{"FilterPolicy": filter}
	}
	if _, err := c.sns.Subscribe(c.t.Context(), in); err != nil {
		c.t.Fatal(err)
	}
}

// queue makes a queue that the topic tells, and returns its address.
func (c *cloud) queue(arn, name, filter string) string {
	c.t.Helper()
	made, err := c.sqs.CreateQueue(c.t.Context(), &sqs.CreateQueueInput{QueueName: &name})
	if err != nil {
		c.t.Fatal(err)
	}
	c.subscribe(arn, "sqs", strings.Replace(strings.TrimSuffix(arn, arn[strings.LastIndex(arn, ":"):]), ":sns:", ":sqs:", 1)+":"+name, filter)
	return aws.ToString(made.QueueUrl)
}

// notification is what SNS hands to its subscribers, over HTTP and in a queue.
type notification struct {
	Type, TopicArn, Subject, Message, Signature string
	MessageAttributes                           map[string]struct{ Type, Value string }
}

func (c *cloud) received(queue string) []notification {
	c.t.Helper()
	got, err := c.sqs.ReceiveMessage(c.t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &queue, MaxNumberOfMessages: 10})
	if err != nil {
		c.t.Fatal(err)
	}
	var all []notification
	for _, m := range got.Messages {
		var n notification
		if err := json.Unmarshal([]byte(aws.ToString(m.Body)), &n); err != nil {
			c.t.Fatal(err)
		}
		all = append(all, n)
	}
	return all
}

// listener is an HTTP subscriber.
func listener(t *testing.T) (address string, got chan notification) {
	t.Helper()
	got = make(chan notification, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var n notification
		body, err := io.ReadAll(r.Body)
		if err := errors.Join(err, json.Unmarshal(body, &n)); err != nil {
			t.Error(err)
		}
		got <- n
	}))
	t.Cleanup(server.Close)
	return server.URL, got
}

func next[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(time.Minute):
		t.Fatal("nothing came")
	}
	return v
}

// noticeIn reads what we published.
func noticeIn(t *testing.T, message string) Notice {
	t.Helper()
	n, err := opened(Delivery{Body: json.RawMessage(message)})
	if err != nil {
		t.Fatalf("%v: %s", err, message)
	}
	return n
}

// An alert reaches the subscribers of a topic: one by HTTP, and of two queues the one whose filter lets it pass, with its attributes.
func TestSNSDelivers(t *testing.T) {
	c, at := newCloud(t), &steppedClock{at: start}
	arn := c.topic("backups")
	address, got := listener(t)
	c.subscribe(arn, "http", address, "")
	grave := c.queue(arn, "grave", `{"severity":["critical"],"state":["firing"]}`)
	others := c.queue(arn, "others", `{"table":["nobody"]}`)
	bus := newBus(t)
	s, _ := running(t, Options{Folder: t.TempDir(), Bus: bus, Now: at.now, Timing: Timing{Gather: time.Millisecond}, Topics: []SNS{{Name: "ops", TopicARN: arn, Endpoint: c.address}}})
	at.step(time.Second)
	bus.Publish(ended(t, start, "backup", [3]string{"orders", "failed", "corrupt"}))

	n := next(t, got)
	if said := noticeIn(t, n.Message); n.Type != "Notification" || n.TopicArn != arn || said.Key != "backup/corrupt" || said.State != Firing || len(said.Tables) != 1 {
		t.Errorf("%+v", n)
	}
	if n.Subject != "tablekeeper: backup fails: corrupt (orders)" {
		t.Errorf("the subject is %q", n.Subject)
	}
	for delivered := false; !delivered && t.Context().Err() == nil; runtime.Gosched() { // by then the topic has told everybody
		all, err := s.Deliveries(t.Context(), "", 10)
		if err != nil {
			t.Fatal(err)
		}
		delivered = len(all) == 1 && all[0].Status == Delivered
	}
	passed := c.received(grave)
	if len(passed) != 1 {
		t.Fatalf("the filter let pass %+v", passed)
	}
	for name, want := range map[string]string{"severity": "critical", "state": "firing", "key": "backup/corrupt", "table": "orders"} {
		if is := passed[0].MessageAttributes[name]; is.Type != "String" || is.Value != want {
			t.Errorf("attribute %s is %+v, want %s", name, is, want)
		}
	}
	if passed := c.received(others); len(passed) != 0 {
		t.Errorf("the other filter let pass %+v", passed)
	}
}

// The topic is gone: the delivery says so and stays; when the topic is there again it arrives, once.
func TestSNSTopicIsGoneForAWhile(t *testing.T) {
	c, at := newCloud(t), &steppedClock{at: start}
	arn := c.topic("backups")
	if _, err := c.sns.DeleteTopic(t.Context(), &sns.DeleteTopicInput{TopicArn: &arn}); err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), Options{Folder: t.TempDir(), Bus: newBus(t), Now: at.now, Topics: []SNS{{Name: "ops", TopicARN: arn, Endpoint: c.address}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var hinted interface{ Hint() string }
	if err := s.Test(t.Context(), "ops"); !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "provision --topic") {
		t.Errorf("a test message gives %v", err)
	}
	s.book.apply(ended(t, start, "backup", [3]string{"orders", "failed", "corrupt"}))
	at.step(time.Minute)
	s.tell(t.Context())
	kept := func() Delivery {
		t.Helper()
		s.channels["ops"].round(t.Context())
		all, err := s.Deliveries(t.Context(), "", 10)
		if err != nil || len(all) != 1 {
			t.Fatalf("%+v, %v", all, err)
		}
		return all[0]
	}
	d := kept()
	if d.Status != Pending || d.Attempts != 1 || !strings.Contains(d.Error, "NotFound") || !d.Next.Equal(at.now().Add(retries[0])) {
		t.Errorf("%+v", d)
	}
	address, got := listener(t)
	c.subscribe(c.topic("backups"), "http", address, "")
	at.step(retries[0])
	if d := kept(); d.Status != Delivered || d.Attempts != 2 || d.Error != "" {
		t.Errorf("%+v", d)
	}
	if n := noticeIn(t, next(t, got).Message); n.Key != "backup/corrupt" {
		t.Errorf("%+v", n)
	}
	at.step(24 * time.Hour)
	if d := kept(); d.Attempts != 2 {
		t.Errorf("sent again: %+v", d)
	}
	if len(got) > 0 {
		t.Errorf("arrived twice: %+v", <-got)
	}
}

// A topic that stays away is given up after the last retry, with its error.
func TestSNSGivesUp(t *testing.T) {
	refused := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `<ErrorResponse><Error><Type>Sender</Type><Code>NotFound</Code><Message>Topic does not exist</Message></Error></ErrorResponse>`)
	}))
	defer refused.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	at := &steppedClock{at: start}
	s, err := New(t.Context(), Options{Folder: t.TempDir(), Bus: newBus(t), Now: at.now, Topics: []SNS{{Name: "ops", TopicARN: "arn:aws:sns:eu-central-1:123456789012:gone", Endpoint: refused.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.book.apply(events.Event{Type: corruptionDetected, Subject: "orders", Time: start})
	at.step(time.Minute)
	s.tell(t.Context())
	for n := 0; n <= len(retries); n++ {
		s.channels["ops"].round(t.Context())
		all, err := s.Deliveries(t.Context(), "", 10)
		if err != nil || len(all) != 1 || all[0].Attempts != n+1 || !strings.Contains(all[0].Error, "Topic does not exist") {
			t.Fatalf("%+v, %v", all, err)
		}
		if want := map[bool]Status{true: Failed, false: Pending}[n == len(retries)]; all[0].Status != want {
			t.Errorf("attempt %d: %s, want %s", n+1, all[0].Status, want)
		}
		at.step(24 * time.Hour)
	}
}
