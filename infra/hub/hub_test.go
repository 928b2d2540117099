package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"tablekeeper/storage/stores"
	"tablekeeper/storage/table"
)

// client talks to a hub over the nine tables, which are owned as in the service.
type client struct {
	t    *testing.T
	base string
}

// open makes the stores.
func open(t testing.TB) Stores {
	t.Helper()
	own := func(name string) stores.Table {
		handle, err := table.Open(context.Background(), filepath.Join(t.TempDir(), name+".db"), table.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := handle.Close(); err != nil {
				t.Error(err)
			}
		})
		return handle
	}
	var s Stores
	var errs [6]error
	ctx, now := context.Background(), time.Now
	s.Mailbox, errs[0] = stores.NewMailbox(ctx, own("agent_mailbox"), now)
	s.Channels, errs[1] = stores.NewChannels(ctx, own("agent_channels"), own("channel_history"), now)
	s.Tasks, errs[2] = stores.NewTaskQueue(ctx, own("task_queue"), own("task_dead_letter"), now)
	s.Threads, errs[3] = stores.NewThreads(ctx, own("thread_messages"), own("thread_replies"), now)
	s.History, errs[4] = stores.NewHistory(ctx, own("message_history"), now)
	s.Config, errs[5] = stores.NewConfig(ctx, own("config"), now)
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return s
}

