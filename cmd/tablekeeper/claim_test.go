package main

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hold claims a state folder and answers on its socket.
func hold(t *testing.T, dir string, status int) *claim {
	t.Helper()
	c, err := takeState(t.Context(), dir, "file:///b", time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(c.Listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestClaim(t *testing.T) {
	for name, dir := range map[string]string{
		"short path": "state",
		"long path":  strings.Repeat("a-very-long-name-of-a-folder/", 8),
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), dir)
			if s, err := findService(t.Context(), dir); s != nil || err != nil {
				t.Fatalf("before: %v, %v", s, err)
			}
			hold(t, dir, http.StatusOK)
			s, err := findService(t.Context(), dir)
			if err != nil || s == nil || s.PID != os.Getpid() || s.Bucket != "file:///b" {
				t.Fatalf("found %+v, %v", s, err)
			}
			info, err := os.Stat(s.Socket)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("socket: %v, %v", info, err)
			}
			_, err = takeState(t.Context(), dir, "", time.Unix(0, 0))
			if code, _ := explain(err); code != exitLocked {
				t.Errorf("second claim: %v", err)
			}
		})
	}
}

func TestClaimIsLetGo(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		c, err := takeState(t.Context(), dir, "", time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := findService(t.Context(), dir); s != nil || err != nil {
		t.Errorf("after: %v, %v", s, err)
	}
}

func TestServiceThatDied(t *testing.T) {
	dir := t.TempDir()
	// What a killed process leaves: its note and its socket, but no lock.
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(claimNote, `{"pid":1,"socket":"`+filepath.Join(dir, claimSock)+`"}`)
	write(claimSock, "")
	if s, err := findService(t.Context(), dir); s != nil || err != nil {
		t.Errorf("found %v, %v", s, err)
	}
	hold(t, dir, http.StatusOK)
}

func TestServiceThatIsUnwell(t *testing.T) {
	dir := t.TempDir()
	hold(t, dir, http.StatusServiceUnavailable)
	_, err := findService(t.Context(), dir)
	var f *failure
	if !errors.As(err, &f) || f.code != exitTemporary || f.hint == "" {
		t.Errorf("error is %v", err)
	}
}

func TestNoteThatIsNoJSON(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, claimNote), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := findService(t.Context(), dir); err == nil {
		t.Error("no error")
	}
}

// Commands look for a service while it starts. They hold the lock for that moment, and are not taken for another service.
func TestClaimWhileOthersLook(t *testing.T) {
	dir := t.TempDir()
	stop, looked := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			select {
			case <-stop:
				looked <- nil
				return
			default:
				_, err = lockHeld(dir)
			}
		}
		looked <- err
	}()
	for range 20 {
		c, err := takeState(t.Context(), dir, "", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-looked; err != nil {
		t.Error(err)
	}
}
