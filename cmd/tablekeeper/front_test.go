package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"tablekeeper/storage/needtest"
)

// screenText is what the service writes, for a test to look at while it runs.
type screenText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screenText) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screenText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// visitor is a service with its front, as somebody at a browser has it.
type visitor struct {
	t     *testing.T
	dir   string
	base  string
	token string
	http  *http.Client
	log   *screenText
}

var link = regexp.MustCompile(`(https?://[^/]+)/#token=(tk_\S+)`)

// openPage starts a service with a configuration, besides tables and bucket, and signs in by its link.
func openPage(t *testing.T, config string) *visitor {
	t.Helper()
	s := &visitor{t: t, dir: t.TempDir(), log: &screenText{}, http: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}}
	if err := makeDemoTable(t.Context(), filepath.Join(s.dir, "orders.db"), []string{"CREATE TABLE item(id INTEGER PRIMARY KEY)", "INSERT INTO item VALUES (1), (2)"}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.dir, "tablekeeper.yaml")
	text := "tables: [" + filepath.Join(s.dir, "orders.db") + "]\nbucket: backups\nlisten: 127.0.0.1:0\n" + strings.ReplaceAll(config, "DIR", s.dir)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended, out := make(chan int, 1), &screenText{}
	go func() { ended <- run(ctx, []string{"--config", file, "serve"}, strings.NewReader(""), out, s.log) }()
	t.Cleanup(func() {
		s.http.CloseIdleConnections()
		stop()
		if code := <-ended; code != exitDone {
			t.Errorf("serve ended with status %d:\n%s", code, s.log)
		}
	})
	for {
		if m := link.FindStringSubmatch(out.String()); m != nil {
			s.base, s.token = m[1], m[2]
			return s
		}
		select {
		case code := <-ended:
			ended <- code
			t.Fatalf("serve ended with status %d:\n%s", code, s.log)
		default:
			runtime.Gosched()
		}
	}
}

func (s *visitor) get(url string, want int) []byte {
	s.t.Helper()
	return s.send(http.MethodGet, url, "", want)
}

func (s *visitor) send(method, url, body string, want int) []byte {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.http.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		s.t.Fatalf("%s %s: %d %s, %v\n%s", method, url, resp.StatusCode, data, err, s.log)
	}
	return data
}

// settle waits until a first start has caught up on its jobs, and has proved its first backups: until then whoever asks for the same is refused.
func (s *visitor) settle() {
	s.t.Helper()
	for {
		var jobs struct {
			Jobs []struct{ Last, State string }
		}
		decode(s.t, s.get(s.base+"/api/admin/jobs", 200), &jobs)
		caughtUp := len(jobs.Jobs) > 0
		for _, j := range jobs.Jobs {
			caughtUp = caughtUp && j.Last != "" && j.State == "scheduled"
		}
		var fleet struct{ Active []any } // what follows from a run has begun before it ends
		decode(s.t, s.get(s.base+"/api/admin/fleet", 200), &fleet)
		if caughtUp && len(fleet.Active) == 0 {
			return
		}
		runtime.Gosched()
	}
}

func TestFrontServesEverythingOnOneListener(t *testing.T) {
	s := openPage(t, "alerts:\n  webhooks: [{name: pager, url: 'https://192.0.2.1/hook'}]\n  push: {contact: 'mailto:ops@example.com'}\n")
	if page := s.get(s.base+"/", 200); !bytes.Contains(page, []byte("<html")) {
		t.Errorf("the page is %.100s", page)
	}
	var fleet struct {
		Tables  int
		Notices []struct{ ID string }
		Version string
	}
	decode(t, s.get(s.base+"/api/admin/fleet", 200), &fleet)
	if fleet.Tables != 1+9 || fleet.Version == "" {
		t.Errorf("%+v", fleet)
	}
	for _, n := range fleet.Notices {
		if n.ID == "no_alert_channel" || n.ID == "no_bucket" {
			t.Errorf("%+v", fleet.Notices)
		}
	}
	if metrics := s.get(s.base+"/metrics", 200); !bytes.Contains(metrics, []byte(`tablekeeper_table_size_bytes{table="orders"}`)) || !bytes.Contains(metrics, []byte("tablekeeper_alerts_open{")) {
		t.Errorf("%.300s", metrics)
	}
	// The stores' API is there, too.
	s.send("POST", s.base+"/api/v1/mailbox/ann/messages", `{"from":"bob","body":"hello"}`, 200)
	if waiting := s.get(s.base+"/api/v1/mailbox/ann", 200); !bytes.Contains(waiting, []byte(`"waiting":1`)) {
		t.Errorf("%s", waiting)
	}
	channels := s.get(s.base+"/api/admin/alerts/channels", 200)
	if !bytes.Contains(channels, []byte(`"pager"`)) || !bytes.Contains(channels, []byte(`"push":true`)) {
		t.Errorf("%s", channels)
	}
	var jobs struct{ Jobs []struct{ Name string } }
	decode(t, s.get(s.base+"/api/admin/jobs", 200), &jobs)
	if len(jobs.Jobs) < 4 {
		t.Errorf("%+v", jobs)
	}
	s.settle()
	s.send("POST", s.base+"/api/admin/jobs/"+jobs.Jobs[0].Name+"/pause", "", 200)
	s.send("POST", s.base+"/api/admin/backup/orders", `{"force":true}`, 200)
	var plan struct {
		Plan    string
		Records int `json:"record_count"`
	}
	decode(t, s.send("POST", s.base+"/api/admin/restore/orders", `{"dry_run":true}`, 200), &plan)
	if plan.Plan == "" || plan.Records != 2 {
		t.Errorf("%+v", plan)
	}
	if restored := s.send("POST", s.base+"/api/admin/restore/orders", `{"plan":"`+plan.Plan+`"}`, 200); !bytes.Contains(restored, []byte(`"status":"restored"`)) {
		t.Errorf("%s", restored)
	}
	if strings.Contains(s.log.String(), s.token) {
		t.Error("the token is in the log")
	}
}

func decode(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
}

func TestFrontWithHTTPSAndMetricsOfTheirOwn(t *testing.T) {
	port, err := needtest.Port()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	makeCertificate(t, dir)
	s := openPage(t, fmt.Sprintf("tls: {certificate_file: %s/cert.pem, key_file: %s/key.pem}\nmetrics_listen: 127.0.0.1:%d\nstores: off\n", dir, dir, port))
	if !strings.HasPrefix(s.base, "https://") {
		t.Fatal(s.base)
	}
	s.get(s.base+"/api/admin/tables", 200)
	s.get(s.base+"/metrics", 404)
	s.get(s.base+"/api/v1/mailbox/ann", 404)
	open := fmt.Sprintf("http://127.0.0.1:%d/metrics", port)
	s.token = ""
	if metrics := s.get(open, 200); !bytes.Contains(metrics, []byte("tablekeeper_tables{")) {
		t.Errorf("%.300s", metrics)
	}
}

// TestFrontWithoutItsAddress: where nobody chose the address and it is taken, backups go on without the page.
func TestFrontWithoutItsAddress(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:8420")
	if err == nil {
		defer taken.Close()
	} // else somebody else has it, which is as good
	s, _ := serving(t)
	if _, err := s.list(t.Context()); err != nil {
		t.Error(err)
	}
}

// makeCertificate writes cert.pem and key.pem for this machine.
func makeCertificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	cert, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
