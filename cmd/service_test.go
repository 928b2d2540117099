package cmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tablekeeper/storage/needtest"
)

// service is the real program, serving on one address, which it keeps when it is stopped and started again.
type service struct {
	t       *testing.T
	home    string // its working folder
	flags   []string
	program string
	listen  string
	base    string // http://127.0.0.1:PORT
	token   string // of the first operator

	log *serviceLog

	cmd   *exec.Cmd // nil: it does not run
	ended chan error
}

var tokenPattern = regexp.MustCompile(`tk_[A-Za-z0-9_-]{20,}`)

// listening is in the line of the log that says where the dashboard is.
const listening = `"msg":"dashboard"`

// startService runs serve in a folder until the test ends.
func startService(t *testing.T, home string, flags ...string) *service {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, program)
	}
	port, err := needtest.Port() // it stays free while the service is down
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, home: home, flags: flags, program: program, listen: fmt.Sprintf("127.0.0.1:%d", port), log: &serviceLog{}}
	s.base = "http://" + s.listen
	if err := s.start(); err != nil {
		t.Fatalf("%v\n%s", err, s.log)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the service's log:\n%s", s.log)
		}
	})
	return s
}

// start returns when the service listens.
func (s *service) start() error {
	cmd := exec.CommandContext(context.WithoutCancel(s.t.Context()), s.program, append(slices.Clone(s.flags), "--log-format", "json", "serve")...)
	cmd.Dir = s.home
	cmd.Env = append(os.Environ(), "TABLEKEEPER_LISTEN="+s.listen)
	read, write := io.Pipe()
	cmd.Stdout, cmd.Stderr = write, write // one pipe: the link comes before the line that says where the dashboard is
	if err := cmd.Start(); err != nil {
		return err
	}
	ready, ended := make(chan bool, 1), make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(read)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			s.log.add(lines.Text())
			if strings.Contains(lines.Text(), listening) {
				ready <- true
			}
		}
		_, _ = io.Copy(io.Discard, read) // after a line that is too long
	}()
	go func() {
		ended <- errors.Join(cmd.Wait(), write.Close())
	}()
	select {
	case <-ready:
	case err := <-ended:
		return fmt.Errorf("serve ended: %w", err)
	}
	s.cmd, s.ended = cmd, ended
	if s.token == "" {
		s.token = tokenPattern.FindString(s.log.String())
	}
	return nil
}

// settle waits until a first start has caught up on its jobs, and has proved its first backups: until then whoever asks for the same is refused.
func (s *service) settle() {
	s.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		var jobs struct {
			Jobs []struct{ Last, State string }
		}
		apiClient{s.t, s}.must(http.MethodGet, "/api/admin/jobs", "", time.Minute, &jobs)
		caughtUp := len(jobs.Jobs) > 0
		for _, j := range jobs.Jobs {
			caughtUp = caughtUp && j.Last != "" && j.State == "scheduled"
		}
		var fleet struct{ Active []any } // what follows from a run has begun before it ends
		apiClient{s.t, s}.must(http.MethodGet, "/api/admin/fleet", "", time.Minute, &fleet)
		if caughtUp && len(fleet.Active) == 0 {
			return
		}
	}
}

// stop ends the service as a service manager does.
func (s *service) stop() error {
	if s.cmd == nil {
		return nil
	}
	err := s.cmd.Process.Signal(os.Interrupt)
	ended := <-s.ended
	if s.cmd.ProcessState.ExitCode() == 130 {
		ended = nil
	}
	s.cmd = nil
	return errors.Join(err, ended)
}

// serviceLog is what a service printed.
type serviceLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *serviceLog) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.WriteString(line + "\n")
}

func (l *serviceLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