func start(t *testing.T) client {
	t.Helper()
	s := open(t)
	mux := http.NewServeMux()
	config := huma.DefaultConfig("hub", "1")
	config.DocsPath, config.RejectUnknownQueryParameters = "", true
	Register(humago.New(mux, config), s, func(err error) bool { return errors.Is(err, table.ErrRecovering) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return client{t, server.URL + Prefix}
}

// call makes a request, wants a status, and reads the answer into a map.
func (c client) call(method, path, body string, want int) map[string]any {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, bytes.NewBufferString(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if response.StatusCode != want {
		c.t.Fatalf("%s %s: %d, want %d: %s", method, path, response.StatusCode, want, content)
	}
	answer := map[string]any{}
	if len(content) > 0 {
		if err := json.Unmarshal(content, &answer); err != nil {
			c.t.Fatalf("%s %s: %v: %s", method, path, err, content)
		}
	}
	return answer
}

func (c client) items(path string, want int) []any {
	c.t.Helper()
	items, _ := c.call("GET", path, "", 200)["items"].([]any)
	if len(items) != want {
		c.t.Fatalf("%s: %d items, want %d", path, len(items), want)
	}
	return items
}

func TestMailbox(t *testing.T) {
	c := start(t)
	id := c.call("POST", "/mailbox/bob/messages", `{"from":"alice","body":"hello"}`, 200)["id"].(string)
	got := c.call("POST", "/mailbox/bob/receive?limit=5", "", 200)["items"].([]any)
	if len(got) != 1 || got[0].(map[string]any)["id"] != id {
		t.Fatalf("%v", got)
	}
	if n := c.call("POST", "/mailbox/bob/acknowledge", `{"ids":["`+id+`"]}`, 200)["acknowledged"]; n != 1.0 {
		t.Errorf("acknowledged %v", n)
	}
	if n := c.call("GET", "/mailbox/bob", "", 200)["waiting"]; n != 0.0 {
		t.Errorf("%v wait", n)
	}
	c.call("POST", "/mailbox/bob/messages", `{"from":"a b","body":"x"}`, 422)
	c.call("POST", "/mailbox/bob/messages", `{"sender":"alice"}`, 422)
}

func TestChannels(t *testing.T) {
	c := start(t)
	c.call("POST", "/channels", `{"name":"news","creator":"alice"}`, 200)
	c.call("POST", "/channels", `{"name":"news","creator":"alice"}`, 409)
	c.items("/channels?limit=10", 1)
	c.call("PUT", "/channels/news/subscriptions/bob", "", 204)
	post := c.call("POST", "/channels/news/posts", `{"from":"alice","key":"k","body":"one"}`, 200)["id"].(string)
	c.call("POST", "/channels/news/posts", `{"from":"alice","key":"k","body":"one"}`, 200)
	c.items("/channels/news/posts?limit=1", 1)
	c.items("/channels/news/subscriptions/bob/posts", 1)
	c.call("PUT", "/channels/news/subscriptions/bob/cursor", `{"id":"`+post+`"}`, 204)
	c.items("/channels/news/subscriptions/bob/posts", 0)
	c.call("DELETE", "/channels/news/subscriptions/bob", "", 204)
	c.call("DELETE", "/channels/news/subscriptions/bob", "", 404)
	c.call("POST", "/channels/olds/posts", `{"from":"alice","body":"x"}`, 404)
}

func TestTasks(t *testing.T) {
	c := start(t)
	c.call("POST", "/tasks/claim", `{"queue":"q","worker":"w"}`, 404)
	id := c.call("POST", "/tasks", `{"queue":"q","payload":"p","max_attempts":1}`, 200)["id"].(string)
	lease := c.call("POST", "/tasks/claim", `{"queue":"q","worker":"w","lease_ms":60000}`, 200)["lease"].(string)
	c.call("POST", "/tasks/"+id+"/extend", `{"lease":"`+lease+`","lease_ms":1000}`, 200)
	c.call("POST", "/tasks/"+id+"/complete", `{"lease":"wrong"}`, 409)
	c.call("POST", "/tasks/"+id+"/fail", `{"lease":"`+lease+`","error":"boom"}`, 204)
	c.items("/tasks/queues/q/dead-letters", 1)
	c.call("POST", "/tasks/"+id+"/requeue", "", 204)
	if n := c.call("GET", "/tasks/queues/q", "", 200)["ready"]; n != 1.0 {
		t.Errorf("%v ready", n)
	}
	lease = c.call("POST", "/tasks/claim", `{"queue":"q","worker":"w"}`, 200)["lease"].(string)
	c.call("POST", "/tasks/"+id+"/complete", `{"lease":"`+lease+`","result":"done"}`, 204)
	if state := c.call("GET", "/tasks/"+id, "", 200)["state"]; state != "done" {
		t.Errorf("state %v", state)
	}
	c.call("DELETE", "/tasks/"+id, "", 404)
}

func TestThreads(t *testing.T) {
	c := start(t)
	id := c.call("POST", "/threads", `{"author":"alice","title":"one"}`, 200)["id"].(string)
	c.call("POST", "/threads/"+id+"/replies", `{"author":"bob","body":"yes"}`, 200)
	c.items("/threads/"+id+"/replies?limit=10", 1)
	c.items("/threads?author=alice", 1)
	c.call("GET", "/threads/"+id, "", 200)
	c.call("GET", "/threads/none", "", 404)
}

func TestHistoryPages(t *testing.T) {
	c := start(t)
	for range 3 {
		c.call("POST", "/history", `{"from":"alice","to":"bob","kind":"chat"}`, 200)
	}
	first := c.call("GET", "/history?party=bob&limit=2", "", 200)
	if n := len(first["items"].([]any)); n != 2 {
		t.Fatalf("%d records", n)
	}
	c.items("/history?party=bob&limit=2&after="+first["next"].(string), 1)
	c.call("GET", "/history?after=nonsense", "", 422)
}

func TestConfigVersionsAndChanges(t *testing.T) {
	c := start(t)
	c.call("PUT", "/config/limit", `{"value":"1","author":"alice","if_version":0}`, 200)
	c.call("PUT", "/config/limit", `{"value":"2","author":"alice","if_version":0}`, 409)
	second := c.call("PUT", "/config/limit", `{"value":"2","author":"alice"}`, 200)
	if second["version"] != 2.0 {
		t.Errorf("version %v", second["version"])
	}
	c.items("/config?prefix=li", 1)
	c.items("/config/limit/versions", 2)
	c.items("/config-changes", 2)
	c.items("/config-changes?after="+second["revision"].(string), 0)
	c.call("POST", "/config/limit/delete", `{"author":"alice"}`, 200)
	c.call("GET", "/config/limit", "", 404)
}

func TestATableUnderRepairIs503(t *testing.T) {
	p := problems{unavailable: func(err error) bool { return errors.Is(err, table.ErrRecovering) }}
	var status huma.StatusError
	if err := p.of(table.ErrRecovering); !errors.As(err, &status) || status.GetStatus() != http.StatusServiceUnavailable {
		t.Errorf("%v", err)
	}
	var headers huma.HeadersError
	if err := p.of(table.ErrRecovering); !errors.As(err, &headers) || headers.GetHeaders().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}
