package buckettest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Server is a running S3 server of our own.
type Server struct {
	Name      string // minio or versitygw
	Endpoint  string // http://127.0.0.1:port
	AccessKey string
	SecretKey string
	Region    string
	Folder    string // that it keeps its data in

	t      testing.TB
	client *minio.Core
}

// patience is how long a server may take to answer or to end.
const patience = 3 * time.Minute

// StartMinIO starts a MinIO server, which ends with the test.
func StartMinIO(t testing.TB) *Server {
	t.Helper()
	s := newServer(t, "minio")
	s.start(func(address string) *exec.Cmd {
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), Tool(t, "minio"), "server", "--quiet", "--address", address, "--console-address", "127.0.0.1:0", s.Folder)
		cmd.Env = append(minimal(), "MINIO_ROOT_USER="+s.AccessKey, "MINIO_ROOT_PASSWORD="+s.SecretKey, "MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_SITE_REGION="+s.Region,
			"MINIO_SCANNER_SPEED=slowest", "_MINIO_SERVER_DEBUG=off")
		return cmd
	}, "/minio/health/ready")
	return s
}

// StartVersityGW starts versitygw over a folder, which ends with the test.
func StartVersityGW(t testing.TB) *Server {
	t.Helper()
	s := newServer(t, "versitygw")
	s.start(func(address string) *exec.Cmd {
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), Tool(t, "versitygw"), "--quiet", "--port", address, "--region", s.Region, "--access", s.AccessKey, "--secret", s.SecretKey, "--health", "/health", "posix", s.Folder)
		cmd.Env = minimal()
		return cmd
	}, "/health")
	return s
}

// minimal is an environment that nothing of ours leaks into a server by.
func minimal() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir(), "TMPDIR=" + os.TempDir()}
}

func newServer(t testing.TB, name string) *Server {
	Tool(t, name) // skips before anything is made
	return &Server{Name: name, AccessKey: "test" + rand.Text()[:12], SecretKey: rand.Text(), Region: "us-east-1", Folder: t.TempDir(), t: t}
}

// start starts the command on a free port and waits until it answers. A port that was free a moment ago may be taken: then once more.
func (s *Server) start(command func(address string) *exec.Cmd, health string) {
	s.t.Helper()
	for attempt := 1; ; attempt++ {
		address := freeAddress(s.t)
		output, err := s.run(command(address), "http://"+address+health)
		if err == nil {
			s.Endpoint = "http://" + address
			break
		}
		if attempt == 3 {
			s.t.Fatalf("start %s: %v\n%s", s.Name, err, output)
		}
	}
	core, err := minio.NewCore(strings.TrimPrefix(s.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: s.Region, BucketLookup: minio.BucketLookupPath,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.client = core
}

// freeAddress is one that nobody listens on. No system gives its port to somebody who asks for any: one of those may be taken a moment later.
func freeAddress(t testing.TB) string {
	for {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+mathrand.IntN(10000)))
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		if err == nil {
			_ = l.Close()
			return address
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}

func (s *Server) run(cmd *exec.Cmd, health string) (*lockedBuffer, error) {
	output := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr, cmd.Dir = output, output, s.Folder
	endWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return output, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed in the end
		close(ended)
	}()
	stop := func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	}
	if err := answers(health, ended); err != nil {
		stop()
		return output, err
	}
	s.t.Cleanup(stop)
	return output, nil
}

// answers asks until the server says that it is ready.
func answers(health string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, health, nil)
		if err != nil {
			return err
		}
		if response, err := client.Do(request); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ended:
			return fmt.Errorf("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("it did not answer within %s", patience)
		}
	}
}

// NewBucket makes an empty bucket and returns its name.
func (s *Server) NewBucket(t testing.TB) string {
	t.Helper()
	name := "t-" + strings.ToLower(rand.Text())
	if err := s.client.MakeBucket(t.Context(), name, minio.MakeBucketOptions{Region: s.Region}); err != nil {
		t.Fatalf("make a bucket in %s: %v", s.Name, err)
	}
	return name
}

// URL is the URL of a bucket, or of a prefix in one (bucket/prefix), under a scheme: s3 or aws.
func (s *Server) URL(t testing.TB, scheme, name string) *url.URL {
	t.Helper()
	u, err := url.Parse(fmt.Sprintf("%s://%s?endpoint=%s&path_style=true&region=%s", scheme, name, url.QueryEscape(s.Endpoint), s.Region))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// Uploads lists the keys of unfinished uploads in a bucket.
func (s *Server) Uploads(t testing.TB, name string) []string {
	t.Helper()
	// MinIO lists unfinished uploads only by their whole key: those of a bucket are found in its own files.
	if s.Name == "minio" {
		return s.uploadFolders(t)
	}
	result, err := s.client.ListMultipartUploads(t.Context(), name, "", "", "", "", 1000)
	if err != nil {
		t.Fatalf("list uploads in %s: %v", s.Name, err)
	}
	var keys []string
	for _, u := range result.Uploads {
		keys = append(keys, u.Key)
	}
	return keys
}

// uploadFolders are the unfinished uploads of a whole MinIO server, by folder: <sha256 of bucket and key>/<upload>.
func (s *Server) uploadFolders(t testing.TB) []string {
	base := s.Folder + "/.minio.sys/multipart"
	var found []string
	uploads, err := os.ReadDir(base)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, key := range uploads {
		ids, err := os.ReadDir(base + "/" + key.Name())
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, id := range ids {
			found = append(found, key.Name()+"/"+id.Name())
		}
	}
	return found
}

// lockedBuffer takes what a server says while others may look.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// removeUpload removes an unfinished upload that Uploads named.
func (s *Server) removeUpload(t testing.TB, name, upload string) {
	t.Helper()
	if s.Name == "minio" {
		if err := os.RemoveAll(s.Folder + "/.minio.sys/multipart/" + upload); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := s.client.RemoveIncompleteUpload(t.Context(), name, upload); err != nil {
		t.Fatal(err)
	}
}
