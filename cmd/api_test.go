package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// apiClient talks to the API of a real service.
type apiClient struct {
	t *testing.T
	*service
}

// do makes a request with a token and a deadline, and gives the answer's status and body.
func (c apiClient) do(token, method, path, body string, within time.Duration) (int, []byte) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, data
}

// must is what the operator gets within a time, if it is a success.
func (c apiClient) must(method, path, body string, within time.Duration, into any) {
	c.t.Helper()
	status, data := c.do(c.token, method, path, body, within)
	if status != http.StatusOK {
		c.t.Fatalf("%s %s: %d %s", method, path, status, data)
	}
	if err := json.Unmarshal(data, into); err != nil {
		c.t.Fatalf("%s %s: %v in %s", method, path, err, data)
	}
}

// serveNine starts the real service with its nine owned tables, and one message in each of two of them.
func serveNine(t *testing.T) apiClient {
	t.Helper()
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := apiClient{t, startService(t, home, "--tables", "data", "--bucket", "bucket")}
	c.settle()
	for path, body := range map[string]string{"/api/v1/mailbox/bob/messages": `{"from":"alice","body":"hello"}`, "/api/v1/threads": `{"author":"alice","title":"one"}`} {
		if status, data := c.do(c.token, http.MethodPost, path, body, time.Minute); status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, status, data)
		}
	}
	return c
}

// What the API promises of the nine tables: all compacted within 120 s and one within 60 s, each with status and duration; a restore says what it
// did. The times are the deadlines of the requests.
func TestTheAPIKeepsItsPromisesOnNineTables(t *testing.T) {
	c := serveNine(t)
	var all struct {
		Results []map[string]any
		Counts  struct{ Tables, Failed int }
	}
	c.must(http.MethodPost, "/api/admin/backup", `{}`, 2*time.Minute, &all)
	c.must(http.MethodPost, "/api/admin/compact", `{"force":true}`, 2*time.Minute, &all)
	if all.Counts.Tables != 9 || all.Counts.Failed != 0 || len(all.Results) != 9 {
		t.Errorf("%+v", all)
	}
	for _, r := range all.Results {
		duration, ok := r["duration_ms"].(float64)
		if r["status"] != "compacted" || !ok || duration < 0 || r["table"] == "" {
			t.Errorf("%v", r)
		}
	}
	var one, plan, restored map[string]any
	c.must(http.MethodPost, "/api/admin/compact/agent_mailbox", `{"force":true}`, time.Minute, &one)
	if one["table"] != "agent_mailbox" || one["status"] != "compacted" || one["duration_ms"] == nil {
		t.Errorf("%v", one)
	}
	c.must(http.MethodPost, "/api/admin/restore/agent_mailbox", `{"dry_run":true}`, time.Minute, &plan)
	c.must(http.MethodPost, "/api/admin/restore/agent_mailbox", fmt.Sprintf(`{"plan":%q}`, plan["plan"]), time.Minute, &restored)
	used, _ := restored["backup_used"].(string)
	count, _ := restored["record_count"].(float64)
	size, _ := restored["file_size"].(float64)
	if restored["status"] != "restored" || !strings.HasPrefix(used, "agent_mailbox/") || count < 1 || size < 4096 {
		t.Errorf("%v", restored)
	}
	var box map[string]any
	c.must(http.MethodGet, "/api/v1/mailbox/bob", "", time.Minute, &box)
	if box["waiting"] != 1.0 {
		t.Errorf("the message is gone: %v", box)
	}
}

var pathParameter = regexp.MustCompile(`\{\w+\}`)

// Every route that the program describes, of both APIs, refuses who may not.
func TestTheProgramsRoutesRefuse(t *testing.T) {
	c := serveNine(t)
	viewer := c.addToken("viewer")
	agent := c.addToken("agent")
	var described struct {
		Paths map[string]map[string]struct {
			Role string `json:"x-role"`
		}
	}
	_, data := c.do("", http.MethodGet, "/openapi.json", "", time.Minute)
	if err := json.Unmarshal(data, &described); err != nil {
		t.Fatal(err)
	}
	routes := 0
	for path, methods := range described.Paths {
		for method := range methods {
			method, at := strings.ToUpper(method), pathParameter.ReplaceAllLiteralString(path, "orders")
			if method == http.MethodPost && path == "/api/admin/session" {
				continue // who signs in has no token yet
			}
			routes++
			if status, _ := c.do("", method, at, "{}", time.Minute); status != http.StatusUnauthorized {
				t.Errorf("%s %s without a token: %d", method, path, status)
			}
			stores := strings.HasPrefix(path, "/api/v1/")
			for token, refused := range map[string]bool{viewer: stores || method != http.MethodGet, agent: !stores} {
				if !refused || path == "/api/admin/session" {
					continue
				}
				if status, _ := c.do(token, method, at, "{}", time.Minute); status != http.StatusForbidden {
					t.Errorf("%s %s with a token that may not (stores %v): %d", method, path, stores, status)
				}
			}
		}
	}
	if routes < 60 {
		t.Errorf("only %d routes", routes)
	}
	var record struct{ Entries []json.RawMessage }
	c.must(http.MethodGet, "/api/admin/audit", "", time.Minute, &record)
	for _, e := range record.Entries {
		if !bytes.Contains(e, []byte("/api/v1/")) { // those that made the stores' content
			t.Errorf("something was changed: %s", e)
		}
	}
}

// addToken makes a token by the command, while the service runs.
func (c apiClient) addToken(role string) string {
	c.t.Helper()
	token := tokenPattern.FindString(tablekeeper(c.t, "--tables", filepath.Join(c.home, "data"), "token", "add", "some-"+role, "--role", role))
	if token == "" {
		c.t.Fatal("no token was shown")
	}
	return token
}
